"""Fitted weights are the cross-sections of bundles, for any number of streamlines in each."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from dipy.data import get_sphere

from connectome_tl.errors import DataError
from connectome_tl.imaging.track.fibre_density import _lengths, fixels_of, streamline_weights
from connectome_tl.imaging.track.mrtrix import weight_name
from connectome_tl.imaging.track.reconstruction import Orientations, harmonics
from connectome_tl.settings.imaging import ConnectomesSettings

VOXEL = 2.0
AXES = np.array([[1.0, 0, 0], [0, 1.0, 0]])
# Voxels across of a bundle along x and one along y, which cross.
ACROSS = ((slice(None), slice(10, 14), slice(10, 14)), (slice(16, 22), slice(None), slice(10, 12)))


@pytest.fixture(scope="module")
def crossing() -> tuple[Orientations, list[np.ndarray], np.ndarray]:
    """Two bundles of 16 and 12 voxels' cross-section; 300 and 60 streamlines, and the bundle of each."""
    coefficients = np.zeros((30, 30, 24, 45), dtype=np.float32)
    sphere = get_sphere(name="repulsion724").vertices
    lobes = (sphere @ AXES.T) ** 8 * 9 / (4 * np.pi)  # of integral 1, and of order 8 exactly
    unit = np.linalg.lstsq(harmonics(sphere, 8), lobes, rcond=None)[0].T
    for where, part in zip(ACROSS, unit, strict=True):
        coefficients[where] += part.astype(np.float32)
    affine = np.diag([-VOXEL, VOXEL, VOXEL, 1.0])
    affine[:3, 3] = (7, -8, 9)
    rng = np.random.default_rng(0)
    lines = []
    for bundle, n in ((0, 300), (1, 60)):
        across = [(0, 0) if part == slice(None) else (part.start - 0.5, part.stop - 0.5) for part in ACROSS[bundle]]
        for _ in range(n):
            points = np.tile([rng.uniform(*limits) for limits in across], (60, 1))
            points[:, bundle] = np.linspace(-0.4, 29.4, 60)
            lines.append((points @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32))
    mask = np.ones(coefficients.shape[:3], dtype=bool)
    return Orientations(coefficients, None, mask, affine), lines, np.repeat([0, 1], [300, 60])


def test_the_integral_of_each_lobe_is_its_volume(crossing: tuple[Orientations, list[np.ndarray], np.ndarray]) -> None:
    orientations, _, _ = crossing
    fixels = fixels_of(orientations, orientations.mask, 0.2)
    for voxel, n in (((3, 12, 12), 1), ((18, 3, 10), 1), ((18, 12, 11), 2), ((3, 3, 3), 0)):
        row = fixels.rows[voxel]
        there = fixels.volumes[row] > 0
        assert there.sum() == n
        assert fixels.volumes[row][there] == pytest.approx(VOXEL**3, rel=0.01)
        assert np.abs(fixels.axes[row][there] @ AXES.T).max(axis=1) == pytest.approx(1, abs=0.01) if n else True


@pytest.mark.slow  # memory: coverage allocates too
def test_memory_does_not_grow_with_the_steps_of_all_streamlines(
    crossing: tuple[Orientations, list[np.ndarray], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    orientations, lines, _ = crossing
    fixels = fixels_of(orientations, orientations.mask, 0.2)
    whole = _lengths(lines, fixels, orientations.affine)
    monkeypatch.setattr("connectome_tl.imaging.track.fibre_density._AT_ONCE", 7)
    tracemalloc.start()
    try:
        parts = _lengths(lines, fixels, orientations.affine)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (whole != parts).nnz == 0
    assert _lengths([], fixels, orientations.affine).shape == (0, whole.shape[1])
    assert peak < 100 * sum(map(len, lines))  # bytes per point; all at once take twice as many


def test_weights_add_up_to_cross_sections(crossing: tuple[Orientations, list[np.ndarray], np.ndarray]) -> None:
    orientations, lines, bundle = crossing
    weights = streamline_weights(lines, orientations, orientations.mask, 0.2)
    assert weights.min() >= 0
    found = np.bincount(bundle, weights)
    assert found == pytest.approx(np.array([16, 12]) * VOXEL**2, rel=0.05)
    again = streamline_weights(lines, orientations, orientations.mask, 0.2)
    np.testing.assert_array_equal(again, weights)
    twice = streamline_weights([*lines, *lines], orientations, orientations.mask, 0.2)
    np.testing.assert_allclose(twice[: len(lines)] * 2, weights, rtol=0.05, atol=0.02)


def test_streamlines_that_are_not_used_weigh_nothing_and_take_nothing(
    crossing: tuple[Orientations, list[np.ndarray], np.ndarray],
) -> None:
    orientations, lines, _ = crossing
    short = [line[:20] for line in lines]
    used = np.repeat([True, False], len(lines))
    weights = streamline_weights([*lines, *short], orientations, orientations.mask, 0.2, used=used)
    alone = streamline_weights(lines, orientations, orientations.mask, 0.2)
    np.testing.assert_array_equal(weights, np.concatenate([alone, np.zeros(len(short))]))
    with pytest.raises(DataError, match="no streamline that connects two regions"):
        streamline_weights(lines, orientations, orientations.mask, 0.2, used=np.zeros(len(lines), dtype=bool))


def test_a_count_is_not_called_a_fibre_density() -> None:
    assert weight_name(ConnectomesSettings()) == "streamlines, not fibre density"
    fitted = ConnectomesSettings.model_validate({"tracking": {"weights": "fibre_density"}})
    assert "mm2" in weight_name(fitted)
    with pytest.raises(ValueError, match="SIFT2"):
        ConnectomesSettings.model_validate({"engine": "mrtrix3", "tracking": {"weights": "fibre_density"}})
