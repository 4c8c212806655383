"""Detect outlier volumes and slices: signal loss, stripes, excess intensity, empty volumes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import numpy as np
from scipy.ndimage import map_coordinates

from connectome_tl.imaging.preprocess.alignment import points_of, voxels_of
from connectome_tl.imaging.preprocess.prediction import components, left_one_out
from connectome_tl.imaging.read.dwi import Dwi

_LOST, _GAINED = 0.80, 1.25  # of the predicted mean of a slice
_ROUGH = 2.0  # times the usual difference from the prediction
_UNUSUAL = 6.0  # robust standard deviations of a shell's slices, beside
_LEAST_VOXELS = 120  # voxels of the mask per slice; fewer are uninformative
_LEAST_SHARE = 0.15  # of the largest slice: at the edge of the head a small move is a large change
_WHOLE = 0.5  # of the slices: then it is the volume
_WORST = 0.5  # times the largest distance among the outliers of a slice position: left out of predictions together
_ROUNDS = 6
_FILLS = 10


@dataclass(frozen=True, eq=False)
class Slices:
    """Comparison of every slice of every volume with its prediction. Slices are along axis 2.

    Attributes:
        ratio: (n_volumes, n_slices) ratio of mean to predicted signal; NaN for slices with too little brain, and for
            the only volume of a b-value.
        lost, gained, rough: (n_volumes, n_slices) bool: signal dropout; too bright; stripes or spikes.
        correlation: (n_volumes,) with the prediction, over the brain; NaN for the only volume of a b-value.
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
    empty = np.broadcast_to(empty_volumes(dwi)[:, None], (dwi.n_volumes, dwi.data.shape[2]))
    masks, prediction = _masks(dwi, here), _Prediction(dwi, here)
    bad = empty | unlike_shell(dwi, masks)
    for _ in range(_ROUNDS):
        found, distance = _judged(dwi, prediction.without(bad), masks)
        marked = found.lost | found.gained | found.rough
        # Outliers that are still part of the predictions make others differ, but less than themselves.
        worst = np.where(marked & ~bad, distance, 0).max(axis=0)
        again = empty | (marked & (bad | (distance >= _WORST * worst)))
        if (again == bad).all():
            break
        bad = again
    return found


def unlike_shell(dwi: Dwi, masks: np.ndarray) -> np.ndarray:
    """Slices whose mean signal is far from the median of their shell, (n_volumes, n_slices) bool.

    They are left out of the first prediction: where many volumes of a shell lost a slice, the others would differ too.
    """
    sums = np.stack([(dwi.data[..., v] * mask).sum(axis=(0, 1), dtype=float) for v, mask in enumerate(masks)])
    means = sums / np.maximum(masks.sum(axis=(1, 2)), 1)
    usual = np.empty_like(means)
    for group in _groups(dwi):
        usual[group] = np.median(means[group], axis=0)
    return np.asarray((means < _LOST * usual) | (means > _GAINED * usual))


def _groups(dwi: Dwi) -> list[np.ndarray]:
    """The unweighted volumes, and those of each shell."""
    return [group for group in (np.flatnonzero(dwi.is_b0), *(v for _, v in dwi.shells())) if len(group)]


def _masks(dwi: Dwi, poses: np.ndarray) -> np.ndarray:
    """Brain mask in the pose of each volume, (n_volumes, x, y, z) bool."""
    if np.allclose(poses, np.eye(4)):
        return np.broadcast_to(dwi.mask, (len(poses), *dwi.mask.shape))
    points, mask = points_of(dwi), dwi.mask.astype(np.float32)
    moved = [map_coordinates(mask, voxels_of(points, back, dwi.affine), order=1) > 0.9 for back in np.linalg.inv(poses)]
    return np.stack(moved).reshape(-1, *dwi.mask.shape)


