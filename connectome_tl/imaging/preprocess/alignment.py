"""Rigid alignment of a volume by Gauss-Newton, with the uncertainty of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.preprocess.shrinkage import RADIUS_MM
from connectome_tl.imaging.read.dwi import Dwi

STEPS = 6
_SETTLED_MM = 0.01
_LEVELS = 32
_CLEAR = 1.5  # standard deviations of the air by which the head must be brighter
_FLOOR = 0.05  # quantile of a target in and around the brain that is taken for the noise floor
_ABOVE_FLOOR = 2.0  # times the floor is a clear signal
_LEAST_VOXELS = 100  # with a slope, for an alignment
_LEAST_CLEAR = 0.6  # of the squared slopes that clear voxels must hold
_LEAST_SHARE = 0.05  # of a target's slopes that counts as signal where two halves of the data agree on less
# Poses of phantoms vary by sqrt(0.8) of the estimate from residuals, which include errors of the target and misfits.
_TARGETS_NOISE = 0.8


@dataclass(frozen=True, eq=False)
class Ground:
    """Geometry shared by all volumes of one scan.

    Attributes:
        points: (n_voxels, 3) positions of all voxels in mm.
        near: (n_voxels,) bool, in and around the brain, where images are compared.
        centre: (3,) centre of rotations in mm.
        shape, affine: shape and affine of the grid.
    """

    points: np.ndarray
    near: np.ndarray
    centre: np.ndarray
    shape: tuple[int, ...]
    affine: np.ndarray

    @cached_property
    def compared(self) -> np.ndarray:
        """Indices of the voxels in and around the brain, (n_near,)."""
        return np.flatnonzero(self.near)

    @cached_property
    def kept(self) -> np.ndarray:
        """Indices of these voxels and their neighbours, of which gradients are computed, (n_kept,)."""
        return np.flatnonzero(binary_dilation(self.near.reshape(self.shape)))

    def whole(self, values: np.ndarray) -> np.ndarray:
        """Values at the kept voxels, (..., n_kept), on the grid, (..., *shape), with zeros elsewhere."""
        grid = np.zeros((*values.shape[:-1], len(self.points)), dtype=values.dtype)
        grid[..., self.kept] = values
        return grid.reshape(*values.shape[:-1], *self.shape)


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of a target with respect to pose and scale, at voxels with a gradient.

    Attributes:
        places: (n_used, 3) mm. wanted: (n_used,) the target there.
        jacobian: (n_used, 7). back: (7, 7) inverse of its information matrix of a pose.
    """

    places: np.ndarray
    wanted: np.ndarray
    jacobian: np.ndarray
    back: np.ndarray


def ground_of(dwi: Dwi) -> Ground:
    """The geometry of a scan; its centre is that of the mask, or of the image if the mask covers it."""
    points = points_of(dwi)
    near = binary_dilation(dwi.mask, iterations=2).ravel()
    return Ground(points, near, centre_of(dwi, points), dwi.data.shape[:3], dwi.affine)


def slopes_of(target: np.ndarray, ground: Ground, halves: tuple[np.ndarray, np.ndarray] | None = None) -> Slopes | None:
    """Derivatives of a target on the grid, (x, y, z); None if it is too flat for alignment.

    Args:
        halves: targets of two halves of the volumes, to estimate the slope without noise.
    """
    gradient = _gradient(target, ground, ground.compared)
    strength = (gradient**2).sum(axis=1)
    values = target.ravel()
    # A flat background is uninformative.
    informative = _informative(values[ground.compared], strength)
    used = ground.compared[informative]
    if used.size < _LEAST_VOXELS:
        return None
    places = ground.points[used]
    jacobian = _jacobian(values[used], gradient[informative], places - ground.centre)
    pair = None
    if halves is not None:
        pair = [_jacobian(half.ravel()[used], _gradient(half, ground, used), places - ground.centre) for half in halves]
    return Slopes(places, values[used], jacobian, _information(jacobian, pair))


