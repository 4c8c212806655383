"""Association of summaries of matrices, modalities or categorical columns with the outcome.

A leak may be undetectable in single edges and obvious in all of them: weights scaled within outcome groups, cases
processed by another version, a measure computed with the outcome. The summaries are not fitted to the outcome: sums,
shares and principal components of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from connectome_tl.audit.duplicates import edges_of
from connectome_tl.audit.likeness import rank_profiles, standardised, varying
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.tasks import Task

N_COMPONENTS = 3
# fraction of subjects in the most common class of their level; fraction of variance between levels
PURE, EXPLAINED = 0.95, 0.9
_P = 0.001  # largest p value under the hypothesis of uninformative levels
_FEWEST_KNOWN = 10
_N_PERMUTATIONS = 1999
_TINY = 1e-300
_DIGITS = (2, 3, 4, 5)
_ROUND_OFF = 2e-3  # of float32, in units of the fourth digit
_INVERSE: dict[str, Callable[[np.ndarray], np.ndarray]] = {"none": np.asarray, "log1p": np.expm1, "fisher_z": np.tanh}


def summaries(cohort: Cohort) -> dict[str, np.ndarray]:
    """(n_subjects,) numbers that describe the matrices and regional measures of each subject as a whole."""
    found: dict[str, np.ndarray] = {}
    if cohort.regions:
        edges = edges_of(cohort)
        for m, measure in enumerate(cohort.measures):
            kind = cohort.transforms[m] if m < len(cohort.transforms) else "none"
            of_one = {**dict(_of_weights(edges[:, m])), **dict(_precision(_INVERSE[kind](edges[:, m]), "weights"))}
            found |= {f"{name} ({measure})": values for name, values in of_one.items()}
        found |= _between_measures(cohort)
        profiles = varying(rank_profiles(edges), edges)
        rows = np.nan_to_num(standardised(profiles, [""] * cohort.n_subjects))
        found["difference from the mean matrix"] = np.sqrt(_mean(rows**2))
        found |= _first_components(rows, "the edges")  # no scale of a subject moves them
    if cohort.as_read is not None:
        found |= {f"{name} in the file": cohort.as_read[name].to_numpy(dtype=float) for name in cohort.as_read}
    if cohort.region_features is not None:
        for f, name in enumerate(cohort.region_feature_names):
            regional = cohort.region_features[:, :, f].astype(float)
            found[f"mean {name}"] = _mean(regional)
            rows = (regional - _mean(regional.T)) / np.maximum(
                np.sqrt(_mean(((regional - _mean(regional.T)) ** 2).T)), _TINY
            )
            found[f"difference from the mean {name}"] = np.sqrt(_mean(rows**2))
            found |= {f"{what} ({name})": values for what, values in _precision(regional, "values")}
            found |= _first_components(np.nan_to_num(rows), name)
    return found


def region_means(cohort: Cohort) -> np.ndarray:
    """(n_subjects, n_measures, n_regions) mean weight of the edges of each region, NaN where there are none.

    A leak may be in no edge of a region and in their sum.
    """
    rows, others = upper_indices(cohort.n_regions)
    edges = edges_of(cohort)
    means = [
        _mean(edges[:, :, (rows == r) | (others == r)].reshape(-1, cohort.n_regions - 1))
        for r in range(cohort.n_regions)
    ]
    return np.stack(means, axis=1).reshape(cohort.n_subjects, len(cohort.measures), cohort.n_regions)


def _of_weights(edges: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Summaries of the weights (n_subjects, n_edges) of one measure, NaN where a region is missing."""
    known = np.isfinite(edges)
    yield "mean weight", _mean(edges)
    yield "density", _mean(np.where(known, edges != 0, np.nan))
    shared = _shared(np.where(known, edges, -np.inf).max(axis=1, initial=-np.inf))
    # The largest weight of a subject that lacks a region may have been there.
    yield "others with the same largest weight", np.where(known.all(axis=1) | (shared > 0), shared, np.nan)
    mean = _mean(edges)
    yield "spread of weights", np.sqrt(_mean((edges - mean[:, None]) ** 2)) / np.maximum(np.abs(mean), _TINY)


def _shared(values: np.ndarray) -> np.ndarray:
    """How many others have the same value: all matrices that were divided by their largest weight share it."""
    same = np.isclose(values[:, None], values[None], rtol=1e-6, atol=0)
    return np.asarray(same.sum(axis=1) - 1.0)


