"""Connectome-based predictive modelling: edges correlated with the outcome, summed, in a linear model.

Shen et al. 2017, doi:10.1038/nprot.2016.178. A binary outcome is 0 and 1 (the point-biserial correlation).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import stats

from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.ground import Ground
from connectome_tl.evaluation.baselines.inner_folds import chosen_by_inner_folds
from connectome_tl.evaluation.baselines.learners import calibrated
from connectome_tl.settings.baselines import CpmSettings

_AT_ONCE = 64  # labelings: a bound on memory


def fit_predict(settings: CpmSettings, train: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(1, n_test, n_labelings): one setting.

    Where no edge passes the threshold the mean of the labels is predicted.

    Args:
        train, test: (n_rows, n_edges), NaN where an edge is absent (it then has the mean of the training rows).
        y: (n_train, n_labelings), complete.
    """
    known = ~np.isnan(train)
    mean = np.where(known, train, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    train, test = (np.where(np.isnan(rows), mean, rows) for rows in (train, test))
    centred = train - mean
    spread = np.sqrt((centred**2).sum(axis=0))
    varies = spread > 1e-12 * np.maximum(np.abs(mean), 1e-300) * np.sqrt(len(train))
    z = np.where(varies, centred / np.where(varies, spread, 1.0), 0.0)
    least = smallest_correlation(len(train), settings.threshold)
    found = np.empty((1, len(test), y.shape[1]))
    for start in range(0, y.shape[1], _AT_ONCE):
        cut = slice(start, start + _AT_ONCE)
        labels = y[:, cut] - y[:, cut].mean(axis=0)
        length = np.sqrt((labels**2).sum(axis=0))
        r = z.T @ (labels / np.where(length > 0, length, 1.0))
        masks = {"positive": (r > least).astype(float), "negative": (r < -least).astype(float)}
        asked = [masks[name] for name in ("positive", "negative") if settings.network in ("both", name)]
        sums = [np.stack([rows @ mask for mask in asked]) for rows in (train, test)]  # (n_sums, n_rows, n_labelings)
        for column in range(labels.shape[1]):
            design, other = (np.column_stack([np.ones(part.shape[1]), part[:, :, column].T]) for part in sums)
            weights = np.linalg.lstsq(design, y[:, start + column], rcond=None)[0]
            found[0, :, start + column] = other @ weights
    return found


def smallest_correlation(n: int, threshold: float) -> float:
    """The correlation of n pairs whose two-sided p value is the threshold; above 1 where none can reach it."""
    if n < 3:
        return np.inf
    t = float(stats.t.isf(threshold / 2, n - 2))
    return float(t / np.sqrt(n - 2 + t**2))


def solve(settings: CpmSettings, design: Design, y: np.ndarray) -> Scored:
    return chosen_by_inner_folds(partial(fit_predict, settings), design, y)


def cpm(ground: Ground) -> list[Baseline]:
    learner = calibrated(partial(solve, ground.study.baseline_settings.cpm))
    return [Baseline(ground.edges, ground.tasks, learner)] if ground.target.regions else []
