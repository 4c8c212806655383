"""A label image of another atlas, numbering or side is recognised by the locations of its regions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.atlas import Atlas, atlas_names, load_atlas
from connectome_tl.connectome.centroids import centroids, check_places, fit_places
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, read_labels

PLACED = [name for name in atlas_names() if load_atlas(name).has_centroids]


def points(atlas: Atlas, places: np.ndarray, numbers: list[int] | None = None) -> Volume:
    """One voxel of 1 mm at each place."""
    low = np.floor(places.min(axis=0)) - 2
    voxels = np.round(places - low).astype(int)
    data = np.zeros(voxels.max(axis=0) + 3, dtype=np.int32)
    data[tuple(voxels.T)] = [region.index for region in atlas.regions] if numbers is None else numbers
    affine = np.eye(4)
    affine[:3, 3] = low
    return Volume(data, affine, file="l.nii")


def head(seed: int) -> np.ndarray:
    """A rotated, smaller, sheared head."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    return turn @ (np.eye(3) + rng.normal(0, 0.05, (3, 3))) * rng.uniform(0.55, 1.2)


@pytest.mark.parametrize("name", PLACED)
def test_the_right_atlas_fits_in_any_space(name: str) -> None:
    atlas = load_atlas(name)
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(0, 1.5, atlas.coordinates.shape)
        fit = check_places(points(atlas, (atlas.coordinates + noise) @ head(seed).T + 40), atlas)
        assert fit is not None
        assert fit.misplaced == 0


@pytest.mark.parametrize("name", PLACED)
@pytest.mark.parametrize("shift", [1, 2, -1, 4])
def test_a_numbering_that_is_shifted_or_shuffled_is_refused(name: str, shift: int) -> None:
    atlas = load_atlas(name)
    numbers = sorted(region.index for region in atlas.regions)
    place = {region.index: i for i, region in enumerate(atlas.regions)}
    moved = np.array([atlas.coordinates[place[numbers[(k + shift) % len(numbers)]]] for k in range(len(numbers))])
    with pytest.raises(DataError, match="regions have other positions"):
        check_places(points(atlas, moved @ head(0).T, numbers), atlas)
    shuffled = np.random.default_rng(shift + 1).permutation(atlas.coordinates)
    with pytest.raises(DataError, match=rf"l\.nii: the image is not one of {name}"):
        check_places(points(atlas, shuffled), atlas)
    assert check_places(points(atlas, shuffled), atlas, max_misplaced=1) is None


@pytest.mark.parametrize("name", PLACED)
def test_exchanged_sides_are_refused(name: str) -> None:
    atlas = load_atlas(name)
    with pytest.raises(DataError, match="left and right are exchanged"):
        check_places(points(atlas, atlas.coordinates * (-1, 1, 1)), atlas)


def test_what_is_no_whole_brain_is_not_compared() -> None:
    atlas = load_atlas("dk68")
    rng = np.random.default_rng(0)
    small = rng.permutation(atlas.coordinates) / 6
    assert fit_places(points(atlas, small), atlas) is None
    shuffled = points(atlas, rng.permutation(atlas.coordinates))
    shuffled.data[shuffled.data > 1027] = 0
    assert fit_places(shuffled, atlas) is None
    without = replace(atlas, regions=tuple(replace(r, x=np.nan, y=np.nan, z=np.nan) for r in atlas.regions))
    assert fit_places(points(atlas, atlas.coordinates), without) is None


def test_centroids_are_those_of_every_voxel() -> None:
    rng = np.random.default_rng(1)
    data = rng.choice([0, 3, 7, 2035], size=(5, 6, 7)).astype(np.int32)
    affine = np.array([[0, 2.0, 0, -5], [1, 0, 0, 3], [0, 0.5, 3, 1], [0, 0, 0, 1]])
    found = centroids(Volume(data, affine))
    assert set(found) == {3, 7, 2035}
    for label, place in found.items():
        world = np.argwhere(data == label) @ affine[:3, :3].T + affine[:3, 3]
        np.testing.assert_allclose(place, world.mean(axis=0))


REAL = [
    ("unc_aal90", "neonatal_atlases/AAL_UNCneo_in_extdhcp40wk.nii.gz"),
    ("aal90", "neonatal_atlases/AAL_UNCneo_in_extdhcp40wk.nii.gz"),
    ("mcrib", "neonatal_atlases/mcrib/M-CRIB_hardseg_0.5.nii.gz"),
    ("dk82", "adult_atlases/atlas_desikan_killiany.nii.gz"),
    ("dk68", "neonatal_atlases/MCRIB_in_dHCPext.nii.gz"),
]


@pytest.mark.data
@pytest.mark.parametrize(("name", "file"), REAL)
def test_real_images_fit_across_ages(name: str, file: str, shared_data: Path) -> None:
    fit = check_places(read_labels(shared_data / file), load_atlas(name))
    assert fit is not None
    assert np.median(fit.distances) < 5


@pytest.mark.data
@pytest.mark.parametrize("name", ["aal116", "aal90", "unc_aal90"])
def test_the_second_release_of_aal_is_not_the_first(name: str, shared_data: Path) -> None:
    """AAL2 numbers its 120 regions 1..120; 1..116 are labels of aal116 too, of other regions."""
    image = read_labels(shared_data / "adult_atlases" / "atlas_aal.nii.gz")
    second = Volume(np.unique(image.data, return_inverse=True)[1].reshape(image.shape).astype(np.int32), image.affine)
    assert second.data.max() == 120
    with pytest.raises(DataError, match=f"not one of {name}"):
        check_places(second, load_atlas(name))
