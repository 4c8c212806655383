"""A volume onto a target under six numbers, by Gauss-Newton; and how far noise may have led it astray."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, map_coordinates
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.preprocess.shrinkage import RADIUS_MM
from connectome_tl.imaging.read.dwi import Dwi

_STEPS = 6
_SETTLED_MM = 0.01
_LEVELS = 32
_CLEAR = 1.5  # standard deviations of the air by which a volume shows a brain
_LEAST_SHARE = 0.05  # of a target's slopes that counts as signal where two halves of the data agree on less
# Errors of targets and slopes beside the volume's own noise: on phantoms poses scatter by sqrt(3) more than that tells.
_TARGETS_NOISE = 3.0


def aligned(
    target: np.ndarray,
    image: np.ndarray,
    pose: np.ndarray,
    points: np.ndarray,
    dwi: Dwi,
    halves: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Gauss-Newton on the squared difference between a target, (n_points,), and a volume under a rigid pose.

    Args:
        halves: targets of two halves of the volumes, for how much slope is there beside the noise.
    """
    used, jacobian, middle = _slopes(target, dwi, points)
    if used.size < 100:
        return pose
    x, wanted = points[used], target[used]
    back = _information(jacobian, halves, used, middle, points, dwi)

    found = pose
    for _ in range(_STEPS):
        # The template's gradient serves in all steps: the small move found there is undone in the volume.
        off = map_coordinates(image, voxels_of(x, found, dwi.affine), order=1, mode="nearest") - wanted
        change = back @ (jacobian.T @ off)
        step = np.eye(4)
        step[:3, :3] = Rotation.from_rotvec(-change[3:6] / RADIUS_MM).as_matrix()
        step[:3, 3] = middle - step[:3, :3] @ middle - change[:3]
        found = found @ step
        if np.abs(change[:6]).max() < _SETTLED_MM:
            break
    return found


def noise_of(
    target: np.ndarray,
    halves: tuple[np.ndarray, np.ndarray],
    pose: np.ndarray,
    dwi: Dwi,
    volume: int,
    points: np.ndarray,
) -> np.ndarray:
    """Covariance of a pose's error, (6, 6), as `as_mm` tells poses: from residuals of the volume before smoothing.

    Noise of unlike voxels is allowed for (White 1980, doi:10.2307/1912934).
    """
    used, jacobian, middle = _slopes(target, dwi, points)
    if used.size < 100:
        return np.diag(np.full(6, 1e6))
    off = map_coordinates(dwi.data[..., volume], voxels_of(points[used], pose, dwi.affine), order=1, mode="nearest")
    off = off - target[used]
    back = _information(jacobian, halves, used, middle, points, dwi)
    scattered = jacobian * (off - jacobian @ np.linalg.lstsq(jacobian, off)[0])[:, None]
    covariance = back @ (scattered.T @ scattered) @ back
    return np.asarray(_TARGETS_NOISE * covariance[:6, :6] + 1e-8 * np.eye(6))


def _information(
    jacobian: np.ndarray,
    halves: tuple[np.ndarray, np.ndarray] | None,
    used: np.ndarray,
    middle: np.ndarray,
    points: np.ndarray,
    dwi: Dwi,
) -> np.ndarray:
    """The inverse of what a target's slopes tell of a pose; noise of two halves of the data does not agree."""
    normal = jacobian.T @ jacobian
    if halves is not None:
        one, other = (_jacobian(half, dwi, points, used, middle) for half in halves)
        agreed = one.T @ other
        agreed = (agreed + agreed.T) / 2
        root = np.linalg.cholesky(normal + 1e-12 * np.trace(normal) * np.eye(len(normal)))
        half = np.linalg.inv(root)
        share, turn = np.linalg.eigh(half @ agreed @ half.T)
        turn = half.T @ turn
        return np.asarray((turn / np.clip(share, _LEAST_SHARE, 1.0)) @ turn.T)
    return np.asarray(np.linalg.pinv(normal, hermitian=True))


def _slopes(target: np.ndarray, dwi: Dwi, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in and around the brain where a target changes, how it changes with a pose and with its scale, (n, 7),
    and their centre, about which poses turn here."""
    near = binary_dilation(dwi.mask, iterations=2).ravel()
    gradient = _gradient(target, dwi)
    strength = (gradient**2).sum(axis=1)
    used = np.flatnonzero(near & (strength > 1e-4 * strength[near].max(initial=0.0)))  # flat background says nothing
    middle = centre_of(dwi, points)
    return used, _jacobian(target, dwi, points, used, middle), middle


def _jacobian(target: np.ndarray, dwi: Dwi, points: np.ndarray, used: np.ndarray, middle: np.ndarray) -> np.ndarray:
    g = _gradient(target, dwi)[used]
    return np.concatenate([g, np.cross(points[used] - middle, g) / RADIUS_MM, target[used][:, None]], axis=1)


def _gradient(target: np.ndarray, dwi: Dwi) -> np.ndarray:
    """Of an image on the data's grid, per mm along the world's axes, (n_points, 3)."""
    gradient = np.stack(np.gradient(target.reshape(dwi.data.shape[:3])), axis=-1).reshape(-1, 3)
    return np.asarray(gradient @ np.linalg.inv(dwi.affine[:3, :3]))


def in_contrast_of(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`other` with each of its intensities replaced by the mean of what lies there in `image`."""
    edges = np.quantile(other, np.linspace(0, 1, _LEVELS + 1)[1:-1])
    level = np.digitize(other, edges)
    counts = np.maximum(np.bincount(level, minlength=_LEVELS), 1)
    met = np.bincount(level, weights=image, minlength=_LEVELS) / counts
    centre = np.bincount(level, weights=other, minlength=_LEVELS) / counts
    order = np.argsort(centre, kind="stable")
    return np.interp(other, centre[order], met[order])


def seen(image: np.ndarray, points: np.ndarray, pose: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return map_coordinates(image, voxels_of(points, pose, affine), order=1, mode="nearest", output=np.float64)


def points_of(dwi: Dwi) -> np.ndarray:
    """Every voxel's place in mm, (n_voxels, 3)."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in dwi.data.shape[:3]), indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid @ dwi.affine[:3, :3].T + dwi.affine[:3, 3])


def voxels_of(points: np.ndarray, pose: np.ndarray, affine: np.ndarray) -> np.ndarray:
    whole = np.linalg.inv(affine) @ pose
    return np.asarray(whole[:3, :3] @ points.T + whole[:3, 3:])


def stands_out(image: np.ndarray, unweighted: np.ndarray) -> bool:
    """Whether an image is clearly brighter where the head is than in the air; `unweighted` shows where that is."""
    head = unweighted > 0.3 * np.quantile(unweighted, 0.98)
    inside, around = image[head], image[~head]
    return not around.size or bool(inside.mean() - around.mean() > _CLEAR * around.std())


def centre_of(dwi: Dwi, points: np.ndarray) -> np.ndarray:
    """Centre of the mask in mm, or of the image where the mask is all of it."""
    inside = points[dwi.mask.ravel()]
    return np.asarray((inside if len(inside) else points).mean(axis=0))
