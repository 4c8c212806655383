"""A rotated gradient table is reported, and refused where that is certain; a correct one is neither."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.preprocess.gradient_check import AS_IT_STANDS, lengths_of_tables, table_problem
from connectome_tl.imaging.read.dwi import Dwi, fsl_to_world, read_dwi
from connectome_tl.imaging.track.tensor import fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head, random_poses

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)


def scanned(settings: PhantomSettings, *, poses: np.ndarray | None = None) -> Dwi:
    head = make_head(make_anatomy(settings), seed=1, poses=poses)
    return Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask, "sub-1")


@pytest.fixture(scope="module")
def dwi() -> Dwi:
    return scanned(SMALL)


def lengths(dwi: Dwi) -> dict[str, float]:
    return lengths_of_tables(dwi, tensor_maps(dwi, fit_tensor(dwi, tensor_volumes(dwi, max_b=1500))))


def judged(dwi: Dwi) -> tuple[str, bool]:
    """What is wrong with the table, and whether that is certain."""
    found = table_problem(lengths(dwi), dwi)
    return ("", False) if found is None else (str(found[0]), found[1])


def turned(dwi: Dwi, change: np.ndarray) -> Dwi:
    """The table with its vectors changed along the image's axes."""
    axes = dwi.affine[:3, :3] / dwi.zooms
    return replace(dwi, directions=dwi.voxel_directions @ change.T @ axes.T)


def flipped(dwi: Dwi, axis: int) -> Dwi:
    return turned(dwi, np.diag([-1.0 if i == axis else 1.0 for i in range(3)]))


def test_a_right_table_is_not_complained_of(dwi: Dwi) -> None:
    found = lengths(dwi)
    assert len(found) == 24
    assert max(found, key=lambda name: found[name]) == AS_IT_STANDS
    assert table_problem(found, dwi) is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_is_named_by_its_axis(axis: int, dwi: Dwi) -> None:
    said, _ = judged(flipped(dwi, axis))
    assert said.startswith("subject sub-1: ")
    assert f"flipped along the image's axis {'xyz'[axis]}" in said


def test_a_swap_is_named_too(dwi: Dwi) -> None:
    said, sure = judged(turned(dwi, np.eye(3)[[1, 0, 2]]))
    assert sure
    assert "in the order yxz" in said


@pytest.mark.parametrize("seed", [0, 5])
def test_a_table_is_certainly_wrong_if_the_headers_of_images_mirror_them(seed: int) -> None:
    dwi = scanned(replace(SMALL, seed=seed))
    vectors = dwi.voxel_directions * [-1 if np.linalg.det(dwi.affine[:3, :3]) > 0 else 1, 1, 1]  # FSL's convention
    for mirror in (np.diag([-1.0, 1, 1, 1]), np.diag([1.0, -1, 1, 1])):  # the first axis is flipped in both cases
        affine = mirror @ dwi.affine
        said, sure = judged(replace(dwi, affine=affine, directions=fsl_to_world(vectors, affine)))
        assert sure
        assert "flipped along the image's axis x" in said
        assert "headers mirror or turn all images" in said
        assert "wrong_table: warn" in said


@pytest.mark.parametrize(("size", "directions"), [(3.0, 24), (5.0, 6)])
def test_motion_makes_no_table_certainly_wrong(size: float, directions: int) -> None:
    for seed in (1, 2):
        shells = ((0.0, 4), (1000.0, directions))
        poses = random_poses(4 + directions, size, seed=seed)
        assert not judged(scanned(replace(SMALL, shells=shells, seed=seed), poses=poses))[1]


def test_slabs_make_no_table_certainly_wrong(dwi: Dwi) -> None:
    for axis in range(3):
        middle = dwi.mask.shape[axis] // 2
        cut = tuple(slice(middle, middle + 3) if k == axis else slice(None) for k in range(3))
        assert not judged(replace(dwi, data=dwi.data[cut], mask=dwi.mask[cut]))[1]


@pytest.mark.data
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_is_found_in_real_voxels(axis: int, shared_data: Path) -> None:
    stem = shared_data / "mrtrix_test_data" / "nii" / "msmt_dwi"
    real = read_dwi(*(f"{stem}.{ending}" for ending in ("nii.gz", "bval", "bvec")))
    assert judged(real) == ("", False)
    assert f"axis {'xyz'[axis]}" in judged(flipped(real, axis))[0]
