"""Find pairs of rows that are too similar to be different people, from nearest-neighbour distances.

A fixed distance does not identify duplicates: twins are close, and low-rank matrices are all close. Among distinct
people with locally uniform density in d dimensions, the ratio of the distances to neighbours k + 1 and k follows a
Pareto distribution with exponent k d (Facco et al. 2017, doi:10.1038/s41598-017-11873-y). The dimension is estimated
from the neighbours beyond the first, and a pair is reported if its gap is improbable for both members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FALSE_PAIRS = 0.002  # expected number of reported rows in a cohort without duplicates, if one side were sufficient
LEAST_SIMILARITY = 0.6  # siblings share about half of their individual deviations
_FEWEST_ROWS = 8
_FEWEST_IN_SITE = 5
_COPIES = 3  # a person may occur up to this number of times, plus one
_NEAREST = 1e-9  # squared distance of rows that are equal up to round-off


@dataclass(frozen=True)
class Pair:
    """Two rows that are probably one person, and the correlation of their edges after removal of group means."""

    first: str
    second: str
    similarity: float


def alike_by_edges(edges: np.ndarray, names: Sequence[str], groups: Sequence[str]) -> list[Pair]:
    """Pairs of subjects whose edges (n_subjects, n_measures, n_edges) are too similar.

    Tested with and without removal of group means (sites, cohorts), since a scan copied to another cohort is far from
    that cohort's mean.
    """
    profiles = rank_profiles(edges)
    found: dict[tuple[str, str], Pair] = {}
    for labels in dict.fromkeys([tuple(groups), ("",) * len(names)]):
        for pair in look_alikes(standardised(profiles, labels), names, false_pairs=FALSE_PAIRS / 2):
            found.setdefault((pair.first, pair.second), pair)
    return list(found.values())


def rank_profiles(edges: np.ndarray) -> np.ndarray:
    """Ranks of each subject's edges within the subject, in [0, 1], invariant to monotone transforms.

    Args:
        edges: (n_subjects, n_measures, n_edges), NaN where a region is missing. In rows without negative
            values, zeros (absent connections) are kept and not ranked.

    Returns:
        (n_subjects, n_measures * n_edges), NaN where a region is missing; edges that are equal in all are dropped.
    """
    ranked = np.full(edges.shape, np.nan)
    for i, subject in enumerate(edges):
        for m, row in enumerate(subject):
            known = np.isfinite(row)
            low = float(row[known].min()) if known.any() else 0.0
            used = known & (row > 0) if low == 0.0 else known
            ranked[i, m, known] = 0.0
            if used.any():
                ranked[i, m, used] = stats.rankdata(row[used]) / used.sum()
    flat, raw = ranked.reshape(len(edges), -1), edges.reshape(len(edges), -1)
    known = np.isfinite(raw)
    kept = np.where(known, raw, -np.inf).max(axis=0) > np.where(known, raw, np.inf).min(axis=0)
    return flat[:, kept]


def standardised(profiles: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Profiles (n_subjects, n_edges) without their group's mean, unit variance per edge, centred per subject.

    Groups (sites, cohorts) with fewer than five rows are merged, since removing the mean of two rows would make them
    opposite.
    """
    names, counts = np.unique(np.asarray(groups, dtype=object).astype(str), return_counts=True)
    large = set(names[counts >= _FEWEST_IN_SITE])
    label = np.array([name if name in large else "" for name in map(str, groups)])
    result = profiles.copy()
    for name in np.unique(label):
        rows = label == name
        result[rows] -= _mean(profiles[rows])
    spread = np.sqrt(_mean(result**2))
    result /= np.where(spread > 1e-12, spread, 1.0)
    return np.asarray(result - _mean(result.T)[:, None])


def look_alikes(rows: np.ndarray, names: Sequence[str], *, false_pairs: float = FALSE_PAIRS) -> list[Pair]:
    """Pairs of standardised rows (n_subjects, n_edges) that are too similar, in order of improbability.

    Args:
        rows: from `standardised`; NaN where an edge is missing.
        false_pairs: expected number of rows of distinct people whose gap is called improbable.
    """
    n = len(rows)
    if n < _FEWEST_ROWS or not rows.shape[1]:
        return []
    similarity = _correlations(rows)
    distance = np.sqrt(np.maximum(1.0 - similarity, _NEAREST))
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    near = np.log(np.take_along_axis(distance, order, axis=1)[:, : _COPIES + 3])
    gaps = np.diff(near, axis=1)
    # Copies change single gaps only, so that the median over neighbours is robust.
    estimates = [1.0 / (k * max(float(gaps[:, k - 1].mean()), 1e-6)) for k in range(2, gaps.shape[1] + 1)]
    dimension = float(np.median(estimates)) * (1.0 - 1.5 / np.sqrt(n))
    alike = np.zeros((n, n), dtype=bool)
    for k in range(1, _COPIES + 1):
        improbable = n * np.exp(-k * dimension * gaps[:, k - 1]) < false_pairs
        for i in np.flatnonzero(improbable):
            alike[i, order[i, :k]] = True
    alike &= alike.T & (similarity > LEAST_SIMILARITY)
    pairs = [Pair(names[i], names[j], float(similarity[i, j])) for i, j in np.argwhere(np.triu(alike, 1))]
    return sorted(pairs, key=lambda pair: -pair.similarity)


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean over rows of the known values, 0 where none is known."""
    known = np.isfinite(x)
    return np.asarray(np.where(known, x, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _correlations(rows: np.ndarray) -> np.ndarray:
    """(n, n) correlations over the edges that both rows have."""
    known = np.isfinite(rows).astype(float)
    filled = np.nan_to_num(rows)
    own = filled**2 @ known.T  # sums of squares of i over the edges that j has
    with np.errstate(invalid="ignore", divide="ignore"):
        found = filled @ filled.T / np.sqrt(own * own.T)
    return np.clip(np.nan_to_num(found), -1.0, 1.0)
