"""Detect outlier volumes and slices: signal loss, stripes, excess intensity, empty volumes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import numpy as np
from scipy.ndimage import map_coordinates

from connectome_tl.imaging.preprocess.alignment import points_of, voxels_of
from connectome_tl.imaging.preprocess.prediction import left_one_out
from connectome_tl.imaging.read.dwi import Dwi

_LOST, _GAINED = 0.80, 1.25  # of the predicted mean of a slice
_ROUGH = 2.0  # times the usual difference from the prediction
_UNUSUAL = 6.0  # robust standard deviations of a shell's slices, beside
_LEAST_VOXELS = 120  # voxels of the mask per slice; fewer are uninformative
_LEAST_SHARE = 0.15  # of the largest slice: at the edge of the head a small move is a large change
_WHOLE = 0.5  # of the slices: then it is the volume
_ROUNDS = 2


@dataclass(frozen=True, eq=False)
class Slices:
    """Comparison of every slice of every volume with its prediction. Slices are along axis 2.

    Attributes:
        ratio: (n_volumes, n_slices) ratio of mean to predicted signal; NaN for slices with too little brain.
        lost, gained, rough: (n_volumes, n_slices) bool: signal dropout; too bright; stripes or spikes.
        correlation: (n_volumes,) with the prediction, over the brain.
    """

    ratio: np.ndarray
    lost: np.ndarray
    gained: np.ndarray
    rough: np.ndarray
    correlation: np.ndarray

    def warnings(self, original: np.ndarray) -> tuple[str, ...]:
        """Warnings, one line for each kind; `original` are the positions of the volumes in their file."""
        told = ((self.lost, "signal dropout"), (self.gained, "too bright"), (self.rough, "stripes or spikes"))
        return tuple(f"{what} in {_where(found, self.ratio, original)}" for found, what in told if found.any())


def empty_volumes(dwi: Dwi) -> np.ndarray:
    """Constant volumes, (n_volumes,) bool."""
    values = dwi.data[dwi.mask]
    return np.asarray(values.min(axis=0) == values.max(axis=0))


def copied_volumes(dwi: Dwi) -> np.ndarray:
    """Weighted volumes that equal an earlier weighted one in every voxel of the brain, (n_volumes,) bool."""
    found, seen = np.zeros(dwi.n_volumes, dtype=bool), set[bytes]()
    for volume in np.flatnonzero(~dwi.is_b0):
        content = hashlib.blake2b(dwi.data[..., volume][dwi.mask].tobytes(), digest_size=16).digest()
        found[volume] = content in seen
        seen.add(content)
    return found


def check_slices(dwi: Dwi, poses: np.ndarray | None = None) -> Slices:
    """Compare each slice with its prediction from the other volumes.

    Args:
        poses: (n_volumes, 4, 4) poses of the head, as in `Motion`; default: at rest.
    """
    here = np.tile(np.eye(4), (dwi.n_volumes, 1, 1)) if poses is None else poses
    data = dwi.data.astype(np.float32)
    bad = np.zeros((dwi.n_volumes, dwi.data.shape[2]), dtype=bool)
    bad |= empty_volumes(dwi)[:, None]
    masks = _masks(dwi, here)
    for _ in range(_ROUNDS):
        predicted = _predicted(data, dwi, here)
        found = _judged(dwi, predicted, masks)
        again = bad | found.lost | found.gained | found.rough
        if (again == bad).all():
            break
        bad = again
        for volume, z in np.argwhere(bad):  # exclude outliers from the prediction of others
            data[:, :, z, volume] = predicted[:, :, z, volume]
    return found


def _masks(dwi: Dwi, poses: np.ndarray) -> np.ndarray:
    """Brain mask in the pose of each volume, (n_volumes, x, y, z) bool."""
    if np.allclose(poses, np.eye(4)):
        return np.broadcast_to(dwi.mask, (len(poses), *dwi.mask.shape))
    points, mask = points_of(dwi), dwi.mask.astype(np.float32)
    moved = [map_coordinates(mask, voxels_of(points, back, dwi.affine), order=1) > 0.9 for back in np.linalg.inv(poses)]
    return np.stack(moved).reshape(-1, *dwi.mask.shape)


def _predicted(data: np.ndarray, dwi: Dwi, poses: np.ndarray) -> np.ndarray:
    """Prediction of each volume from the others, in its own pose, (x, y, z, n_volumes)."""
    points, shape = points_of(dwi), data.shape[:3]
    still = np.allclose(poses, np.eye(4))

    def moved(image: np.ndarray, pose: np.ndarray) -> np.ndarray:
        return map_coordinates(image, voxels_of(points, pose, dwi.affine), order=1, mode="nearest", output=np.float32)

    n = data.shape[3]
    flat = data.reshape(-1, n).T if still else np.stack([moved(data[..., v], poses[v]) for v in range(n)])
    directions = np.einsum("vji,vj->vi", poses[:, :3, :3], dwi.directions)
    targets = left_one_out(dwi.bvals, directions).astype(np.float32) @ flat
    if not still:
        back = np.linalg.inv(poses)
        targets = np.stack([moved(targets[v].reshape(shape), back[v]) for v in range(n)])
    return np.asarray(targets.T.reshape(*shape, n))


def _judged(dwi: Dwi, predicted: np.ndarray, masks: np.ndarray) -> Slices:
    n, n_slices = dwi.n_volumes, dwi.data.shape[2]
    ratio, rough = np.full((n, n_slices), np.nan), np.full((n, n_slices), np.nan)
    correlation = np.full(n, np.nan)
    for v in range(n):
        counts = masks[v].sum(axis=(0, 1))
        for z in np.flatnonzero(counts >= max(_LEAST_VOXELS, _LEAST_SHARE * counts.max(initial=0))):
            inside = masks[v][:, :, z]
            seen, wanted = dwi.data[:, :, z, v][inside].astype(float), predicted[:, :, z, v][inside].astype(float)
            scale = max(float(wanted.mean()), 1e-12)
            ratio[v, z] = seen.mean() / scale
            # Stripes are residuals within a slice after correction of its brightness.
            rough[v, z] = np.sqrt(np.mean((seen - wanted * ratio[v, z]) ** 2)) / scale
        correlation[v] = _correlation(dwi.data[..., v][masks[v]], predicted[..., v][masks[v]])
    low, high, wild = (np.zeros((n, n_slices), dtype=bool) for _ in range(3))
    groups = [group for group in (np.flatnonzero(dwi.is_b0), *(v for _, v in dwi.shells())) if len(group)]
    for group in groups:
        own, uneven = ratio[group], np.log(np.maximum(rough[group], 1e-12))
        spread = max(_spread(own - 1), 0.005)
        low[group] = (own < _LOST) & (own < 1 - _UNUSUAL * spread)
        high[group] = (own > _GAINED) & (own > 1 + _UNUSUAL * spread)
        usual = uneven - _middle(uneven, by_slice=len(group) > 2)
        wild[group] = (usual > np.log(_ROUGH)) & (usual > _UNUSUAL * _spread(usual))
    return Slices(ratio, low, high, wild & ~low & ~high, correlation)


def _middle(values: np.ndarray, *, by_slice: bool) -> np.ndarray:
    with catch_warnings():
        simplefilter("ignore", RuntimeWarning)  # a slice that no volume shows
        return np.asarray(np.nanmedian(values, axis=0) if by_slice else np.nanmedian(values))


def _spread(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return 1.4826 * float(np.median(np.abs(values))) if values.size else 0.0


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(dtype=float), b - b.mean(dtype=float)
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else np.nan


def _where(found: np.ndarray, ratio: np.ndarray, original: np.ndarray, longest: int = 8) -> str:
    shown = np.isfinite(ratio).sum(axis=1)
    parts = []
    volumes = np.flatnonzero(found.any(axis=1))
    for volume in volumes[:longest]:
        slices = np.flatnonzero(found[volume]) + 1
        whole = len(slices) >= _WHOLE * shown[volume]
        parts.append(
            f"volume {original[volume] + 1}" + ("" if whole else f" (slice {', '.join(map(str, slices[:longest]))})")
        )
    more = len(volumes) - longest
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")
