"""Rigid motion between diffusion volumes: each is aligned with a prediction from the others.

A volume and the mean of its shell differ in contrast where there are fibres, which would bias the alignment. The target
is therefore a prediction from all other volumes (`process`), for which least squares is appropriate, and
Gauss-Newton converges in a few steps. For large motion, the initial pose is estimated from the unweighted mean in the
contrast of each volume. Estimates are shrunk according to their noise (`shrinkage`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.preprocess.alignment import (
    STEPS,
    Ground,
    aligned,
    ground_of,
    in_contrast_of,
    noise_of,
    points_of,
    seen,
    sigmas_of,
    slopes_of,
    stands_out,
    voxels_of,
)
from connectome_tl.imaging.preprocess.gaussian_process import (
    covariance,
    displaced_by,
    followed,
    noise_in,
    of_halves,
    predictions,
)
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

_SMOOTHING_MM = (5.0, 3.0, 3.0, 3.0, 3.0, 2.0)  # of each iteration; decreasing, since the first prediction is blurred
_LOST_MM = 2.5  # standard deviation of a pose that is not taken over before the last iteration
_WEAK_MM = 0.4  # standard deviation of poses from which on volumes are smoothed in the last iteration as before
_NEAR_FROM = 3  # iteration from which on changes are small enough to be solved for jointly
_EARLY_STEPS = 3  # of Gauss-Newton where targets are not final
_BLOCK = 4096  # voxels
_T = TypeVar("_T")
_SMALL_MM = 1.0  # smaller initial motions are ignored


@dataclass(frozen=True, eq=False)
class Motion:
    """Pose of the head in each volume.

    Attributes:
        poses: (n_volumes, 4, 4) mm of the common frame to mm of the volume.
        displacement: (n_volumes,) framewise displacement in mm, about the mean pose of each run; NaN for its first.
        centre: (3,) mm, reference point of the translations.
    """

    poses: np.ndarray
    displacement: np.ndarray
    centre: np.ndarray

    def table(self) -> np.ndarray:
        """Translations of the head's centre in mm and rotations in degrees, (n_volumes, 6)."""
        turns = Rotation.from_matrix(self.poses[:, :3, :3]).as_euler("xyz", degrees=True)
        shifts = self.poses[:, :3, :3] @ self.centre + self.poses[:, :3, 3] - self.centre
        return np.concatenate([shifts, turns], axis=1)


def without_motion(dwi: Dwi, *, n_threads: int = 1) -> tuple[Dwi, Motion]:
    """Align all volumes with a single cubic resampling, and rotate the b-vectors.

    Motion within a volume, and the resulting signal loss, are not corrected. The result does not depend on `n_threads`.
    """
    motion = estimate_motion(dwi, n_threads=n_threads)
    points = points_of(dwi)

    def still(volume: int) -> np.ndarray:
        coefficients = spline_filter(dwi.data[..., volume].astype(float), order=3)
        voxels = voxels_of(points, motion.poses[volume], dwi.affine)
        found = map_coordinates(coefficients, voxels, order=3, mode="nearest", prefilter=False)
        return np.maximum(found, 0).reshape(dwi.data.shape[:3]).astype(dwi.data.dtype)

    data = np.stack(_each(still, range(dwi.n_volumes), n_threads), axis=-1)
    directions = np.einsum("vji,vj->vi", motion.poses[:, :3, :3], dwi.directions)
    return replace(dwi, data=data, directions=directions), motion


def estimate_motion(dwi: Dwi, *, n_threads: int = 1) -> Motion:
    """Pose of every volume in a common frame."""
    ground = ground_of(dwi)
    centre = ground.centre
    widths = np.full(dwi.n_volumes, _SMOOTHING_MM[0])
    smooth, noise = _smoothed(dwi, widths, n_threads), np.zeros((dwi.n_volumes, 6, 6))
    poses = _rough(dwi, smooth, ground, n_threads)
    for turn, width in enumerate(_SMOOTHING_MM, start=1):
        last = turn == len(_SMOOTHING_MM)
        weak = last & (np.sqrt(np.einsum("vii->v", noise) / 6) > _WEAK_MM)
        wanted = np.where(weak, widths, width)
        if (wanted != widths).any():
            smooth, widths = _smoothed(dwi, wanted, n_threads), wanted
        found, noise, shares = _round(dwi, smooth, poses, widths, ground, n_threads, last=last)
        before, values = as_mm(poses, centre), as_mm(found, centre)
        lost = (np.sqrt(np.einsum("vii->v", noise) / 6) > _LOST_MM)[:, None]
        # Not while poses are far off, nor for final poses: it would add noise, and a head at rest would seem to move.
        if turn >= _NEAR_FROM and not last:
            values = before + followed(np.where(lost, 0.0, values - before), shares)
        values, variances = shrunk(values, noise, dwi.runs, FINE_WIDTHS if last else WIDTHS)
        values = values if last else np.where(lost, before, values)
        poses = as_poses(values, centre)
        # A common motion is not identifiable; fix the mean pose of the unweighted volumes.
        rest = as_poses(values[dwi.is_b0].mean(axis=0, keepdims=True), centre)[0]
        poses = poses @ np.linalg.inv(rest)
    values = about_mean_pose(values, centre, dwi.runs)
    return Motion(poses, displacement(values, variances, dwi.runs), centre)


