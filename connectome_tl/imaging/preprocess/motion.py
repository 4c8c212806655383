"""Rigid motion between diffusion volumes: each is moved onto what the others predict for its gradient.

A volume and the mean of its shell differ in contrast wherever there are fibres, and following that difference
moves a head that lay still. So the target is a prediction: harmonics fitted to the other volumes of the shell
(as eddy and SHORELine do: Andersson and Sotiropoulos 2016, doi:10.1016/j.neuroimage.2015.10.019; Cieslak et al.
2024, doi:10.1002/mrm.29973), left-one-out in closed form. Then sums of squares are the right measure, and
Gauss-Newton finds six numbers in a few steps. Shells are joined through their means, one taking on the
contrast of the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.read.dwi import Dwi

_SMOOTHING_MM = (5.0, 3.0, 3.0, 3.0)  # of each round; wide first, since the first prediction is of blurred data
_STEPS = 6
_LEVELS = 32
_ORDERS = {2: 12, 4: 30}  # harmonics of this order from so many volumes on; below, the mean
_RIDGE = 0.006  # of a harmonic's order squared, as Descoteaux et al. 2007 (doi:10.1002/mrm.21277)


@dataclass(frozen=True, eq=False)
class Motion:
    """Where each volume's head was.

    Attributes:
        poses: (n_volumes, 4, 4) mm of the common frame to mm of the volume.
    """

    poses: np.ndarray

    def table(self) -> np.ndarray:
        """(n_volumes, 6): shifts in mm and turns in degrees."""
        turns = Rotation.from_matrix(self.poses[:, :3, :3]).as_euler("xyz", degrees=True)
        return np.concatenate([self.poses[:, :3, 3], turns], axis=1)


def without_motion(dwi: Dwi) -> tuple[Dwi, Motion]:
    """Align all volumes, resampling each once (cubic), and turn the b-vectors with them.

    Motion within a volume, and the signal it costs, stay as they are.
    """
    motion = estimate_motion(dwi)
    data = np.empty_like(dwi.data)
    points = _points(dwi)
    for volume, pose in enumerate(motion.poses):
        coefficients = spline_filter(dwi.data[..., volume].astype(float), order=3)
        voxels = _voxels(points, pose, dwi.affine)
        found = map_coordinates(coefficients, voxels, order=3, mode="nearest", prefilter=False)
        data[..., volume] = np.maximum(found, 0.0).reshape(data.shape[:3])
    # A gradient along g, seen by a head turned by R, is one along g turned back.
    directions = np.einsum("vji,vj->vi", motion.poses[:, :3, :3], dwi.directions)
    return replace(dwi, data=data, directions=directions), motion


def estimate_motion(dwi: Dwi) -> Motion:
    """Pose of every volume against the mean of the unweighted ones."""
    points = _points(dwi)
    poses = np.tile(np.eye(4), (dwi.n_volumes, 1, 1))
    groups = [group for group in (np.flatnonzero(dwi.is_b0), *(v for _, v in dwi.shells())) if len(group)]
    smooth = np.empty((dwi.n_volumes, *dwi.data.shape[:3]), dtype=np.float32)
    for width in _SMOOTHING_MM:
        for volume in range(dwi.n_volumes):
            smooth[volume] = gaussian_filter(dwi.data[..., volume], width / 2.355 / dwi.zooms)
        for group in groups:
            here = np.stack([_seen(smooth[v], points, poses[v], dwi.affine) for v in group])
            turned = np.einsum("vji,vj->vi", poses[group][:, :3, :3], dwi.directions[group])
            targets = _left_one_out(turned) @ here
            for volume, target in zip(group, targets, strict=True):
                poses[volume] = _aligned(target, smooth[volume], poses[volume], points, dwi)
    # Each shell now lies at the mean of its own poses: move it as one piece onto the first. Means have little
    # noise, and smoothing would only bring the contrasts of neighbours in.
    means = [
        np.mean([_seen(dwi.data[..., volume], points, poses[volume], dwi.affine) for volume in group], axis=0)
        for group in groups
    ]
    for group, mean in zip(groups[1:], means[1:], strict=True):
        image = mean.reshape(dwi.data.shape[:3])
        poses[group] = poses[group] @ _aligned(_in_contrast_of(mean, means[0]), image, np.eye(4), points, dwi)
    return Motion(poses)


def residual_mm(found: np.ndarray, true: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """How far each volume's brain still lies from where it should, mean over the mask in mm, (n_volumes,).

    Args:
        found, true: (n_volumes, 4, 4). The frame common to all volumes is free: the best one is taken.
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