def _informative(target: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Voxels of a target with a slope and, if enough of them are left, with a signal clearly above the noise floor.

    In magnitude images the noise floor masks the small signal of voxels that the head has just entered, but not that of
    voxels that it leaves, so that small movements would be underestimated.

    Args:
        target: (n_near,) intensities in and around the brain. strength: (n_near,) squared slopes.
    """
    sloping = strength > 1e-4 * strength.max(initial=0.0)
    if not sloping.any():
        return sloping
    clear = sloping & (target > _ABOVE_FLOOR * np.quantile(target, _FLOOR))
    is_enough = clear.sum() >= _LEAST_VOXELS and strength[clear].sum() >= _LEAST_CLEAR * strength[sloping].sum()
    return clear if is_enough else sloping


def aligned(
    slopes: Slopes | None, image: np.ndarray, pose: np.ndarray, ground: Ground, steps: int = STEPS
) -> np.ndarray:
    """Gauss-Newton on the squared difference between a target and a volume under a rigid pose."""
    if slopes is None:
        return pose
    found = pose
    for _ in range(steps):
        # Inverse compositional scheme: the gradient of the target is used in all steps, and updates are inverted.
        voxels = voxels_of(slopes.places, found, ground.affine)
        off = map_coordinates(image, voxels, order=1, mode="nearest") - slopes.wanted
        change = slopes.back @ (slopes.jacobian.T @ off)
        step = np.eye(4)
        step[:3, :3] = Rotation.from_rotvec(-change[3:6] / RADIUS_MM).as_matrix()
        step[:3, 3] = ground.centre - step[:3, :3] @ ground.centre - change[:3]
        found = found @ step
        if np.abs(change[:6]).max() < _SETTLED_MM:
            break
    return found


def noise_of(slopes: Slopes | None, image: np.ndarray, pose: np.ndarray, ground: Ground, width: float) -> np.ndarray:
    """Covariance of a pose's error, (6, 6), in the units of `as_mm`, from the residuals of the target.

    The noise may differ between voxels (White 1980, doi:10.2307/1912934). Residuals are those of the smoothed volume:
    without smoothing they would contain fine structure that the smoothed target lacks, which is not noise. They are
    corrected for the variance that smoothing and interpolation remove, since the slopes are smooth and their sums over
    voxels retain it.

    Args:
        image: (x, y, z), the volume after smoothing. width: of that smoothing, FWHM in mm.
    """
    if slopes is None:
        return np.diag(np.full(6, 1e6))
    voxels = voxels_of(slopes.places, pose, ground.affine)
    off = map_coordinates(image, voxels, order=1, mode="nearest") - slopes.wanted
    jacobian = slopes.jacobian
    off = off - jacobian @ np.linalg.lstsq(jacobian.T @ jacobian, jacobian.T @ off)[0]
    scattered = jacobian * (off / np.sqrt(_left_of_noise(voxels, width, ground.affine)))[:, None]
    covariance = slopes.back @ (scattered.T @ scattered) @ slopes.back
    return np.asarray(_TARGETS_NOISE * covariance[:6, :6] + 1e-8 * np.eye(6))


def sigmas_of(width: float, zooms: np.ndarray) -> np.ndarray:
    """Standard deviation in voxels of a Gaussian of a FWHM in mm, (3,)."""
    return np.asarray(width / 2.355 / zooms)


def _left_of_noise(voxels: np.ndarray, width: float, affine: np.ndarray) -> np.ndarray:
    """Share of the variance of white noise that remains after smoothing and linear interpolation, (n,).

    Args:
        voxels: (3, n) places.
    """
    point = np.zeros(65)
    point[32] = 1.0
    left = np.ones(voxels.shape[1])
    for places, sigma in zip(voxels, sigmas_of(width, np.sqrt((affine[:3, :3] ** 2).sum(axis=0))), strict=True):
        kernel = gaussian_filter(point, sigma)
        alone, beside = float(kernel @ kernel), float(kernel[1:] @ kernel[:-1])
        between = places - np.floor(places)
        left *= alone - 2 * between * (1 - between) * (alone - beside)
    return left


def _information(jacobian: np.ndarray, halves: Sequence[np.ndarray] | None) -> np.ndarray:
    """Inverse information matrix of a pose; with two halves of the data, noise is excluded."""
    normal = jacobian.T @ jacobian
    if halves is not None:
        agreed = halves[0].T @ halves[1]
        agreed = (agreed + agreed.T) / 2
        root = np.linalg.cholesky(normal + 1e-12 * np.trace(normal) * np.eye(len(normal)))
        half = np.linalg.inv(root)
        share, turn = np.linalg.eigh(half @ agreed @ half.T)
        turn = half.T @ turn
        return np.asarray((turn / np.clip(share, _LEAST_SHARE, 1.0)) @ turn.T)
    return np.asarray(np.linalg.pinv(normal, hermitian=True))


def _jacobian(target: np.ndarray, gradient: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """Change with shifts, turns and scale, (n_used, 7).

    Args:
        target: (n_used,) intensities. gradient: (n_used, 3) per mm. arms: (n_used, 3) mm from the centre of rotations.
    """
    (x, y, z), (dx, dy, dz) = arms.T / RADIUS_MM, gradient.T
    return np.stack([dx, dy, dz, y * dz - z * dy, z * dx - x * dz, x * dy - y * dx, target], axis=1)


def _gradient(target: np.ndarray, ground: Ground, used: np.ndarray) -> np.ndarray:
    """Gradient of an image on the grid, per mm along world axes, at the voxels `used`, (n_used, 3)."""
    gradient = np.stack([along.ravel()[used] for along in np.gradient(target)], axis=1)
    return np.asarray(gradient @ np.linalg.inv(ground.affine[:3, :3]))


def in_contrast_of(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Replace each intensity of `other` by the mean of `image` at voxels with this intensity."""
    edges = np.quantile(other, np.linspace(0, 1, _LEVELS + 1)[1:-1])
    level = np.digitize(other, edges)
    counts = np.maximum(np.bincount(level, minlength=_LEVELS), 1)
    met = np.bincount(level, weights=image, minlength=_LEVELS) / counts
    centre = np.bincount(level, weights=other, minlength=_LEVELS) / counts
    order = np.argsort(centre, kind="stable")
    return np.interp(other, centre[order], met[order])


def seen(image: np.ndarray, points: np.ndarray, pose: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Intensities of `image` at points (n_points, 3) in mm, moved by `pose`; those outside have the nearest voxel's."""
    return map_coordinates(image, voxels_of(points, pose, affine), order=1, mode="nearest", output=np.float64)


def points_of(dwi: Dwi) -> np.ndarray:
    """Positions of all voxels in mm, (n_voxels, 3)."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in dwi.data.shape[:3]), indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid @ dwi.affine[:3, :3].T + dwi.affine[:3, 3])


def voxels_of(points: np.ndarray, pose: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxel coordinates (3, n_points) of points (n_points, 3) in mm, moved by `pose` (4, 4)."""
    whole = np.linalg.inv(affine) @ pose
    return np.asarray(whole[:3, :3] @ points.T + whole[:3, 3:])


def stands_out(image: np.ndarray, unweighted: np.ndarray) -> bool:
    """Whether an image is clearly brighter in the head than in air, as located in `unweighted`."""
    head = unweighted > 0.3 * np.quantile(unweighted, 0.98)
    inside, around = image[head], image[~head]
    return not around.size or bool(inside.mean() - around.mean() > _CLEAR * around.std())


def centre_of(dwi: Dwi, points: np.ndarray) -> np.ndarray:
    """Centre of the mask in mm, or of the image if the mask covers it."""
    inside = points[dwi.mask.ravel()]
    return np.asarray((inside if len(inside) else points).mean(axis=0))
