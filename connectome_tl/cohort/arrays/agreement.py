"""Find subjects whose edges have another pattern or scale than those of the others.

The causes are rows in another order, and another unit or measure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.cohort.findings import listed
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.plurals import counted

_FEWEST = 5  # subjects
_USUAL = 0.4  # correlation with the mean of the others from which on edges of a cohort resemble each other
_FAR = 0.25  # share of the usual correlation; rows in another order are below it
_TIMES, _WIDE = float(np.log(8)), 6.0  # distance in logarithms, and in half widths of the densest half
_HALF, _MANY = 0.5, 10.0  # share below which subjects are odd, too, if it is that many deviations away


def unlike_others(weights: np.ndarray, ids: Sequence[str], seen: np.ndarray) -> list[str]:
    """A note on subjects whose edges hardly correlate with the mean of the others, while those of most do.

    Args:
        weights: (n_subjects, n_measures, n_regions, n_regions); the first measure is compared.
        seen: (n_subjects,) bool: subjects with a connectome.
    """
    at = np.flatnonzero(seen)
    if len(at) < _FEWEST or weights.shape[-1] < 3:
        return []
    upper = upper_indices(weights.shape[-1])
    r = _with_mean(weights, at, np.ones(len(at), dtype=bool), upper)
    r = _with_mean(weights, at, r >= np.median(r), upper)  # of the half that agrees, also where several differ
    usual = float(np.median(r))
    limit = max(_FAR * usual, _HALF * usual if usual - _MANY * _spread(r) > _HALF * usual else 0.0)
    odd = [f"{ids[i]} (r = {one:.2f})" for i, one in zip(at, r, strict=True) if one < limit]
    if usual < _USUAL or not odd:
        return []
    return [
        f"edges of {counted(len(odd), 'subject')} do not resemble those of the others (correlation with their mean; "
        f"the median of all subjects is {usual:.2f}): check the order of the rows, and the measure, in {listed(odd, 6)}"
    ]


def of_another_scale(weights: np.ndarray, measures: Sequence[str], ids: Sequence[str], seen: np.ndarray) -> list[str]:
    """A note for each measure on subjects whose edges are many times larger or smaller than those of the others.

    Sums of |edge| are compared with the densest half of them, so that a group in another unit is found, too.

    Args:
        weights: (n_subjects, n_measures, n_regions, n_regions), before a transform.
        seen: (n_subjects,) bool: subjects with a connectome.
    """
    notes = []
    for k, measure in enumerate(measures):
        sums = np.array([float(np.nansum(np.abs(one[k]), dtype=float)) if is_seen else 0.0
                         for one, is_seen in zip(weights, seen, strict=True)])  # fmt: skip
        at = np.flatnonzero((sums > 0) & np.isfinite(sums))
        if len(at) < _FEWEST:
            continue
        size = np.log(sums[at])
        low, high = _densest_half(size)
        middle, limit = (low + high) / 2, max(_TIMES, _WIDE * (high - low) / 2)
        odd = [
            f"{ids[i]} ({np.exp(one):.3g} times)" for i, one in zip(at, size - middle, strict=True) if abs(one) > limit
        ]
        if odd:
            notes.append(
                f"edges of {counted(len(odd), 'subject')} have another scale than those of the others (sum of "
                f"{measure}, relative to that of most): check the unit, and the measure, in {listed(odd, 6)}"
            )
    return notes


def _densest_half(values: np.ndarray) -> tuple[float, float]:
    """The narrowest range that holds half of the values."""
    known, n = np.sort(values), max(2, len(values) // 2)
    start = int(np.argmin(known[n - 1 :] - known[: len(known) - n + 1]))
    return float(known[start]), float(known[start + n - 1])


def _with_mean(
    weights: np.ndarray, at: np.ndarray, reference: np.ndarray, upper: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Correlation of each subject with the mean of the others in the reference, (n_seen,)."""
    total = np.zeros(len(upper[0]))
    for i in at[reference]:  # one subject at a time, since the array may be memory-mapped
        total += _edges(weights[i, 0], upper)
    pairs = zip(at, reference, strict=True)
    return np.array([_correlation(own := _edges(weights[i, 0], upper), total - within * own) for i, within in pairs])


def _spread(r: np.ndarray) -> float:
    """Median absolute deviation."""
    return float(np.median(np.abs(r - np.median(r))))


def _edges(matrix: np.ndarray, upper: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Edges of a subject, (n_edges,), of which the largest is 1."""
    edges = np.nan_to_num(matrix[upper].astype(float), posinf=0.0, neginf=0.0)
    largest = float(np.abs(edges).max(initial=0.0))
    return edges / largest if largest > 0 else edges


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's r, 0 for a constant."""
    one, other = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size > 0 else 0.0