def _round(
    dwi: Dwi,
    smooth: list[np.ndarray],
    poses: np.ndarray,
    widths: np.ndarray,
    ground: Ground,
    n_threads: int,
    *,
    last: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Align every volume to its prediction.

    Returns:
        Poses, covariances of their errors, (n_volumes, 6, 6), and `displaced_by` of the predictions.

    Args:
        widths: (n_volumes,) of the smoothing, FWHM in mm.
        last: whether the poses are final; else a few steps do.
    """
    each = range(dwi.n_volumes)
    kept = ground.points[ground.kept]
    here = np.stack(_each(lambda v: seen(smooth[v], kept, poses[v], dwi.affine).astype(np.float32), each, n_threads))
    turned = np.einsum("vji,vj->vi", poses[:, :3, :3], dwi.directions)
    prior = covariance(dwi.bvals, turned)
    level = noise_in(here[:, ground.near[ground.kept]].astype(float), prior)
    weights, halves = predictions(prior, level), of_halves(dwi.bvals, prior, level)
    shares = displaced_by(weights, halves, _slope_products(here, ground))
    targets = _product(weights, here)
    first, second = (_product(matrix, here) for matrix in halves)
    steps = STEPS if last else _EARLY_STEPS

    def moved(volume: int) -> tuple[np.ndarray, np.ndarray]:
        target, one, other = (ground.whole(values[volume].astype(float)) for values in (targets, first, second))
        slopes = slopes_of(target, ground, (one, other))
        pose = aligned(slopes, smooth[volume], poses[volume], ground, steps)
        return pose, noise_of(slopes, smooth[volume], pose, ground, widths[volume])

    found, noise = zip(*_each(moved, each, n_threads), strict=True)
    return np.stack(found), np.stack(noise), shares


def _slope_products(here: np.ndarray, ground: Ground) -> np.ndarray:
    """Inner products of the gradients of all volumes in and around the brain, (n_volumes, n_volumes)."""
    images = ground.whole(here)
    found = np.zeros((len(here), len(here)))
    for axis in (1, 2, 3):
        along = np.gradient(images, axis=axis).reshape(len(here), -1)[:, ground.compared]
        found += along @ along.T
    return found


def working_bytes(n_voxels: int, n_volumes: int, n_threads: int = 1) -> int:
    """Peak memory of `estimate_motion` in addition to the data, for voxels of the whole grid."""
    kept = 5 * 4  # five values per voxel and volume in single precision: smoothed, at the poses, three predictions
    return n_voxels * (kept * n_volumes + 25 + 130 * n_threads)


def _product(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A product that is computed in double and stored in single precision, (n_volumes, n_voxels) float32."""
    out = np.empty((len(matrix), values.shape[1]), dtype=np.float32)
    for start in range(0, values.shape[1], _BLOCK):
        part = slice(start, start + _BLOCK)
        out[:, part] = matrix @ values[:, part]
    return out


def _smoothed(dwi: Dwi, widths: np.ndarray, n_threads: int) -> list[np.ndarray]:
    """Volumes after smoothing; `widths` are FWHM in mm, (n_volumes,)."""

    def one(volume: int) -> np.ndarray:
        sigmas = sigmas_of(float(widths[volume]), dwi.zooms)
        return np.asarray(gaussian_filter(dwi.data[..., volume], sigmas, output=np.float32))

    return _each(one, range(dwi.n_volumes), n_threads)


def residual_mm(found: np.ndarray, true: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Residual displacement of each volume, mean over the mask in mm, (n_volumes,).

    Args:
        found, true: (n_volumes, 4, 4) poses, compared up to the best common transform.
    """
    places = np.argwhere(mask)[:: max(int(mask.sum()) // 500, 1)] @ affine[:3, :3].T + affine[:3, 3]
    points = np.column_stack([places, np.ones(len(places))])
    between = np.linalg.inv(true) @ found
    moved = np.einsum("vij,nj->vni", between, points)[..., :3]
    centre, mean = places.mean(axis=0), moved.mean(axis=(0, 1))
    u, _, vt = np.linalg.svd(np.einsum("ni,vnj->ij", places - centre, moved - mean))
    turn = vt.T @ np.diag([1.0, 1.0, np.linalg.det(vt.T @ u.T)]) @ u.T
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = turn, mean - turn @ centre
    left = np.einsum("vij,nj->vni", np.linalg.inv(frame) @ between, points)[..., :3]
    return np.asarray(np.linalg.norm(left - places, axis=2).mean(axis=1))


def _each(make: Callable[[int], _T], volumes: Iterable[int], n_threads: int) -> list[_T]:
    """One independent result per volume, so that results do not depend on the number of threads."""
    if n_threads <= 1:
        return [make(volume) for volume in volumes]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(make, volumes))


def _rough(dwi: Dwi, smooth: list[np.ndarray], ground: Ground, n_threads: int) -> np.ndarray:
    """Initial poses: unweighted volumes are aligned to their mean, others to it in their own contrast."""
    poses = np.tile(np.eye(4), (dwi.n_volumes, 1, 1))
    unweighted = np.flatnonzero(dwi.is_b0)

    def here(volume: int, pose: np.ndarray) -> np.ndarray:
        return seen(smooth[volume], ground.points, pose, dwi.affine)

    def mean() -> np.ndarray:
        return np.asarray(np.mean([here(v, poses[v]) for v in unweighted], axis=0))

    for _ in range(2):
        slopes = slopes_of(mean().reshape(ground.shape), ground)
        for volume in unweighted:
            poses[volume] = aligned(slopes, smooth[volume], poses[volume], ground)
    target = mean()

    def found(volume: int) -> np.ndarray:
        pose = poses[volume]
        clear = not dwi.is_b0[volume] and stands_out(dwi.data[..., volume].ravel(), target)
        for _ in range(2 if clear else 0):
            own = in_contrast_of(here(volume, pose), target)
            pose = aligned(slopes_of(own.reshape(ground.shape), ground), smooth[volume], pose, ground)
        small = np.linalg.norm(as_mm(pose[None], ground.centre)) < _SMALL_MM
        return np.eye(4) if small else pose

    return np.stack(_each(found, range(dwi.n_volumes), n_threads))
