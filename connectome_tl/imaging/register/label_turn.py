"""Detect labels that are rotated relative to their image, without knowledge of what each label is.

Regions of an atlas follow the edges between tissues, so that labels explain much of the local variation of intensity
where they belong, and little after a rotation by 180 degrees.
"""

from __future__ import annotations

import numpy as np

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.registration import coarse_brain, side_mm

_ACROSS = 28  # voxels across a brain
_SMOOTH = 2.5  # voxels; smoother variation, as of a bias field, is removed
_TAIL = 0.05  # quantiles to which intensities are clipped
_EVIDENCE = 0.1  # explained variance of a rotation, at least; random parcels without anatomy reach this, too
_SHARE = 0.66  # of this variance that labels as stored explain at most; correct atlases explain 1.8 times as much
_TURNS = {
    "upside down": (1.0, 1.0, -1.0),
    "turned front to back": (1.0, -1.0, 1.0),
    "upside down and turned front to back": (1.0, -1.0, -1.0),
}


def turn_of_labels(image: Volume, labels: Volume) -> tuple[str, float, float] | None:
    """How labels are turned relative to their image, or None if they fit as they are.

    The exchange of left and right is not detectable, since brains are nearly symmetric.

    Args:
        image: (x, y, z), 0 outside the brain. labels: (x, y, z) int, on any grid.

    Returns:
        Words for the rotation, and the explained variance (0 to 1) of local intensity as stored and after it.
    """
    small = coarse_brain(image, side_mm(image) / _ACROSS)
    brain = small.data > 0
    if not brain.any():
        return None
    values = _local(small.data, brain)
    points = np.argwhere(brain) @ small.affine[:3, :3].T + small.affine[:3, 3]
    middle = points.mean(axis=0)
    codes = np.unique(labels.data, return_inverse=True)[1].reshape(labels.shape)
    found = list[tuple[str, float, float]]()
    for said, signs in _TURNS.items():
        turned = middle + (points - middle) * signs
        # Only where the rotated brain is, since labels that end earlier would explain the rim.
        common = _at(turned, brain.astype(int), small.affine) > 0
        own, other = (_explained(_at(p[common], codes, labels.affine), values[common]) for p in (points, turned))
        found.append((said, own, other))
    said, own, other = max(found, key=lambda one: one[2] - one[1])
    return (said, own, other) if other >= _EVIDENCE and own < _SHARE * other else None


def _local(data: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Clipped intensities in the brain minus their local mean, (n_voxels,)."""
    from scipy.ndimage import gaussian_filter

    low, high = np.quantile(data[brain], [_TAIL, 1 - _TAIL])
    clipped = np.where(brain, np.clip(data, low, high), 0.0)
    weight = gaussian_filter(brain.astype(float), _SMOOTH)
    return np.asarray((clipped - gaussian_filter(clipped, _SMOOTH) / np.maximum(weight, 1e-6))[brain])


def _at(points: np.ndarray, data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Values of the voxels nearest to (n, 3) points in mm, 0 outside the image."""
    back = np.linalg.inv(affine)
    voxels = np.rint(points @ back[:3, :3].T + back[:3, 3]).astype(int)
    inside = ((voxels >= 0) & (voxels < data.shape)).all(axis=1)
    found = np.zeros(len(points), dtype=int)
    found[inside] = data[tuple(voxels[inside].T)]
    return found


def _explained(labels: np.ndarray, values: np.ndarray) -> float:
    """Share of the variance of values between labels, adjusted for their number."""
    counts, sums = np.bincount(labels), np.bincount(labels, values)
    used = counts > 0
    spread, n = float(((values - values.mean()) ** 2).sum()), len(values)
    within = spread - float((sums[used] ** 2 / counts[used]).sum() - values.sum() ** 2 / n)
    free = n - int(used.sum())
    return 1 - (within / free) / (spread / (n - 1)) if spread > 0 and free > 0 else 0.0
