"""A rotated gradient table is reported, a correct one is not, and nothing is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.preprocess.gradient_check import AS_IT_STANDS, flip_warning, lengths_of_tables
from connectome_tl.imaging.read.dwi import Dwi, read_dwi
from connectome_tl.imaging.track.tensor import fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)


@pytest.fixture(scope="module")
def dwi() -> Dwi:
    head = make_head(make_anatomy(SMALL), seed=1)
    return Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)


def lengths(dwi: Dwi) -> dict[str, float]:
    return lengths_of_tables(dwi, tensor_maps(dwi, fit_tensor(dwi, tensor_volumes(dwi, max_b=1500))))


def turned(dwi: Dwi, change: np.ndarray) -> Dwi:
    """The table with its vectors changed along the image's axes."""
    axes = dwi.affine[:3, :3] / dwi.zooms
    return replace(dwi, directions=dwi.voxel_directions @ change.T @ axes.T)


def test_a_right_table_is_not_complained_of(dwi: Dwi) -> None:
    found = lengths(dwi)
    assert len(found) == 24
    assert max(found, key=lambda name: found[name]) == AS_IT_STANDS
    assert flip_warning(found) is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_is_named_by_its_axis(axis: int, dwi: Dwi) -> None:
    problem = flip_warning(lengths(turned(dwi, np.diag([-1.0 if i == axis else 1.0 for i in range(3)]))), subject="s")
    assert f"flipped along the image's axis {'xyz'[axis]}" in str(problem)


def test_a_swap_is_named_too(dwi: Dwi) -> None:
    assert "in the order yxz" in str(flip_warning(lengths(turned(dwi, np.eye(3)[[1, 0, 2]]))))


@pytest.mark.data
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flip_is_found_in_real_voxels(axis: int, shared_data: Path) -> None:
    stem = shared_data / "mrtrix_test_data" / "nii" / "msmt_dwi"
    real = read_dwi(*(f"{stem}.{ending}" for ending in ("nii.gz", "bval", "bvec")))
    assert flip_warning(lengths(real)) is None
    problem = flip_warning(lengths(turned(real, np.diag([-1.0 if i == axis else 1.0 for i in range(3)]))))
    assert f"axis {'xyz'[axis]}" in str(problem)