def _left_one_out(directions: np.ndarray) -> np.ndarray:
    """What the other volumes of a shell say about each, as a matrix with zeros on its diagonal."""
    n = len(directions)
    order = max((order for order, least in _ORDERS.items() if n >= least), default=0)
    if order == 0 or not directions.any():
        return np.full((n, n), 1.0 / max(n - 1, 1)) - np.eye(n) / max(n - 1, 1) if n > 1 else np.ones((1, 1))
    from connectome_tl.imaging.track.reconstruction import harmonics

    basis = harmonics(directions, order)
    orders = np.repeat(np.arange(0, order + 1, 2), 2 * np.arange(0, order + 1, 2) + 1)
    penalty = np.diag(_RIDGE * (orders * (orders + 1.0)) ** 2)
    hat = basis @ np.linalg.solve(basis.T @ basis + penalty, basis.T)
    own = np.diag(hat)
    return np.asarray((hat - np.diag(own)) / (1.0 - own)[:, None])


def _aligned(target: np.ndarray, image: np.ndarray, pose: np.ndarray, points: np.ndarray, dwi: Dwi) -> np.ndarray:
    """Gauss-Newton on the squared difference between a target, (n_points,), and a volume under a rigid pose."""
    gradient = np.stack(np.gradient(target.reshape(dwi.data.shape[:3])), axis=-1).reshape(-1, 3)
    gradient = gradient @ np.linalg.inv(dwi.affine[:3, :3])  # per mm, along the world's axes
    strength = (gradient**2).sum(axis=1)
    used = np.flatnonzero(strength > 1e-4 * strength.max(initial=0.0))  # flat background says nothing
    if used.size < 100:
        return pose
    g, x, wanted = gradient[used], points[used], target[used]
    middle = x.mean(axis=0)
    jacobian = np.concatenate([g, np.cross(x - middle, g), wanted[:, None]], axis=1)
    normal = jacobian.T @ jacobian
    found = pose
    for _ in range(_STEPS):
        # The template's gradient serves in all steps: the small move found there is undone in the volume.
        off = map_coordinates(image, _voxels(x, found, dwi.affine), order=1, mode="nearest") - wanted
        change = np.linalg.solve(normal, jacobian.T @ off)
        step = np.eye(4)
        step[:3, :3] = Rotation.from_rotvec(-change[3:6]).as_matrix()
        step[:3, 3] = middle - step[:3, :3] @ middle - change[:3]
        found = found @ step
        if np.abs(change[:3]).max() < 0.01 and np.abs(change[3:6]).max() < 2e-4:
            break
    return found


def _in_contrast_of(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`other` with each of its intensities replaced by the mean of what lies there in `image`."""
    edges = np.quantile(other, np.linspace(0, 1, _LEVELS + 1)[1:-1])
    level = np.digitize(other, edges)
    counts = np.maximum(np.bincount(level, minlength=_LEVELS), 1)
    met = np.bincount(level, weights=image, minlength=_LEVELS) / counts
    centre = np.bincount(level, weights=other, minlength=_LEVELS) / counts
    order = np.argsort(centre, kind="stable")
    return np.interp(other, centre[order], met[order])


def _seen(image: np.ndarray, points: np.ndarray, pose: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return map_coordinates(image, _voxels(points, pose, affine), order=1, mode="nearest", output=np.float64)


def _points(dwi: Dwi) -> np.ndarray:
    """Every voxel's place in mm, (n_voxels, 3)."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in dwi.data.shape[:3]), indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid @ dwi.affine[:3, :3].T + dwi.affine[:3, 3])


def _voxels(points: np.ndarray, pose: np.ndarray, affine: np.ndarray) -> np.ndarray:
    whole = np.linalg.inv(affine) @ pose
    return np.asarray(whole[:3, :3] @ points.T + whole[:3, 3:])
