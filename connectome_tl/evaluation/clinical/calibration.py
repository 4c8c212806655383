"""Calibration in the large, slope, curve, scaled Brier score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize
from scipy.special import expit

from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals.out_of_fold import (
    TEST_ONLY,
    clustered_half_width,
    proportion_interval,
)
from connectome_tl.evaluation.scores.losses import brier_interval
from connectome_tl.evaluation.scores.predictions import Interval, OutOfFold
from connectome_tl.plurals import counted
from connectome_tl.settings.metrics import METRICS, Estimand
from connectome_tl.settings.records.results import Score
from connectome_tl.settings.records.scores import NOT_ESTIMABLE
from connectome_tl.settings.records.statistics import CalibrationCurve
from connectome_tl.tasks import Task

_LIMIT = 20.0  # of a logit; beyond it a fit has diverged (the classes are separated)
_LEAST_INFORMATION = 1.0  # sum of p (1 - p), without clipped risks, below which no intercept is estimated
_CLIP = 1e-6
_LEAST_SPREAD = 0.1  # SD of the logits over subjects below which no slope is estimated


def logit(probability: np.ndarray) -> np.ndarray:
    """Log odds of probabilities clipped to [1e-6, 1 - 1e-6]."""
    kept = np.clip(probability, _CLIP, 1 - _CLIP)
    return np.log(kept / (1 - kept))


def calibration_scores(
    rows: OutOfFold, task: Task, model: str, base: OutOfFold | None = None, estimand: Estimand = "procedure"
) -> list[Score]:
    """Calibration intercept (ideal: 0), slope (ideal: 1; below 1 risks are too extreme) and scaled Brier score.

    The intercept is that of a logistic model with the logit as offset, the slope that of a logistic
    model on the logit (Van Calster et al. 2016, doi:10.1016/j.jclinepi.2015.12.005), fitted in each
    repeat and averaged. Scaled Brier is 1 - Brier / Brier of `base` (the `prevalence` model), or of
    the overall prevalence. NaN, with a reason, if the classes are separated, a class is missing, or the
    risks hardly vary.
    """
    x = logit(rows.score)
    found: dict[str, Interval] = {}
    for name, fit in (("calibration_intercept", _intercept), ("calibration_slope", _slope)):
        parts = [fit(x[r, seen], rows.y_true[seen]) for r, seen in enumerate(np.isfinite(x))]
        value = float(np.mean([estimate for estimate, _ in parts]))
        low = high = float("nan")
        if np.isfinite(value):
            influence = np.zeros(rows.y_true.size)
            for (_, one), seen in zip(parts, np.isfinite(x)):
                influence[seen] += one / len(parts)
            half = clustered_half_width(influence, rows.cluster, METRICS[name].widening[estimand])
            low, high = value - half, value + half
        found[name] = (value, low, high)
    found["scaled_brier"] = _scaled_brier(rows, base, estimand)
    return [
        score.model_copy(update={"reason": NOT_ESTIMABLE}) if not np.isfinite(score.value) else score
        for score in rows.scores(found, task, model, estimand)
    ]


def _scaled_brier(rows: OutOfFold, base: OutOfFold | None, estimand: Estimand) -> Interval:
    """The Brier score and its interval, against the Brier score of the prevalence."""
    score = np.full_like(rows.score, rows.y_true.mean()) if base is None else base.score
    reference = float(np.nanmean((score - rows.y_true) ** 2, axis=0).mean())
    brier, low, high = brier_interval("brier", rows, estimand)
    if reference == 0:
        return float("nan"), float("nan"), float("nan")
    return 1.0 - brier / reference, 1.0 - high / reference, 1.0 - low / reference


def _intercept(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Estimate and influences (n,) of the intercept with offset x; NaN for one class, or for risks near 0 and 1."""
    if y.min() == y.max():
        return float("nan"), np.full(y.size, np.nan)

    def gap(a: float) -> float:
        return float((y - expit(a + x)).sum())

    a = float(optimize.brentq(gap, -50.0, 50.0))
    p = expit(a + x)
    information, clipped = p * (1 - p), np.abs(x) >= logit(np.array(1 - 2 * _CLIP))
    if information[~clipped].sum() < _LEAST_INFORMATION:
        return float("nan"), np.full(y.size, np.nan)
    return a, (y - p) / information.sum()


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Estimate and influences (n,) of the slope on x; NaN if it is infinite or the risks hardly vary."""
    undefined = float("nan"), np.full(y.size, np.nan)
    if y.min() == y.max() or x.std() < _LEAST_SPREAD:
        return undefined
    design = np.column_stack([np.ones(y.size), (x - x.mean()) / x.std()])
    theta = np.array([logit(np.array([y.mean()]))[0], 0.0])
    for _ in range(100):
        p = expit(design @ theta)
        information = (design * (p * (1 - p))[:, None]).T @ design
        if np.linalg.cond(information) > 1e10 or np.abs(theta).max() > _LIMIT:
            return undefined
        step = np.linalg.solve(information, design.T @ (y - p))
        theta = theta + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    p = expit(design @ theta)
    information = (design * (p * (1 - p))[:, None]).T @ design
    influence = np.linalg.solve(information, (design * (y - p)[:, None]).T)[1]
    return float(theta[1] / x.std()), influence / x.std()


def calibration_curve(rows: OutOfFold, task: str, model: str, group_size: int = 10) -> CalibrationCurve:
    """Observed share against mean predicted risk, in groups of at least `group_size` by mean risk."""
    risk = np.nanmean(rows.score, axis=0)
    groups = np.array_split(np.argsort(risk, kind="stable"), max(1, risk.size // group_size))
    bounds = [proportion_interval(rows.y_true[g], rows.cluster[g], TEST_ONLY) for g in groups]
    return CalibrationCurve(
        task=task,
        model=model,
        predicted=tuple(float(risk[g].mean()) for g in groups),
        observed=tuple(float(rows.y_true[g].mean()) for g in groups),
        low=tuple(low for low, _ in bounds),
        high=tuple(high for _, high in bounds),
        n=tuple(g.size for g in groups),
        method="mean risk over repeats, groups of equal size, Wilson intervals of the observed share",
    )


@dataclass(frozen=True)
class Platt:
    """Recalibrated risk: sigmoid(intercept + slope * logit(risk)) with a positive slope, which preserves ranks."""

    intercept: float
    slope: float
    train_ids: tuple[str, ...] = ()

    def apply(self, probability: np.ndarray) -> np.ndarray:
        """Recalibrated risks in the shape of `probability`."""
        return expit(self.intercept + self.slope * logit(probability))


def fit_platt(
    probability: np.ndarray,
    y: np.ndarray,
    train_ids: tuple[str, ...] = (),
    method: Literal["platt", "temperature"] = "platt",
) -> Platt:
    """Platt scaling on out-of-fold risks (n,) of inner folds; a temperature has no intercept.

    Labels are smoothed as in Platt (1999), so that the fit is finite for separated classes. The slope is
    constrained to be positive, since a negative one, estimated on few subjects, would reverse the ranking.
    Temperature scaling: Guo et al. 2017, arXiv:1706.04599.

    Raises:
        DataError: fewer than two labels, or an unknown one.
    """
    y = np.asarray(y, dtype=float)
    if y.size < 2 or not np.isin(y, (0.0, 1.0)).all():
        raise DataError("recalibration needs two or more labels of 0 and 1", got=counted(y.size, "label"))
    n_positive = y.sum()
    target = np.where(y == 1, (n_positive + 1) / (n_positive + 2), 1 / (y.size - n_positive + 2))
    x = logit(np.asarray(probability, dtype=float))
    level = 1.0 if method == "platt" else 0.0

    def loss(theta: np.ndarray) -> float:
        z = level * theta[0] + np.exp(np.clip(theta[1], -5, 5)) * x
        return float((np.logaddexp(0, z) - target * z).sum())

    best = optimize.minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-8})
    return Platt(level * float(best.x[0]), float(np.exp(np.clip(best.x[1], -5, 5))), train_ids)


def threshold_at_specificity(probability: np.ndarray, y: np.ndarray, specificity: float) -> float:
    """Smallest threshold with at least the given specificity on risks (n,) of inner folds, never of test rows.

    A subject is positive when risk >= threshold.

    Raises:
        DataError: no negative subject, or a specificity outside (0, 1].
    """
    negatives = np.sort(np.asarray(probability, dtype=float)[np.asarray(y) == 0])
    if not negatives.size or not 0 < specificity <= 1:
        raise DataError("a specificity needs negative subjects and a value in (0, 1]", got=str(specificity))
    needed = int(np.ceil(specificity * negatives.size - 1e-9))
    return float(np.nextafter(negatives[needed - 1], np.inf))
