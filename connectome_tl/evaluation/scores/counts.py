"""Count concordant pairs for many labellings at once."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def within_fold_counts(y_true: np.ndarray, score: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concordant and comparable pairs of each labelling.

    Args:
        y_true: (n_subjects, n_labellings) 0 and 1, or the number of the level; subjects with NaN are not scored.
        score: (n_subjects, n_labellings).
        fold: (n_subjects,) test folds of one repeat.

    Returns:
        (won, met), each (n_labellings,): the AUC pooled over repeats is sum(won) / sum(met).
    """
    won, met = np.zeros(score.shape[1]), np.zeros(score.shape[1])
    levels = np.unique(y_true[~np.isnan(y_true)])
    for level in levels[1:]:  # each level against all below it
        y = np.where(y_true <= level, y_true == level, np.nan) if levels.size > 2 else y_true == level
        y = np.where(np.isnan(y_true), np.nan, y)
        here = _binary_counts(y, score, fold)
        won, met = won + here[0], met + here[1]
    return won, met


def _binary_counts(y_true: np.ndarray, score: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    won, met = np.zeros(score.shape[1]), np.zeros(score.shape[1])
    for k in np.unique(fold):
        y, s = y_true[fold == k], score[fold == k]
        # Unscored subjects get the lowest ranks, which raises all other ranks by their number.
        unknown = np.isnan(y)
        ranks = rankdata(np.where(unknown, -np.inf, s), axis=0) - unknown.sum(axis=0)
        n_positive, n_negative = (y == 1).sum(axis=0), (y == 0).sum(axis=0)
        won += np.where(y == 1, ranks, 0.0).sum(axis=0) - n_positive * (n_positive + 1) / 2.0
        met += n_positive * n_negative
    return won, met
