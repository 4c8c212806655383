"""Wilson's interval of shares (doi:10.1080/01621459.1927.10502953)."""

from __future__ import annotations

import numpy as np
from scipy import stats

Z95 = float(stats.norm.ppf(0.975))


def wilson_interval(share: np.ndarray, n: float) -> tuple[np.ndarray, np.ndarray]:
    """95 % limits of shares of `n` independent units; NaN without units."""
    if n == 0:
        return np.full_like(share, np.nan), np.full_like(share, np.nan)
    wide = Z95**2 / n
    centre = (share + wide / 2) / (1 + wide)
    half = np.sqrt(wide * share * (1 - share) + wide**2 / 4) / (1 + wide)
    # At 0 and 1 an end equals the share; rounding must not exclude a true value of exactly 0 or 1.
    low = np.where(share == 0, 0.0, np.maximum(centre - half, 0.0))
    return low, np.where(share == 1, 1.0, np.minimum(centre + half, 1.0))
