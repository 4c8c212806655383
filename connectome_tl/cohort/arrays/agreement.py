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
_COMMON, _FEWEST_EDGES = 0.1, 20  # share of edges from which on they are common
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
        weights: (n_subjects, n_measures, n_regions, n_regions), before a transform; the diagonal is not used.
        seen: (n_subjects,) bool: subjects with a connectome.
    """
    notes = []
    for k, measure in enumerate(measures):
        pairs = zip(weights, seen, strict=True)
        sums = np.array([_off_diagonal(one[k]) if is_seen else 0.0 for one, is_seen in pairs])
        notes += _other_scale(sums, ids, "edges", f"sum of {measure}")
    return notes


def features_of_another_scale(features: np.ndarray, names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """`of_another_scale` for measures of regions, (n_subjects, n_regions, n_features), NaN where missing."""
    sums, n = np.nansum(np.abs(features), axis=1, dtype=float), (~np.isnan(features)).sum(axis=1)
    means = np.divide(sums, n, out=np.zeros_like(sums), where=n > 0)
    return [note for k, name in enumerate(names) for note in _other_scale(means[:, k], ids, name, f"mean {name}")]


def _other_scale(sizes: np.ndarray, ids: Sequence[str], what: str, compared: str) -> list[str]:
    """A note on sizes (n_subjects,) that are far from the densest half of those above 0."""
    at = np.flatnonzero((sizes > 0) & np.isfinite(sizes))
    if len(at) < _FEWEST:
        return []
    size = np.log(sizes[at])
    low, high = _densest_half(size)
    middle, limit = (low + high) / 2, max(_TIMES, _WIDE * (high - low) / 2)
    odd = [f"{ids[i]} ({np.exp(one):.3g} times)" for i, one in zip(at, size - middle, strict=True) if abs(one) > limit]
    if not odd:
        return []
    return [
        f"{what} of {counted(len(odd), 'subject')} have another scale than those of the others ({compared}, relative "
        f"to that of most): check the unit, and the measure, in {listed(odd, 6)}"
    ]


def _off_diagonal(matrix: np.ndarray) -> float:
    size = np.abs(matrix)
    return float(np.nansum(size, dtype=float) - np.nansum(np.diagonal(size), dtype=float))


def of_another_kind(weights: np.ndarray, ids: Sequence[str], seen: np.ndarray, node_mask: np.ndarray) -> list[str]:
    """Notes on subjects whose edges were made in another way than those of the others.

    The diagonal of correlations is 1, that of Fisher's z is not; thresholded and absolute correlations have no negative
    edges, and thresholded edges are 0.

    Args:
        weights: (n_subjects, n_measures, n_regions, n_regions), before a transform; the first measure is compared.
        seen: (n_subjects,) bool: subjects with a connectome. node_mask: (n_subjects, n_regions) bool.
    """
    at = np.flatnonzero(seen & (node_mask.sum(axis=1) > 2))
    if len(at) < _FEWEST:
        return []
    upper = upper_indices(weights.shape[-1])
    ones, negative, zero = np.zeros(len(at), dtype=bool), np.zeros(len(at)), np.zeros(len(at))
    for row, i in enumerate(at):
        there = node_mask[i]
        edges = weights[i, 0][upper][there[upper[0]] & there[upper[1]]]
        ones[row] = np.allclose(np.diagonal(weights[i, 0])[there], 1, rtol=0, atol=1e-5)
        negative[row], zero[row] = (edges < 0).mean(), (edges == 0).mean()
    known = [ids[i] for i in at]
    notes = []
    if ones.any() and not ones.all():
        fewer = ones if 2 * ones.sum() < len(ones) else ~ones
        odd = [one for one, is_odd in zip(known, fewer, strict=True) if is_odd]
        notes.append(
            f"the diagonal is 1 in {counted(int(ones.sum()), 'subject')} and not in {int((~ones).sum())}: are some "
            f"matrices correlations and others Fisher's z, or another measure? Check {listed(odd, 6)}"
        )
    if len(upper[0]) < _FEWEST_EDGES:
        return notes
    notes += _only_some(negative, "negative edges", "were the others thresholded, or absolute values taken?", known)
    notes += _only_some(zero, "edges of 0", "were some of the matrices thresholded and others not?", known)
    return notes


def _only_some(share: np.ndarray, what: str, question: str, ids: Sequence[str]) -> list[str]:
    """A note if edges of a kind are common in some subjects and absent in others, and these are fewer than half."""
    none, many = share == 0, share >= _COMMON
    if not (none.any() and many.any() and (none | many).all()):
        return []
    fewer = none if 2 * none.sum() < len(none) else many
    odd = [one for one, is_odd in zip(ids, fewer, strict=True) if is_odd]
    usual = 100 * float(np.median(share[many]))
    return [
        f"{counted(int(many.sum()), 'subject has', 'subjects have')} {what} (median {usual:.0f} % of all) and "
        f"{int(none.sum())} none: {question} Check {listed(odd, 6)}"
    ]


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
