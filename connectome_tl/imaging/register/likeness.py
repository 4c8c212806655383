"""Similarity of two images of any contrast: mean local squared correlation."""

from __future__ import annotations

import numpy as np

from connectome_tl.imaging.read.images import Volume

_WINDOW = 5  # voxels
_FLOOR = 0.02  # of the local mean: standard deviation below which a window shows nothing but noise
_FEWEST = 500  # voxels that both images must show
_LEAST_SHARE = 0.3  # smallest fraction of a window inside both brains


def local_likeness(fixed: Volume, carried: Volume, left_out: np.ndarray | None = None) -> float:
    """Mean squared correlation of two images within small windows, over the brain of `fixed`; 0 to 1.

    The squared correlation is that of Avants et al. 2008 (doi:10.1016/j.media.2007.06.004). It is invariant to contrast
    and to slowly varying gain such as a bias field. Windows have 5 voxels per side and contain only voxels of both
    brains, so that the outline has no effect. The square of 2 % of the local mean is added to each variance, so that
    windows without structure count as dissimilar, as do voxels of the brain outside `carried`.

    Args:
        fixed: (x, y, z), 0 outside the brain.
        carried: the other image on the same grid, 0 outside its brain.
        left_out: (x, y, z) bool; such voxels are not used.
    """
    brain = fixed.data > 0
    if left_out is not None:
        brain = brain & ~left_out
    both = brain & (carried.data > 0)
    if both.sum() < _FEWEST:
        return 0.0
    box = _around(brain)
    brain, both = brain[box], both[box]
    share = np.maximum(_mean(both.astype(np.float32)), 1e-6)
    a, b = (_unit(image.data[box], both) for image in (fixed, carried))
    mean_a, mean_b = _mean(a) / share, _mean(b) / share
    spread_a, spread_b = (
        np.maximum(_mean(image * image) / share - mean**2, 0) + (_FLOOR * mean) ** 2
        for image, mean in ((a, mean_a), (b, mean_b))
    )
    squared = (_mean(a * b) / share - mean_a * mean_b) ** 2
    found = squared / np.maximum(spread_a * spread_b, 1e-20)
    used = both & (share > _LEAST_SHARE)
    return float(np.minimum(found[used], 1.0).sum(dtype=np.float64) / brain.sum())


def _unit(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The image with a mean of 1 inside and 0 outside, so that float32 suffices."""
    return np.where(inside, image / image[inside].mean(dtype=np.float64), 0).astype(np.float32)


def _mean(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import uniform_filter

    return np.asarray(uniform_filter(image, _WINDOW, mode="constant"))


def _around(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around a mask."""
    spans = [np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    return tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)
