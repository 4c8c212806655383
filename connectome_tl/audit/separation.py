"""How well a single value separates or explains an outcome, and how improbable that is by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

import numpy as np
from scipy import special, stats

from connectome_tl.tasks import Task

AUC_LIMIT, R2_LIMIT = 0.95, 0.9
# within groups and of combined columns, of which there are many, and where a good predictor may be nearly perfect
STRICT_AUC, STRICT_R2 = 0.985, 0.95
CHANCE = 0.01  # probability that any value of a kind is reported by chance
FEWEST = 3  # in each class
_FEWEST_IN_GROUP = 10  # with values of an outcome: p values of rank correlations of fewer are poor approximations
_MOST_EXACT = 40  # subjects of a group whose p value is exact
_ROUNDING = 1e-6  # margin below a limit for values that are screened together


def too_good(values: np.ndarray, names: Sequence[str], outcome: np.ndarray, task: Task) -> list[str]:
    """The values beyond the limit that are unlikely by chance, with their measure."""
    seen = np.isfinite(outcome)
    values, outcome = values[seen], outcome[seen]
    varies = _varying(values)
    allowed = CHANCE / max(int(varies.sum()), 1)
    found = []
    for k in np.flatnonzero(varies & ~(_screened(values, outcome, task) < limit(task) - _ROUNDING)):
        known = np.isfinite(values[:, k])
        text, p = measured(values[known, k], outcome[known], task)
        if text and p < allowed:
            found.append(f"{names[k]} ({text})")
    return found


def too_good_within(
    values: np.ndarray, names: Sequence[str], groupings: Mapping[str, np.ndarray], outcome: np.ndarray, task: Task
) -> list[str]:
    """The values beyond the limit within the groups of a grouping, in all of them together or in one.

    The direction may differ between groups: a residual after site means, or a sign that each site reversed.

    Args:
        groupings: name -> (n_subjects,) level of each subject, "" where unknown.
    """
    rows = {
        (name, level): np.flatnonzero((levels == level) & np.isfinite(outcome))
        for name, levels in groupings.items()
        for level in np.unique(levels[levels != ""])
    }
    rows = {key: at for key, at in rows.items() if _enough(outcome[at], task)}
    sets = [[key] for key in rows]
    sets += [keys for name in groupings if len(keys := [key for key in rows if key[0] == name]) > 1]
    allowed = CHANCE / max(int(_varying(values).sum()) * len(sets), 1)
    screened = {key: _screened(values[at], outcome[at], task) for key, at in rows.items()}
    found: dict[str, str] = {}
    least = limit(task, strict=True)
    for keys in sets:
        sizes = np.array([rows[key].size for key in keys], dtype=float)
        whole = sum(size * screened[key] for size, key in zip(sizes, keys, strict=True)) / sizes.sum()
        for k in np.flatnonzero(~(whole < least - _ROUNDING)):
            parts = [rows[key][np.isfinite(values[rows[key], k])] for key in keys]
            if not all(_enough(outcome[at], task) and np.ptp(values[at, k]) > 0 for at in parts):
                continue
            measures = [_measure(values[at, k], outcome[at], task, exact=True) for at in parts]
            value = float(np.average([one[1] for one in measures], weights=[at.size for at in parts]))
            # Fisher's method: the groups have no subject in common.
            p = float(stats.chi2.sf(-2 * np.log(np.maximum([one[2] for one in measures], 1e-300)).sum(), 2 * len(keys)))
            if value > least and p < allowed:
                where = f"{keys[0][0]} {keys[0][1]}" if len(keys) == 1 else f"each {keys[0][0]}"
                found[names[k]] = f"{names[k]} within {where} ({measures[0][0]} {value:.2f})"
    return list(found.values())


def limit(task: Task, *, strict: bool = False) -> float:
    """The AUC or R2 above which a value is reported."""
    if task.form == "value":
        return STRICT_R2 if strict else R2_LIMIT
    return STRICT_AUC if strict else AUC_LIMIT


def measured(
    one: np.ndarray, y: np.ndarray, task: Task, *, strict: bool = False, exact: bool = False
) -> tuple[str, float]:
    """AUC or R2 of a value if it is above the limit, else "", and its p value."""
    name, value, p = _measure(one, y, task, exact=exact)
    return (f"{name} {value:.2f}", p) if value > limit(task, strict=strict) else ("", 1.0)


def _measure(one: np.ndarray, y: np.ndarray, task: Task, *, exact: bool = False) -> tuple[str, float, float]:
    name, value, p = _r2(one, y) if task.form == "value" else _auc(one, y, task, exact=exact)
    return name, value, max(p, _least_p(one), _least_p(y))


def _least_p(values: np.ndarray) -> float:
    """1 / the number of different orders of the values: the smallest p value that a permutation test can have.

    Approximate p values are far below it if nearly all values are equal.
    """
    ties = np.unique(values, return_counts=True)[1]
    return float(np.exp(special.gammaln(ties + 1.0).sum() - special.gammaln(values.size + 1.0)))


def _enough(y: np.ndarray, task: Task) -> bool:
    if task.form == "value":
        return bool(y.size >= _FEWEST_IN_GROUP and np.ptp(y) > 0)
    return any(min(cut.sum(), (~cut).sum()) >= FEWEST for cut in _cuts(y, task))


def _varying(values: np.ndarray) -> np.ndarray:
    return np.array([np.unique(v[np.isfinite(v)]).size > 1 for v in values.T], dtype=bool)


def _screened(values: np.ndarray, y: np.ndarray, task: Task) -> np.ndarray:
    """(n_values,) AUC or R2 of each value, over the subjects who have it; NaN if it is constant.

    A test of each value alone takes SciPy a millisecond, and a connectome has thousands of edges.
    """
    found = np.full(values.shape[1], np.nan)
    patterns, which = np.unique(np.isfinite(values), axis=1, return_inverse=True)
    for k, known in enumerate(patterns.T):
        here = np.flatnonzero(which.ravel() == k)
        if known.any():
            found[here] = _best(values[known][:, here], y[known], task)
    return found


def _best(values: np.ndarray, y: np.ndarray, task: Task) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ranks = stats.rankdata(values, axis=0)
        if task.form == "value":
            return np.maximum(_squared_correlation(values, y), _squared_correlation(ranks, stats.rankdata(y)))
        return np.asarray(np.array([_separation(ranks, positive) for positive in _cuts(y, task)]).max(axis=0))


def _squared_correlation(values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n_values,) of each column with y; NaN where a value is constant."""
    x, y = values - values.mean(axis=0), y - y.mean()
    x, y = x / np.abs(x).max(axis=0), y / np.abs(y).max()  # squares that neither overflow nor vanish
    return np.asarray((y @ x) ** 2 / ((x**2).sum(axis=0) * (y**2).sum()))


