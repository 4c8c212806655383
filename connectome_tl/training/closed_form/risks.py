"""Risks from scores: logistic regression on leave-one-family-out scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit


@dataclass(frozen=True, eq=False)
class RiskModel:
    """risk = expit(intercept + slope (score - center) / spread), per column; one number where n is 0.

    Attributes:
        intercept, slope, center, spread: (n_columns,), NaN for columns that are not binary.
    """

    intercept: np.ndarray
    slope: np.ndarray
    center: np.ndarray
    spread: np.ndarray

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """(n_rows, n_columns) risks inside (0, 1); NaN for columns that are not binary."""
        return np.asarray(expit(self.intercept + self.slope * (scores - self.center) / self.spread))


def fit_risks(
    scores: np.ndarray, labels: np.ndarray, sizes: np.ndarray, full_from: int, least_slope: float
) -> RiskModel:
    """One logistic regression per column with a label.

    With fewer than `full_from` families its slope is too steep and is multiplied by families / full_from; the
    intercept then restores the base rate.

    Args:
        scores, labels: (n_rows, n_columns); NaN labels are left out, columns of NaN are not binary.
        sizes: (n_columns,) numbers of families.
        least_slope: the slope on the standardised score is at least this, so that scores keep their order.
    """
    found = np.full((4, scores.shape[1]), np.nan)
    for column in range(scores.shape[1]):
        known = np.isfinite(labels[:, column])
        if known.any():
            score, label = scores[known, column], labels[known, column]
            share = min(1.0, sizes[column] / full_from)
            found[:, column] = _fit(score, label, share, least_slope)
    return RiskModel(*found)


def _fit(score: np.ndarray, label: np.ndarray, share: float, least_slope: float) -> tuple[float, ...]:
    center, spread = float(score.mean()), float(score.std())
    # Half a case on each side keeps the base rate of a class of one or none inside (0, 1).
    base = (label.sum() + 0.5) / (len(label) + 1.0)
    if not spread > 1e-12 or label.min() == label.max():
        return float(logit(base)), least_slope, center, spread if spread > 1e-12 else 1.0
    z = (score - center) / spread
    slope = max(_slope(z, label) * share, least_slope)
    return float(brentq(lambda a: expit(a + slope * z).mean() - base, -100.0, 100.0)), slope, center, spread


def _slope(z: np.ndarray, label: np.ndarray) -> float:
    """Of the logistic regression, by Newton steps; a weak penalty keeps separated classes finite."""
    beta = np.zeros(2)
    x = np.column_stack([np.ones_like(z), z])
    penalty = np.array([1e-6, 1e-2])
    for _ in range(50):
        risk = expit(x @ beta)
        gradient = x.T @ (label - risk) - penalty * beta
        curvature = (x.T * (risk * (1 - risk))) @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        beta += step * min(1.0, 3.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[1])
