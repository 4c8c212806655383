"""Known motion is recovered, and the b-vectors rotate with the volumes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from connectome_tl.imaging.preprocess.alignment import Ground, aligned, noise_of, sigmas_of, slopes_of
from connectome_tl.imaging.preprocess.motion import estimate_motion, residual_mm, without_motion, working_bytes
from connectome_tl.imaging.preprocess.shrinkage import (
    FINE_WIDTHS,
    about_mean_pose,
    as_mm,
    as_poses,
    displacement,
    shrunk,
)
from connectome_tl.imaging.preprocess.walk import WIDTHS
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head, random_poses

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), region_radius=6.0)
FEW = ((0.0, 3), (400.0, 4), (1000.0, 8))  # shells of a short scan
HALF = replace(SMALL, shells=((0.0, 4), (400.0, 6), (1000.0, 16), (2600.0, 18)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [0.0, 2.0])
def test_known_motion_is_undone_to_less_than_half_a_voxel_and_vectors_turn_back(size: float) -> None:
    anatomy = make_anatomy(HALF)
    n_volumes = sum(count for _, count in HALF.shells)
    poses = random_poses(n_volumes, size, seed=1)
    head = make_head(anatomy, seed=1, poses=poses)
    dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, np.ones_like(head.mask))
    before = residual_mm(np.tile(np.eye(4), (n_volumes, 1, 1)), poses, head.mask, head.affine)
    found, motion = without_motion(dwi)
    after = residual_mm(motion.poses, poses, head.mask, head.affine)
    assert after.mean() < 0.5 * HALF.voxel
    planted = displacement(as_mm(poses, motion.centre), np.zeros((n_volumes, 6)))[1:].mean()
    # In this small head the highest b-value has almost no signal; benchmarks/scan_quality.py has heads of full size.
    assert motion.displacement[1:].mean() == pytest.approx(planted, rel=0.05, abs=0.1)
    if size:
        assert after.mean() < 0.5 * before.mean()
    true = np.einsum("vji,vj->vi", poses[:, :3, :3], head.directions)
    weighted = (head.bvals > 0) & (head.bvals < 2000)  # beyond, this small head is nearly all noise

    def off(directions: np.ndarray) -> float:
        cosine = np.abs((directions * true).sum(axis=1)[weighted])
        return float(np.degrees(np.arccos(np.clip(cosine, 0, 1))).mean())

    assert off(found.directions) < (0.75 * off(head.directions) if size else 1.0)  # degrees
    assert (found.data >= 0).all()


def test_the_number_of_threads_changes_no_byte() -> None:
    short = replace(SMALL, shells=FEW)
    poses = random_poses(sum(count for _, count in FEW), 2.0, seed=1)
    head = make_head(make_anatomy(short), seed=1, poses=poses)
    dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, np.ones_like(head.mask))
    one, two = (without_motion(dwi, n_threads=n)[0].data for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow  # memory: coverage allocates too
def test_memory_is_what_the_forecast_of_scans_says() -> None:
    short = replace(SMALL, shells=((0.0, 4), (1000.0, 26)))
    head = make_head(make_anatomy(short), seed=1)
    dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
    tracemalloc.start()
    try:
        estimate_motion(dwi)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 < peak / working_bytes(head.mask.size, dwi.n_volumes) < 1.1


def test_the_poses_are_told_in_mm_and_degrees_and_runs_are_not_joined() -> None:
    head = make_head(make_anatomy(replace(SMALL, shells=FEW)), seed=1)
    runs = np.repeat([0, 1], [9, len(head.bvals) - 9])
    dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask, runs=runs)
    _, motion = without_motion(dwi)
    table = motion.table()
    assert table.shape == (len(head.bvals), 6)
    assert np.median(np.abs(table)) < 1  # the head was at rest
    assert list(np.flatnonzero(np.isnan(motion.displacement))) == [0, 9]


@pytest.mark.parametrize("shift", [0.0, 1.2])  # mm; between voxels, interpolation removes most of the noise
def test_poses_scatter_about_as_much_as_is_said(shift: float) -> None:
    n, width, zoom, rng = 18, 3.0, 2.5, np.random.default_rng(0)
    affine = np.diag([zoom, zoom, zoom, 1.0])
    points = zoom * np.stack(np.indices((n, n, n)), axis=-1).reshape(-1, 3)
    centre = points.mean(axis=0)
    pose = np.eye(4)
    pose[:3, 3] = shift

    def head(places: np.ndarray) -> np.ndarray:
        off = (places - centre) / [13.0, 15.0, 11.0]
        values = 100 / (1 + np.exp(8 * (np.linalg.norm(off, axis=1) - 1)))
        return np.asarray(values * (1 + 0.3 * np.sin(off @ [3.0, 1.0, 2.0])))

    def smoothed(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values.reshape(n, n, n), sigmas_of(width, np.full(3, zoom)))

    near = np.linalg.norm(points - centre, axis=1) < 20
    ground = Ground(points, near, centre, (n, n, n), affine)
    slopes = slopes_of(smoothed(head(points)), ground)
    moved = head(points - shift)
    found, said = [], []
    for _ in range(60):
        image = smoothed(moved + rng.normal(0, 8.0, len(points)))
        found.append(aligned(slopes, image, pose, ground))
        said.append(np.diag(noise_of(slopes, image, found[-1], ground, width)))
    scatter = as_mm(np.stack(found), centre).var(axis=0)
    ratio = np.sqrt(np.mean(said, axis=0) / scatter)
    assert ((ratio > 0.8) & (ratio < 1.6)).all(), ratio  # never much too small; slopes are not quite smooth


def test_displacement_depends_little_on_the_volumes_that_define_the_frame() -> None:
    centre = np.array([4.0, -7.0, 2.0])
    runs = np.repeat([0, 1], 36)
    before, after = [], []
    for seed in range(20):
        poses = random_poses(72, 4.0, seed=seed)
        for first in (poses[:6], poses[30:]):
            frame = as_poses(as_mm(first, centre).mean(axis=0, keepdims=True), centre)[0]
            values = as_mm(poses @ np.linalg.inv(frame), centre)
            before.append(displacement(values, np.zeros((72, 6)))[1:].mean())
            after.append(displacement(about_mean_pose(values, centre), np.zeros((72, 6)))[1:].mean())
    apart = [np.abs(np.diff(np.reshape(found, (20, 2)), axis=1)).mean() for found in (before, after)]
    assert apart[1] < 0.15 * apart[0]
    # Another run, in which the head lies elsewhere, has no influence.
    elsewhere = as_poses(np.array([[20.0, 0, 5, 30, 10, 0]]), centre)[0]
    moved = np.where((runs == 1)[:, None, None], elsewhere @ poses, poses)
    one, two = (about_mean_pose(as_mm(p, centre), centre, runs)[:36] for p in (poses, moved))
    np.testing.assert_allclose(one, two, atol=1e-12)


@pytest.mark.parametrize("spread", [0.25, 0.5])  # mm
def test_displacement_is_more_accurate_with_many_widths_of_motion(spread: float) -> None:
    n, noise = 72, np.repeat([0.02, 0.1, 0.3], 24)  # mm
    covariance = noise[:, None, None] ** 2 * np.eye(6)
    off = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        true = rng.normal(0, spread, (n, 6))
        values = true + noise[:, None] * rng.normal(size=(n, 6))
        planted = displacement(true, np.zeros((n, 6)))[1:].mean()
        found = [shrunk(values, covariance, None, widths) for widths in (FINE_WIDTHS, WIDTHS)]
        off.append([displacement(*pair)[1:].mean() - planted for pair in found])
    fine, coarse = np.sqrt(np.mean(np.square(off), axis=0))
    assert fine < 0.85 * coarse