def _separation(ranks: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(n_values,) AUC of each column, or 1 less it where that is more; 0.5 where a class has too few."""
    n, n_positive = positive.size, int(positive.sum())
    if min(n_positive, n - n_positive) < FEWEST:
        return np.full(ranks.shape[1], 0.5)
    won = ranks[positive].sum(axis=0) - n_positive * (n_positive + 1) / 2
    auc = won / (n_positive * (n - n_positive))
    return np.asarray(np.maximum(auc, 1 - auc))


def _r2(one: np.ndarray, y: np.ndarray) -> tuple[str, float, float]:
    if one.size < 4 or np.ptp(y) == 0 or np.ptp(one) == 0:
        return "R2", 0.0, 1.0
    linear, ranked = stats.pearsonr(one, y), stats.spearmanr(one, y)
    # Two outliers that coincide give a correlation near 1 and a tiny p value.
    value = min([float(linear[0]) ** 2, *(_r2_without(one, y, np.abs(v - np.median(v)).argmax()) for v in (one, y))])
    return max(
        ("R2", value, float(linear[1])), ("R2 of ranks", float(ranked[0]) ** 2, float(ranked[1])), key=itemgetter(1)
    )


def _r2_without(one: np.ndarray, y: np.ndarray, subject: np.intp) -> float:
    one, y = np.delete(one, subject), np.delete(y, subject)
    return float(np.corrcoef(one, y)[0, 1]) ** 2 if np.ptp(one) > 0 and np.ptp(y) > 0 else 0.0


def _cuts(y: np.ndarray, task: Task) -> list[np.ndarray]:
    """(n_subjects,) bool each: the positive one, those above a level, or those of a class."""
    if task.is_binary:
        return [y == 1]
    return [y > c if task.form == "levels" else y == c for c in range(task.n_levels)]


def _auc(one: np.ndarray, y: np.ndarray, task: Task, *, exact: bool = False) -> tuple[str, float, float]:
    """The best separation of two classes: above a level where levels have an order, else one against the rest."""
    cuts = _cuts(y, task)
    best, p_best = 0.5, 1.0
    for positive in cuts:
        if min(positive.sum(), (~positive).sum()) < FEWEST:
            continue
        method = "exact" if exact and one.size <= _MOST_EXACT and np.unique(one).size == one.size else "auto"
        won, p = stats.mannwhitneyu(one[positive], one[~positive], method=method)
        auc = float(won) / (positive.sum() * (~positive).sum())
        if max(auc, 1 - auc) > best:
            best, p_best = max(auc, 1 - auc), float(p) * len(cuts)
    return "AUC", best, p_best
