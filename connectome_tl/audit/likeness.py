"""Find pairs of rows that are too similar to be different people, from nearest-neighbour distances.

A fixed distance does not identify duplicates: twins are close, and low-rank matrices are all close. Among distinct
people with locally uniform density in d dimensions, the ratio of the distances to neighbours k + 1 and k follows a
Pareto distribution with exponent k d (Facco et al. 2017, doi:10.1038/s41598-017-11873-y). The dimension is estimated
from the neighbours beyond the first, and a pair is reported if its gap is improbable for both members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

FALSE_PAIRS = 0.002  # expected number of reported rows in a cohort without duplicates, if one side were sufficient
LEAST_SIMILARITY = 0.6  # siblings share about half of their individual deviations
_FEWEST_ROWS = 8
_FEWEST_IN_SITE = 5
_FEWEST_SHARED, _SHARED = 20, 0.15  # edges that both rows of a pair have, and their number relative to that of most
_COPIES = 3  # a person may occur up to this number of times, plus one
_NEAREST = 1e-9  # squared distance of rows that are equal up to round-off
_TIED = 0.05  # share of a row's edges from which on equal smallest values, or zeros, count as absent connections


@dataclass(frozen=True)
class Pair:
    """Two rows that are probably one person, and the correlation of their edges after removal of group means."""

    first: str
    second: str
    similarity: float


class Likeness(NamedTuple):
    """Similarity of all pairs of rows, at most 1, and their mean squared difference; (n, n) each."""

    similarity: np.ndarray
    apart: np.ndarray

    @property
    def close(self) -> np.ndarray:
        """(n, n) bool: pairs that differ much less than a row usually does from the nearest one that is no copy."""
        usual = np.median(np.sort(self.apart, axis=1)[:, min(_COPIES + 2, len(self.apart) - 1)])
        return np.asarray(self.apart < (1 - LEAST_SIMILARITY) * usual)


def absent(row: np.ndarray) -> np.ndarray:
    """(n_edges,) bool: zeros where they are the smallest value or many, else the smallest value if many edges have it.

    The absent connections of a subject remain one value if its weights are standardised or their logarithms taken.
    """
    low = float(row.min(initial=np.inf))
    many = max(2.0, _TIED * row.size)
    for value in (0.0, low):
        equal = row == value
        if (value == low == 0.0 and equal.any()) or equal.sum() >= many:
            return np.asarray(equal)
    return np.zeros(row.shape, dtype=bool)


def rank_profiles(edges: np.ndarray) -> np.ndarray:
    """Ranks of each subject's edges within the subject, in [0, 1], invariant to monotone transforms.

    Args:
        edges: (n_subjects, n_measures, n_edges), NaN where a region is missing. Absent connections are not ranked.

    Returns:
        (n_subjects, n_measures * n_edges), 0 for absent connections and NaN where a region is missing.
    """
    ranked = np.full(edges.shape, np.nan)
    for i, subject in enumerate(edges):
        for m, row in enumerate(subject):
            known = np.isfinite(row)
            used = np.flatnonzero(known)[~absent(row[known])]
            ranked[i, m, known] = 0.0
            ranked[i, m, used] = stats.rankdata(row[used]) / max(used.size, 1)
    return ranked.reshape(len(edges), -1)


def varying(profiles: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Profiles without the edges that have one weight in all subjects."""
    raw = edges.reshape(len(edges), -1)
    known = np.isfinite(raw)
    return profiles[:, np.where(known, raw, -np.inf).max(axis=0) > np.where(known, raw, np.inf).min(axis=0)]


