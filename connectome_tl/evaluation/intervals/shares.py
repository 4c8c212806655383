"""Interval of shares of a few units."""

from __future__ import annotations

import numpy as np

_Z = 1.959964  # of a 95 % interval


def share_interval(share: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of shares of `n` units; NaN without units."""
    if n == 0:
        return np.full_like(share, np.nan), np.full_like(share, np.nan)
    wide = _Z**2 / n
    centre = (share + wide / 2) / (1 + wide)
    half = np.sqrt(wide * share * (1 - share) + wide**2 / 4) / (1 + wide)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
