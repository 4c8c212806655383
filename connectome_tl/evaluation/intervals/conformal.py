"""Conformal prediction sets and intervals.

Calibrated on out-of-fold predictions of the same procedure (cross-conformal: Vovk 2015,
doi:10.1007/s10472-013-9368-4). Sets are calibrated within each class, so the few positives are
covered as often as the many negatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.evaluation.scores.predictions import OutOfFold
from connectome_tl.settings.records.statistics import ConformalCheck


@dataclass(frozen=True, eq=False)
class ConformalSets:
    """Prediction sets: the classes that cannot be excluded for a risk.

    A class is included if at least `1 - level` of its calibration subjects (and the new one) are at least
    as nonconforming. With fewer than `level / (1 - level)` subjects of a class, it is never excluded.
    """

    positive: np.ndarray
    negative: np.ndarray
    level: float

    def holds(self, probability: np.ndarray) -> np.ndarray:
        """(n, 2) bool: whether the negative and the positive class are in the set."""
        risk = np.asarray(probability, dtype=float)
        as_negative = _p_value(self.negative, risk)
        as_positive = _p_value(1.0 - self.positive, 1.0 - risk)
        return np.column_stack([as_negative, as_positive]) > (1.0 - self.level) + 1e-12


@dataclass(frozen=True)
class ConformalInterval:
    """Prediction plus and minus a half-width, which is infinite with too few subjects for the level."""

    half_width: float
    level: float

    def bounds(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limits, each in the shape of `predicted`."""
        return predicted - self.half_width, predicted + self.half_width


def fit_conformal_sets(probability: np.ndarray, y: np.ndarray, level: float = 0.9) -> ConformalSets:
    """Calibrate on out-of-fold risks (n,) and classes (n,)."""
    _check(level)
    probability, y = np.asarray(probability, dtype=float), np.asarray(y)
    return ConformalSets(np.sort(probability[y == 1]), np.sort(probability[y == 0]), level)


def fit_conformal_interval(predicted: np.ndarray, y: np.ndarray, level: float = 0.9) -> ConformalInterval:
    """Calibrate on out-of-fold predictions (n,) and values (n,)."""
    _check(level)
    residual = np.sort(np.abs(np.asarray(predicted, dtype=float) - np.asarray(y, dtype=float)))
    rank = int(np.ceil(level * (residual.size + 1) - 1e-9))
    return ConformalInterval(float(residual[rank - 1]) if rank <= residual.size else float("inf"), level)


def conformal_check(rows: OutOfFold, task: str, model: str, binary: bool, level: float = 0.9) -> ConformalCheck:
    """Coverage out of fold: each subject's set is calibrated on the others (families left out together)."""
    _check(level)
    held, width, shape = np.full(rows.score.shape, np.nan), [], []
    for r in range(rows.n_repeats):
        seen = np.isfinite(rows.score[r])
        for i in np.flatnonzero(seen):
            others = seen & (rows.cluster != rows.cluster[i])
            if binary:
                sets = fit_conformal_sets(rows.score[r, others], rows.y_true[others], level)
                (inside,) = sets.holds(rows.score[r, [i]])
                held[r, i] = inside[int(rows.y_true[i])]
                shape.append(int(inside.sum()))
            else:
                interval = fit_conformal_interval(rows.predicted[r, others], rows.y_true[others], level)
                held[r, i] = abs(rows.predicted[r, i] - rows.y_true[i]) <= interval.half_width
                width.append(interval.half_width)
    covered = np.nanmean(held, axis=0)
    by_class = [float(covered[rows.y_true == c].mean()) if (rows.y_true == c).any() else None for c in (1, 0)]
    return ConformalCheck(
        task=task,
        model=model,
        level=level,
        coverage=float(covered.mean()),
        coverage_positive=by_class[0] if binary else None,
        coverage_negative=by_class[1] if binary else None,
        # With too few other subjects for the level the interval is infinite.
        half_width=float(np.median(width)) if width and np.isfinite(np.median(width)) else None,
        both=float(np.mean([s == 2 for s in shape])) if binary else None,
        empty=float(np.mean([s == 0 for s in shape])) if binary else None,
        n=rows.y_true.size,
        method="cross-conformal, calibrated on the other families' out-of-fold predictions"
        + (", within each class" if binary else ""),
    )


def _p_value(calibration: np.ndarray, strangeness: np.ndarray) -> np.ndarray:
    """Share of the class, including the new subject, that is at least as nonconforming."""
    ordered = np.sort(calibration)
    stranger = ordered.size - np.searchsorted(ordered, strangeness - 1e-12, side="left")
    return (stranger + 1.0) / (ordered.size + 1.0)


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise DataError("a conformal level is between 0 and 1", got=str(level))