class _Prediction:
    """Predictions of each volume from the others, in its own pose."""

    def __init__(self, dwi: Dwi, poses: np.ndarray) -> None:
        self._shape, self._affine, self._points = dwi.data.shape[:3], dwi.affine, points_of(dwi)
        self._poses = None if np.allclose(poses, np.eye(4)) else poses
        directions = np.einsum("vji,vj->vi", poses[:, :3, :3], dwi.directions)
        self._basis = components(dwi.bvals, directions).astype(np.float32)
        self._others = left_one_out(dwi.bvals, directions).astype(np.float32)
        _, self._shell = np.unique(np.where(dwi.is_b0, 0, np.round(dwi.bvals, -2)), return_inverse=True)
        data = dwi.data.astype(np.float32, copy=False)
        self._flat = data.reshape(-1, dwi.n_volumes).T
        if self._poses is not None:
            self._flat = np.stack([self._moved(data[..., v], pose) for v, pose in enumerate(self._poses)])

    def without(self, bad: np.ndarray) -> np.ndarray:
        """Predictions that do not use these slices, (x, y, z, n_volumes).

        Args:
            bad: (n_volumes, n_slices) bool.
        """
        n = len(bad)
        targets = self._others @ self._flat
        if bad.any():
            gone = np.broadcast_to(bad[:, None, None], (n, *self._shape)).reshape(n, -1)
            if self._poses is not None:
                whole = [part.reshape(self._shape).astype(np.float32) for part in gone]
                gone = np.stack([self._moved(one, pose) > 0.01 for one, pose in zip(whole, self._poses, strict=True)])
            at = gone.any(axis=0)
            targets[:, at] = self._others @ self._filled(self._flat[:, at], gone[:, at])
        if self._poses is not None:
            back = np.linalg.inv(self._poses)
            targets = np.stack([self._moved(targets[v].reshape(self._shape), back[v]) for v in range(n)])
        return np.asarray(targets.T.reshape(*self._shape, n))

    def _filled(self, values: np.ndarray, gone: np.ndarray) -> np.ndarray:
        """The values, (n_volumes, n_points), with missing ones replaced by a fit to the others."""
        for shell in range(self._shell.max() + 1):
            own = np.flatnonzero(self._shell == shell)
            kept = ~gone[own]
            mean = (values[own] * kept).sum(axis=0) / np.maximum(kept.sum(axis=0), 1)
            values[own] = np.where(kept, values[own], mean)
        for _ in range(_FILLS):
            values = np.where(gone, self._basis @ (self._basis.T @ values), values)
        return values

    def _moved(self, image: np.ndarray, pose: np.ndarray) -> np.ndarray:
        at = voxels_of(self._points, pose, self._affine)
        return np.asarray(map_coordinates(image, at, order=1, mode="nearest", output=np.float32))


def _judged(dwi: Dwi, predicted: np.ndarray, masks: np.ndarray) -> tuple[Slices, np.ndarray]:
    """The comparison, and the distance of each slice from its prediction, (n_volumes, n_slices)."""
    n, n_slices = dwi.n_volumes, dwi.data.shape[2]
    ratio, rough = np.full((n, n_slices), np.nan), np.full((n, n_slices), np.nan)
    correlation, distance = np.full(n, np.nan), np.zeros((n, n_slices))
    for v in range(n):
        counts = masks[v].sum(axis=(0, 1))
        for z in np.flatnonzero(counts >= max(_LEAST_VOXELS, _LEAST_SHARE * counts.max(initial=0))):
            inside = masks[v][:, :, z]
            seen, wanted = dwi.data[:, :, z, v][inside].astype(float), predicted[:, :, z, v][inside].astype(float)
            distance[v, z] = np.sqrt(np.mean((seen - wanted) ** 2))
            scale = max(float(wanted.mean()), 1e-12)
            ratio[v, z] = seen.mean() / scale
            # Stripes are residuals within a slice after correction of its brightness.
            rough[v, z] = np.sqrt(np.mean((seen - wanted * ratio[v, z]) ** 2)) / scale
        correlation[v] = _correlation(dwi.data[..., v][masks[v]], predicted[..., v][masks[v]])
    low, high, wild = (np.zeros((n, n_slices), dtype=bool) for _ in range(3))
    for group in _groups(dwi):
        if len(group) == 1:  # nothing of its b-value predicts it
            ratio[group], correlation[group] = np.nan, np.nan
            continue
        own, uneven = ratio[group], np.log(np.maximum(rough[group], 1e-12))
        spread = max(_spread(own - 1), 0.005)
        low[group] = (own < _LOST) & (own < 1 - _UNUSUAL * spread)
        high[group] = (own > _GAINED) & (own > 1 + _UNUSUAL * spread)
        usual = uneven - _middle(uneven, by_slice=len(group) > 2)
        wild[group] = (usual > np.log(_ROUGH)) & (usual > _UNUSUAL * _spread(usual))
    return Slices(ratio, low, high, wild & ~low & ~high, correlation), distance


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