def standardised(profiles: np.ndarray, groups: Sequence[str], others: np.ndarray | None = None) -> np.ndarray:
    """Profiles (n_subjects, n_edges) without their group's mean, unit variance per edge, centred per subject.

    Groups (sites, cohorts) with fewer than five rows are merged, since removing the mean of two rows would make them
    opposite.

    Args:
        others: (n_subjects, n_edges) rows to return in place of the profiles, with the means and spreads of these.
    """
    names, counts = np.unique(np.asarray(groups, dtype=object).astype(str), return_counts=True)
    large = set(names[counts >= _FEWEST_IN_SITE])
    label = np.array([name if name in large else "" for name in map(str, groups)])
    result, rest = profiles.copy(), (profiles if others is None else others).copy()
    for name in np.unique(label):
        rows = label == name
        mean = mean_of_known(profiles[rows])
        result[rows] -= mean
        rest[rows] -= mean
    spread = np.sqrt(mean_of_known(result**2))
    rest /= np.where(spread > 1e-12, spread, 1.0)
    return np.asarray(rest - mean_of_known(rest.T)[:, None])


def likeness(rows: np.ndarray, others: np.ndarray | None = None) -> Likeness:
    """Correlations over the edges that both rows have, and the differences there; with `others`, (n, n) across."""
    others = rows if others is None else others
    known, theirs = np.isfinite(rows).astype(float), np.isfinite(others).astype(float)
    filled, other = np.nan_to_num(rows), np.nan_to_num(others)
    own = filled**2 @ theirs.T  # sums of squares of i over the edges that j has
    their = known @ (other**2).T
    products, shared = filled @ other.T, known @ theirs.T
    enough = shared >= max(1.0, min(_FEWEST_SHARED, rows.shape[1]), _SHARED * float(np.median(shared)))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.clip(np.nan_to_num(products / np.sqrt(own * their)), -1.0, 1.0)
        apart = np.maximum(own + their - 2 * products, 0.0) / shared
    return Likeness(np.where(enough, found, 0.0), np.where(enough, apart, np.inf))


def look_alikes(
    similarity: np.ndarray,
    close: np.ndarray,
    names: Sequence[str],
    *,
    false_pairs: float = FALSE_PAIRS,
    least_dimension: float = 0.0,
) -> list[Pair]:
    """Pairs of rows that are too similar, in order of similarity.

    The gap is judged by the similarity, which has no scale. The rows of a small group (three scans of another scanner)
    are similar by what the group shares; they are not reported since they differ as much as rows do elsewhere.

    Args:
        similarity: (n_subjects, n_subjects) symmetric, at most 1.
        close: (n_subjects, n_subjects) bool, pairs that may be reported.
        false_pairs: expected number of rows of distinct people whose gap is called improbable.
        least_dimension: of the data; nothing is reported in fewer, where rows nearly coincide by chance.
    """
    n = len(similarity)
    if n < _FEWEST_ROWS:
        return []
    distance = np.sqrt(np.maximum(1.0 - similarity, _NEAREST))
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    near = np.log(np.take_along_axis(distance, order, axis=1)[:, : _COPIES + 3])
    gaps = np.diff(near, axis=1)
    # Copies change single gaps only, so that the median over neighbours is robust.
    estimates = [1.0 / (k * max(float(gaps[:, k - 1].mean()), 1e-6)) for k in range(2, gaps.shape[1] + 1)]
    dimension = float(np.median(estimates)) * (1.0 - 1.5 / np.sqrt(n))
    if dimension < least_dimension:
        return []
    alike = np.zeros((n, n), dtype=bool)
    for k in range(1, _COPIES + 1):
        improbable = n * np.exp(-k * dimension * gaps[:, k - 1]) < false_pairs
        for i in np.flatnonzero(improbable):
            alike[i, order[i, :k]] = True
    alike &= alike.T & (similarity > LEAST_SIMILARITY) & close
    pairs = [Pair(names[i], names[j], float(similarity[i, j])) for i, j in np.argwhere(np.triu(alike, 1))]
    return sorted(pairs, key=lambda pair: -pair.similarity)


def mean_of_known(x: np.ndarray) -> np.ndarray:
    """Mean over rows of the known values, 0 where none is known."""
    known = np.isfinite(x)
    return np.asarray(np.where(known, x, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
