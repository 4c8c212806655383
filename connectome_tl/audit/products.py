"""Products and quotients of two values that predict an outcome although neither of them does.

All pairs are screened by their correlation with the outcome, which matrix products give: with a centred outcome y, the
sums of y a b over the subjects are A' diag(y) B. Only pairs near the limit are ranked. Products are those of deviations
from the mean (an exclusive or) and those of positive values, whose logarithms are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from connectome_tl.audit.separation import CHANCE, measured
from connectome_tl.tasks import Task

_MOST = 6000  # values; the time is quadratic in their number
_AT_ONCE = 256
_ALONE = 0.5  # correlation with the outcome up to which a value does not predict it
_WORTH_A_LOOK = 0.7  # correlation of a product; that of two classes with an AUC of 0.985 is about 0.75 or more
_MOST_RANKED = 200
_FEWEST = 12  # subjects


def paired(values: np.ndarray, names: Sequence[str], outcome: np.ndarray, task: Task) -> list[str]:
    """The products and quotients of two values (n_subjects, n_values) beyond the strict limit.

    Two values that both predict are not combined, since their sum is a better predictor in honest data as well. Missing
    values are replaced by the median to choose the pairs, which are judged without them.
    """
    seen = np.isfinite(outcome)
    if not (task.is_binary or task.form == "value") or seen.sum() < _FEWEST:
        return []
    values, y = values[seen], outcome[seen]
    used = np.flatnonzero([np.unique(column[np.isfinite(column)]).size > 1 for column in values.T])
    values = values[:, used]
    known = np.isfinite(values)
    values = np.where(known, values, np.nanmedian(values, axis=0)) if used.size else values
    target = _unit(y[:, None])[:, 0]
    weak = np.abs(target @ _unit(values)) <= _ALONE
    values, known, used = values[:, weak], known[:, weak], used[weak]
    if not 2 <= used.size <= _MOST:
        return []
    allowed = CHANCE / (3 * used.size * (used.size - 1) / 2)
    centred, found = _unit(values), dict[str, float]()
    positive = np.flatnonzero((values > 0).all(axis=0))
    logs = np.log(values[:, positive])
    for word, rows, candidates, combined in (
        ("times", np.arange(used.size), _products(centred, target), lambda i, j: centred[:, i] * centred[:, j]),
        ("times", positive, _sums(logs, target, 1.0), lambda i, j: logs[:, i] + logs[:, j]),
        ("over", positive, _sums(logs, target, -1.0), lambda i, j: logs[:, i] - logs[:, j]),
    ):
        for _, i, j in sorted(candidates, reverse=True)[:_MOST_RANKED]:
            both = known[:, rows[i]] & known[:, rows[j]]
            text, p = measured(combined(i, j)[both], y[both], task, strict=True, exact=True)
            if text and p < allowed:
                found.setdefault(f"{names[used[rows[i]]]} {word} {names[used[rows[j]]]} ({text})", p)
    return sorted(found, key=lambda text: found[text])


Pair = tuple[float, int, int]  # correlation with the outcome, and two columns


def _products(centred: np.ndarray, target: np.ndarray) -> Iterator[Pair]:
    """Pairs of columns whose product correlates with the target, (n_subjects,) centred and of unit length."""
    for start in range(0, centred.shape[1], _AT_ONCE):
        part = centred[:, start : start + _AT_ONCE]
        spread = (part**2).T @ centred**2 - (part.T @ centred) ** 2 / len(target)
        yield from _large((part * target[:, None]).T @ centred, spread, start)


def _sums(logs: np.ndarray, target: np.ndarray, sign: float) -> Iterator[Pair]:
    """The same for sums of two columns, or differences with a negative sign."""
    centred = logs - logs.mean(axis=0)
    own, with_target = (centred**2).sum(axis=0), target @ centred
    for start in range(0, centred.shape[1], _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        total = with_target[part, None] + sign * with_target
        yield from _large(total, own[part, None] + own + 2 * sign * centred[:, part].T @ centred, start)


def _large(covariance: np.ndarray, spread: np.ndarray, start: int) -> Iterator[Pair]:
    r = np.abs(covariance) / np.sqrt(np.maximum(spread, 1e-12 * max(float(np.abs(spread).max()), 1e-300)))
    for i, j in np.argwhere(r > _WORTH_A_LOOK):
        if start + i < j:
            yield float(r[i, j]), int(start + i), int(j)


def _unit(values: np.ndarray) -> np.ndarray:
    """Columns centred and of unit length; constant ones are 0."""
    centred = values - values.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    return np.asarray(centred / np.where(length > 0, length, 1.0))
