"""Volumes of a cohort that differ from those of subjects of similar age: size, height, voxels of one value.

The expected size at an age and the spread around it are those of the cohort, by a robust regression and the median
absolute deviation, so that a few bad volumes do not hide each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

_LEAST, _ENOUGH = 6, 15  # volumes that are compared, and for the narrow margins and a regression on age
_OUTLYING = 4.5  # robust standard deviations
_SIZE, _HEIGHT, _REPEATED = 0.4, 0.2, 0.06  # least deviations: of two logarithms, and of a share
_FEW_SIZE, _FEW_HEIGHT = 0.9, 0.3  # the same with few volumes, and of the size if ages are unknown


class HeadNumbers(Protocol):
    """Numbers of a volume, see `imaging.grids.Gridded`."""

    @property
    def head_ml(self) -> float: ...

    @property
    def head_mm(self) -> tuple[float, ...]: ...

    @property
    def repeated(self) -> float: ...

    @property
    def is_stripped(self) -> bool: ...


def unlike_heads(heads: Sequence[HeadNumbers], ages: Sequence[float]) -> list[tuple[int, str]]:
    """Row numbers of outlying volumes, each with a note; none among fewer than six.

    Skull-stripped volumes are compared with each other, and so are the others.

    Args:
        ages: of all volumes, or NaN.
    """
    found: list[tuple[int, str]] = []
    for kind in (False, True):
        rows = [i for i, one in enumerate(heads) if one.is_stripped == kind]
        if len(rows) < _LEAST:
            continue
        few = len(rows) < _ENOUGH
        own, age = [heads[i] for i in rows], np.asarray(ages, dtype=float)[rows]
        size = np.log([one.head_ml for one in own])
        width, length, height = np.log([one.head_mm for one in own]).T
        expected = np.zeros(len(size)) if few else _by_age(size, age)
        for at, ratio in _outlying(size - expected, _SIZE if expected.any() else _FEW_SIZE):
            found.append(
                (rows[at], f"the head has {np.exp(ratio):.2f} times the volume expected in this cohort: voxel sizes?")
            )
        for at, ratio in _outlying(height - (width + length) / 2, _FEW_HEIGHT if few else _HEIGHT):
            if ratio < 0:
                found.append((rows[at], f"the head is {1 - np.exp(ratio):.0%} lower than others: it may be cut off"))
        for at, more in _outlying(np.array([one.repeated for one in own]), _REPEATED):
            if more > 0:
                share = own[at].repeated
                found.append((rows[at], f"{share:.0%} of the voxels of the head have one value: missing voxels?"))
    return sorted(found)


def _outlying(values: np.ndarray, least: float) -> list[tuple[int, float]]:
    """Places far from the median, with the difference; `least` is the smallest difference that counts."""
    difference = values - np.median(values)
    limit = max(_OUTLYING * 1.4826 * float(np.median(np.abs(difference))), least)
    return [(int(i), float(difference[i])) for i in np.flatnonzero(np.abs(difference) > limit)]


def _by_age(values: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """Expected values by a robust quadratic in age; 0 if an age is unknown or all are equal."""
    from sklearn.linear_model import HuberRegressor

    if not np.isfinite(ages).all() or np.ptp(ages) == 0:
        return np.zeros(len(values))
    x = (ages - ages.mean()) / ages.std()
    powers = np.column_stack([x, x**2])
    return np.asarray(HuberRegressor(alpha=1e-3, max_iter=1000).fit(powers, values).predict(powers))
