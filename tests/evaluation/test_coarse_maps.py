"""Cells of volumes: their place, region, mean and stability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.evaluation.explain.cells import cells_in
from connectome_tl.evaluation.images.coarse_maps import TOP, coarse_table
from connectome_tl.evaluation.intervals.wilson import wilson_interval
from connectome_tl.features.volumes import coarse_blocks
from connectome_tl.imaging.read.images import write_volume

HEAD = np.zeros((12, 12, 12), dtype=bool)
HEAD[1:11, 1:11, 1:11] = True


def test_cells_have_the_mean_of_their_voxels_their_place_and_their_stability() -> None:
    rng = np.random.default_rng(0)
    folds = [rng.random((12, 12, 12)) for _ in range(3)]
    folds[0][3:6, 3:6, 3:6] = folds[1][3:6, 3:6, 3:6] = 9.0
    folds[2][3:6, 3:6, 3:6] = 0.0
    cells = cells_in(HEAD, np.diag([2.0, 3.0, 4.0, 1.0])[None], "")
    table = coarse_table(folds, cells)
    assert len(table) == 4**3
    one = table.iloc[int(table["value"].argmax())]
    assert one[["x", "y", "z"]].tolist() == [8.0, 12.0, 16.0]
    assert one["cell"] == "(8, 12, 16) centre"
    assert one["value"] == pytest.approx(6.0)
    assert one["stability"] == pytest.approx(2 / 3)
    assert 0 < one["stability_low"] < one["stability"] < one["stability_high"] < 1
    assert table["stability"].sum() == pytest.approx(TOP)
    corner = table.iloc[0]
    assert corner["cell"].endswith("left posterior inferior")
    assert set(table["region"]) == {""}


@pytest.mark.parametrize("shape", [(12, 12, 12), (48, 40, 5), (7, 13, 30)])
def test_cells_of_the_coarse_grid_and_of_the_voxels_are_the_same(shape: tuple[int, int, int]) -> None:
    cells = cells_in(np.ones(shape, dtype=bool), np.eye(4)[None], "")
    blocks, n_blocks = coarse_blocks(shape)
    assert (cells.blocks[blocks] == cells.voxels).all()
    assert len(cells.blocks) == np.prod(n_blocks)
    values = np.random.default_rng(1).random((2, 1, *shape))
    np.testing.assert_allclose(cells.sums(values).sum(axis=1), values.sum(axis=(1, 2, 3, 4)))
    np.testing.assert_allclose(cells.means(np.ones((2, len(cells.blocks)))), 1.0)


def test_regions_are_those_of_an_atlas_in_the_space_of_the_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTOME_TL_ATLASES", str(tmp_path))
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "none"))
    atlas = load_atlas("aal90")
    names = {region.name for region in atlas.regions}
    head = np.ones((24, 24, 24), dtype=bool)
    affine = np.diag([8.0, 10.0, 9.0, 1.0])
    affine[:3, 3] = -96.0, -130.0, -90.0
    both = np.stack([affine, affine])
    nearest = cells_in(head, both, "aal90")
    assert set(nearest.regions) <= names
    at = nearest.names.index(next(name for name in nearest.names if name.endswith("left anterior")))
    region = next(one for one in atlas.regions if one.name == nearest.regions[at])
    assert region.hemisphere == "L"
    assert set(cells_in(head, both[:1], "aal90").regions) == {""}  # one volume: no common space
    moved = both.copy()
    moved[:, 0, 3] += 500.0
    assert set(cells_in(head, moved, "aal90").regions) == {""}  # the atlas is elsewhere

    labels = np.zeros((24, 24, 24), dtype=np.int32)
    labels[:6] = atlas.regions[3].index
    write_volume(tmp_path / "aal90" / "labels.nii.gz", labels, affine)
    found = cells_in(head, both, "aal90")
    assert set(found.regions) == {"", atlas.regions[3].name}
    assert all((region == "") == (x > -96 + 6 * 8) for region, (x, _, _) in zip(found.regions, found.coordinates))


def test_intervals_of_shares_contain_them_and_shrink_with_the_number() -> None:
    share = np.array([0.0, 0.5, 1.0])
    (low, high), (lower, higher) = wilson_interval(share, 20), wilson_interval(share, 5)
    assert (low <= share).all()
    assert (share <= high).all()
    assert (higher - lower > high - low).all()
    np.testing.assert_allclose((low[1], high[1]), (0.2993, 0.7007), atol=1e-4)  # Wilson's, 10 of 20
    assert np.isnan(wilson_interval(share, 0)[0]).all()
