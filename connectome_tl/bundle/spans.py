"""Ranges of a training cohort, rounded outwards, for the comparison with a new cohort."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from connectome_tl.settings.records.bundles import Span


class Flag(NamedTuple):
    """A cohort compared with one limit.

    Attributes:
        outside: (n_subjects,) whether outside. here: values of the cohort.
        decides: whether a cohort without any subject inside is refused.
        said: what is said of a subject outside, if not the limit.
        missing: (n_subjects,) which of those outside have no value; None if a missing value is not outside.
    """

    what: str
    limit: str
    outside: np.ndarray
    here: str
    decides: bool = False
    said: str = ""
    missing: np.ndarray | None = None

    def said_of(self, row: int) -> str:
        """What is said of a subject: nothing if it is within the limit."""
        if not self.outside[row]:
            return ""
        if self.missing is not None and self.missing[row]:
            return f"{self.what} missing"
        return self.said or f"{self.what} outside {self.limit}"


def outward(values: np.ndarray) -> Span | None:
    """Minimum and maximum of the known values, rounded outwards to about a tenth of their difference."""
    known = values[np.isfinite(values)].astype(float)
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    size = max((high - low) / 10, abs(high) * 0.01, 1e-12)
    step = 10.0 ** math.floor(math.log10(size))
    step = next(step * k for k in (1, 2, 5, 10) if step * k >= size * 0.999)
    digits = max(0, -math.floor(math.log10(step)))
    return Span(low=round(math.floor(low / step) * step, digits), high=round(math.ceil(high / step) * step, digits))
