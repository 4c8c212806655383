"""Locations of regions are comparable between atlases, and are part of the key of a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.cohort.coordinates import LOBES, PLACE_COLUMNS, region_places
from connectome_tl.simulation.cohorts import simulate_study

SIDE = PLACE_COLUMNS.index("side")


@pytest.mark.parametrize("name", ["aal90", "aal116", "unc_aal90", "dk68", "schaefer100"])
def test_places_are_of_one_scale_with_sides_and_lobes(name: str) -> None:
    atlas = load_atlas(name)
    places = region_places(name, atlas.names)
    assert places is not None
    assert places.shape == (atlas.n_regions, len(PLACE_COLUMNS))
    cortex = np.array([region.lobe not in ("Subcortical", "Cerebellum") for region in atlas.regions])
    np.testing.assert_allclose(places[cortex, :3].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(places[cortex, :3].std(axis=0), 1, rtol=1e-4)
    left = np.array([region.hemisphere == "L" for region in atlas.regions])
    assert (places[left, SIDE] == -1).all()
    assert places[left, 0].mean() < -0.5  # left is negative in RAS+
    lobes = places[:, SIDE + 1 :]
    assert (lobes.sum(axis=1) == 1).all()
    for region, row in zip(atlas.regions, lobes, strict=True):
        assert row[LOBES.index(region.lobe) if region.lobe in LOBES else len(LOBES)] == 1


def test_a_region_lies_nearly_alike_in_a_newborn_s_and_an_adult_s_atlas() -> None:
    adult = load_atlas("aal90").names
    one, two = region_places("aal90", adult), region_places("unc_aal90", adult)
    assert one is not None
    assert two is not None
    apart = np.linalg.norm(one[:, None, :3] - two[None, :, :3], axis=2)
    assert np.median(np.diag(apart)) < 0.35
    assert (apart.argmin(axis=1) == np.arange(90)).mean() > 0.6


def test_a_cerebellum_moves_no_region_of_the_cerebrum() -> None:
    names = load_atlas("aal90").names
    np.testing.assert_array_equal(region_places("aal116", names), region_places("aal90", names))


def test_places_follow_the_rows_and_are_unknown_where_the_atlas_is() -> None:
    names = load_atlas("aal90").names
    some = (names[7], names[2], names[30])
    found, whole = region_places("aal90", some), region_places("aal90", names)
    assert found is not None
    assert whole is not None
    np.testing.assert_array_equal(found, whole[[7, 2, 30]])
    assert region_places("aal90", ("nowhere",)) is None
    assert region_places("my labels", names) is None
    assert region_places("drawem87", load_atlas("drawem87").names) is None  # a table without centroids
    assert region_places("aal90", ()) is None


def test_rows_of_another_atlas_have_another_hash() -> None:
    pool = simulate_study(n_source=4, n_pool=4, n_target=4).pool
    adults = replace(pool, atlas="aal90")
    assert pool.places is not None
    assert pool.rows_hash(pool.ids) != adults.rows_hash(pool.ids)
    assert pool.rows_hash(pool.ids) != replace(pool, atlas="unknown").rows_hash(pool.ids)
