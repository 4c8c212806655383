"""Warn if gradient directions do not match the signal, in all volumes or in some.

Directions in a wrong order are not a shift of the table, so that no corrected table can be tried. Therefore, the
variance that volumes of similar directions share is estimated without the table, and compared with the variance that
tensors explain with the table. Motion causes shared variance, too: the check requires motion-corrected data.
"""

from __future__ import annotations

import numpy as np

from connectome_tl.imaging.quality.signal_check import direction_signal, tensor_design
from connectome_tl.imaging.quality.volumes import empty_volumes
from connectome_tl.imaging.read.dwi import Dwi, numbered

_SHAPES = 5  # of a tensor, beside its size
_SEEN = 0.05  # share of the variance that volumes must share
_UNRELATED = 0.25  # of it that tensors explain, at most, where directions have nothing to do with the signal
_OWN, _OTHER = 0.0, 0.8  # correlation with the own direction at most; with another one at least, of the usual
_PATTERNS = 2.0  # of similar strength, at least
_USUAL = 0.1  # correlation of most volumes with their own direction, at least


def direction_warnings(dwi: Dwi, original: np.ndarray) -> list[str]:
    """Warnings if directions do not match the signal; `original` are the positions of the volumes in their file."""
    found = direction_signal(dwi, np.flatnonzero(~empty_volumes(dwi)))
    if found is None:
        return []
    volumes, signal, _ = found
    total = float((signal**2).sum())
    if total == 0.0:
        return []
    design = tensor_design(dwi.directions[volumes])
    shared, explained = _shared(signal), float(((signal @ design @ np.linalg.pinv(design)) ** 2).sum()) / total
    explained -= _SHAPES / (len(volumes) - 1)
    if shared < _SEEN:
        return []
    if explained < _UNRELATED * shared:
        return [
            f"b-vectors may not belong to these images: tensors explain {max(explained, 0.0):.0%} of the variance "
            f"between directions, of {shared:.0%} that volumes share"
        ]
    astray = _astray(signal, design)
    if not astray.any():
        return []
    wrong = np.isin(np.arange(original.max() + 1), original[volumes[astray]])
    return [f"b-vectors may be in a wrong order: the signal is that of other directions in {numbered(wrong)}"]


def _shared(signal: np.ndarray) -> float:
    """Share of the variance in a few patterns of volumes; found in half of the voxels and measured in the others."""
    if len(signal) < 2 * _SHAPES:
        return 0.0
    patterns = np.linalg.svd(signal[::2], full_matrices=False)[2][:_SHAPES]
    rest = signal[1::2]
    within = float(((rest @ patterns.T) ** 2).sum()) / max(float((rest**2).sum()), 1e-30)
    return within - _SHAPES / (signal.shape[1] - 1)


def _astray(signal: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Volumes that a fit to all others predicts for another direction of the table but not for their own, bool."""
    n, strength = len(design), np.linalg.svd(signal, compute_uv=False)[:_SHAPES] ** 2
    if (strength**2).sum() * _PATTERNS > strength.sum() ** 2:
        return np.zeros(n, dtype=bool)  # fibres of one direction: the signal of one volume is that of any other, scaled
    own, best = np.empty(n), np.empty(n)
    for volume in range(n):
        others = np.arange(n) != volume
        predicted = signal[:, others] @ np.linalg.pinv(design[others]).T @ design.T
        size = np.linalg.norm(predicted, axis=0) * np.linalg.norm(signal[:, volume])
        alike = (signal[:, volume] @ predicted) / np.maximum(size, 1e-30)
        own[volume], best[volume] = alike[volume], alike.max()
    usual = float(np.median(own))
    return np.asarray((own < _OWN) & (best > _OTHER * usual) & (usual > _USUAL))
