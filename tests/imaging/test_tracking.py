"""Tracking with known orientations: curved fibres in boxes of every size, limited by tissues."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.track.orientation_field import amplitudes, grid_values, peak_amplitudes, polynomials
from connectome_tl.imaging.track.reconstruction import Orientations, harmonics
from connectome_tl.imaging.track.streamlines import read_streamlines
from connectome_tl.imaging.track.tractography import track
from connectome_tl.settings.imaging import TrackingSettings

VOXEL = 1.5
CORNER = 6.0  # mm, centre of the circles
TUBE = 4.0


def quarter_circle(side: int, radius: float, *, first: int = 0) -> Orientations:
    """Fibres along a quarter circle in a box of `side` voxels; `first` is the index of its lowest voxel."""
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = first * VOXEL
    x, y, z = np.meshgrid(*(np.arange(first, first + side) * VOXEL,) * 3, indexing="ij", sparse=True)
    around = np.hypot(x - CORNER, y - CORNER)
    tube = (np.hypot(around - radius, z - 30) < TUBE) & (x >= CORNER) & (y >= CORNER)
    at = affine[:3, 3] + np.argwhere(tube) * VOXEL
    tangent = np.stack([CORNER - at[:, 1], at[:, 0] - CORNER, np.zeros(len(at))], axis=1)
    coefficients = np.zeros((side,) * 3 + (45,), dtype=np.float32)
    coefficients[tube] = 0.9 * harmonics(tangent / np.linalg.norm(tangent, axis=1, keepdims=True), 8)
    return Orientations(coefficients, None, tube, affine)


def share_end_to_end(streamlines: list[np.ndarray], radius: float) -> float:
    ends = np.array([(line[0], line[-1]) for line in streamlines])
    angle = np.arctan2(ends[:, :, 1] - CORNER, ends[:, :, 0] - CORNER)
    near = TUBE / radius
    return float(((angle.min(axis=1) < near) & (angle.max(axis=1) > np.pi / 2 - near)).mean())


@pytest.mark.parametrize("algorithm", ["probabilistic", "deterministic"])
def test_the_size_of_the_box_changes_no_streamline(algorithm: str) -> None:
    settings = TrackingSettings.model_validate({"algorithm": algorithm, "n_streamlines": 200})
    small, large = quarter_circle(40, 30.0), quarter_circle(76, 30.0, first=-10)
    first = track(small, small.mask, settings).streamlines
    second = track(large, large.mask, settings).streamlines
    assert large.mask.size > 259_000 > small.mask.size
    assert len(first) == len(second) == 200
    assert max(np.abs(a - b).max() for a, b in zip(first, second, strict=True) if len(a) == len(b)) < 0.05
    assert np.mean([len(a) == len(b) for a, b in zip(first, second, strict=True)]) > 0.95


def test_a_mask_larger_than_the_fibres_changes_no_streamline_much() -> None:
    orientations = quarter_circle(66, 40.0)
    settings = TrackingSettings(n_streamlines=400, algorithm="deterministic")
    whole = track(orientations, np.ones_like(orientations.mask), settings).streamlines
    assert share_end_to_end(whole, 40.0) > 0.8


@pytest.mark.slow
@pytest.mark.mrtrix
@pytest.mark.parametrize(("ours", "theirs"), [("probabilistic", "iFOD2"), ("deterministic", "SD_STREAM")])
@pytest.mark.parametrize("radius", [20.0, 45.0])
def test_as_many_streamlines_follow_a_curve_as_mrtrixs(radius: float, ours: str, theirs: str, tmp_path: Path) -> None:
    if shutil.which("tckgen") is None:
        pytest.skip("MRtrix3 is not installed")
    orientations = quarter_circle(66, radius)
    settings = TrackingSettings.model_validate({"algorithm": ours, "n_streamlines": 1000})
    found = share_end_to_end(track(orientations, orientations.mask, settings).streamlines, radius)
    fod = write_volume(tmp_path / "fod.nii", orientations.coefficients, orientations.affine)
    mask = write_volume(tmp_path / "mask.nii", orientations.mask, orientations.affine)
    command = ["tckgen", "-quiet", "-nthreads", "0", "-algorithm", theirs, "-seed_image", mask, "-mask", mask]
    command += ["-step", VOXEL / 2, "-angle", settings.max_angle_deg, "-cutoff", settings.fod_cutoff]
    command += ["-minlength", 10, "-maxlength", 150, "-select", 1000, "-seeds", 0, fod, tmp_path / "t.tck"]
    subprocess.run([str(word) for word in command], check=True)
    read = read_streamlines(tmp_path / "t.tck")
    lines = [read.points[a : a + n] for a, n in zip(read.first, read.n_points, strict=True)]
    assert found == pytest.approx(share_end_to_end(lines, radius), abs=0.05)


def test_more_streamlines_begin_with_the_fewer() -> None:
    orientations = quarter_circle(40, 30.0)
    few, many = (
        track(orientations, orientations.mask, TrackingSettings(n_streamlines=n)).streamlines for n in (100, 900)
    )
    assert all(np.array_equal(a, b) for a, b in zip(few, many[:100], strict=True))


@pytest.mark.slow
def test_with_tissues_both_ends_lie_in_grey_matter() -> None:
    along = np.arange(30)[:, None, None]
    coefficients = np.zeros((30, 30, 30, 45), dtype=np.float32)
    coefficients[5:25, 12:18, 12:18] = 0.9 * harmonics(np.array([[1.0, 0, 0]]), 8)[0]
    mask = np.ones((30, 30, 30), dtype=bool)
    orientations = Orientations(coefficients, None, mask, np.eye(4))
    low, high = (np.broadcast_to(part, mask.shape).astype(float) for part in (along < 8, along >= 22))
    settings = TrackingSettings(n_streamlines=100, max_seeds_per_streamline=100)
    both = track(orientations, mask, settings, tissues=(1 - low - high, low + high, 0 * low)).streamlines
    ends = np.array([sorted((line[0][0], line[-1][0])) for line in both])
    assert (ends[:, 0] < 8).all()
    assert (ends[:, 1] > 21).all()
    for tissues in ((1 - low - high, high, low), (1 - high, high, 0 * low)):  # fluid at one end; nothing at one end
        with pytest.raises(Exception, match="no streamline was found"):
            track(orientations, mask, settings, tissues=tissues)


@pytest.mark.parametrize("order", [2, 8, 10])
def test_polynomials_are_the_harmonics(order: int) -> None:
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=(7, (order + 1) * (order + 2) // 2)).astype(np.float32)
    directions = rng.normal(size=(7, 50, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    expected = np.stack([harmonics(d, order) @ c for d, c in zip(directions, coefficients, strict=True)])
    found = amplitudes(polynomials(coefficients), directions)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert (peak_amplitudes(coefficients) >= 0.8 * expected.max(axis=1)).all()


def test_grid_values_are_trilinear_and_zero_outside() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(6, 7, 8, 2)).astype(np.float32)
    mask = rng.random((6, 7, 8)) < 0.7
    affine = np.array([[-2.0, 0.3, 0, 5], [0.1, 1.5, 0, -3], [0, 0.2, 3, 2], [0, 0, 0, 1]])
    empty = ~mask & (rng.random(mask.shape) < 0.5)
    grid = grid_values(image[mask], mask, affine, empty=empty)
    voxels = rng.uniform(-3, 10, (200, 3))
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    padded = np.pad(image * mask[..., None], [(3, 5)] * 3 + [(0, 0)])
    expected = np.stack([map_coordinates(padded[..., c], voxels.T + 3, order=1) for c in range(2)], axis=1)
    np.testing.assert_allclose(grid.at(points), expected, atol=1e-5)
    nearest = np.rint(voxels).astype(int)
    within = ((nearest >= 0) & (nearest < mask.shape)).all(axis=1)
    expected_inside = within & (mask | empty)[tuple(np.clip(nearest, 0, np.array(mask.shape) - 1).T)]
    np.testing.assert_array_equal(grid.inside(points), expected_inside)