def _precision(values: np.ndarray, what: str) -> Iterator[tuple[str, np.ndarray]]:
    """Fractions of the original values (n_subjects, n_values) of a certain precision."""
    used = np.where(np.isfinite(values) & (values != 0), np.abs(values), np.nan)
    known, floor = np.isfinite(used), np.floor(np.log10(used))
    whole = np.abs(values - np.round(values)) < 1e-6 * (1 + np.abs(values))
    yield "share of integers", _mean(np.where(np.isfinite(values), whole, np.nan))
    for digits in _DIGITS:
        scaled = used / 10.0 ** (floor - digits + 1)
        round_off = _ROUND_OFF * 10.0 ** (digits - 4)
        share = _mean(np.where(known, np.abs(scaled - np.round(scaled)) < round_off, np.nan))
        yield f"share of {what} of {digits} digits", share
    with np.errstate(over="ignore"):
        half = np.abs(used - used.astype(np.float16).astype(float)) < _ROUND_OFF * 1e-3 * used
    yield f"share of {what} in half precision", _mean(np.where(known, half, np.nan))
    distinct = np.array([np.unique(np.round(row[k] / row[k].max(initial=_TINY), 7)).size for row, k in
                         zip(used, known, strict=True)], dtype=float)  # fmt: skip
    yield f"distinct {what}", distinct / np.maximum(known.sum(axis=1), 1)


def _between_measures(cohort: Cohort) -> dict[str, np.ndarray]:
    """Mean weight of each measure over that of each other one."""
    means = dict(zip(cohort.measures, (_mean(one) for one in edges_of(cohort).transpose(1, 0, 2)), strict=True))
    return {
        f"{one} over {two}": means[one] / np.where(means[two] == 0, np.nan, means[two])
        for one, two in combinations(means, 2)
    }


def _first_components(rows: np.ndarray, what: str) -> dict[str, np.ndarray]:
    """Scores of the rows (n_subjects, n_values) on their first principal components."""
    if min(rows.shape) <= N_COMPONENTS:
        return {}
    values, vectors = np.linalg.eigh(rows @ rows.T)
    largest = np.flatnonzero(values > 1e-9 * max(float(values[-1]), 1e-300))[::-1][:N_COMPONENTS]
    return {f"principal component {k + 1} of {what}": vectors[:, i] for k, i in enumerate(largest)}


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def telling_levels(column: pd.Series, outcome: np.ndarray, task: Task) -> str:
    """Finding on a categorical column whose levels are all nearly pure in the outcome, else "".

    Levels of one subject are ignored, since they are trivially pure. Columns with two levels are tested as single
    values.

    Args:
        outcome: (n_subjects,) NaN where it is missing.
    """
    text = column.astype("string")
    known = text.notna().to_numpy() & np.isfinite(outcome)
    codes = pd.factorize(text[known])[0]
    sizes = np.bincount(codes) if codes.size else np.zeros(0, dtype=int)
    inside = sizes[codes] > 1
    codes, y = codes[inside], outcome[known][inside]
    if y.size < _FEWEST_KNOWN or (sizes > 1).sum() < 3 or np.unique(y).size < 2:
        return ""
    codes = np.unique(codes, return_inverse=True)[1]
    if task.form == "value":
        share, p = _explained(codes, y)
        return f"{share:.0%} of its variance is between levels" if share > EXPLAINED and p < _P else ""
    share = _purity(codes, y.astype(int))
    if share <= PURE:
        return ""
    rng = np.random.default_rng(0)
    as_pure = sum(_purity(codes, rng.permutation(y.astype(int))) >= share for _ in range(_N_PERMUTATIONS))
    p = (1 + as_pure) / (1 + _N_PERMUTATIONS)
    return f"{share:.0%} of subjects are in a level of one outcome" if p < _P else ""


def _purity(codes: np.ndarray, classes: np.ndarray) -> float:
    """Share of subjects in the most common class of their level."""
    width = int(classes.max()) + 1
    counts = np.bincount(codes * width + classes, minlength=(int(codes.max()) + 1) * width)
    return float(counts.reshape(-1, width).max(axis=1).sum()) / classes.size


def _explained(codes: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Adjusted fraction of the variance between levels, and its p value (F test)."""
    n, k = y.size, int(codes.max()) + 1
    means = np.bincount(codes, weights=y) / np.bincount(codes)
    within, whole = float(((y - means[codes]) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    if n <= k:
        return 0.0, 1.0
    share = 1.0 - (within / (n - k)) / (whole / (n - 1))
    ratio = ((whole - within) / (k - 1)) / max(within / (n - k), 1e-300)
    return share, float(stats.f.sf(ratio, k - 1, n - k))
