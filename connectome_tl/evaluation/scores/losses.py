"""Per-subject losses of out-of-fold predictions and intervals of their means."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import special

from connectome_tl.evaluation.intervals.out_of_fold import (
    averaged_interval,
    between_folds,
    centred,
    one_family,
    positive_mean_interval,
    taught,
    unseen_share,
)
from connectome_tl.evaluation.intervals.pairs import within_fold_pairs
from connectome_tl.evaluation.scores.predictions import Interval, OutOfFold
from connectome_tl.settings.metrics import METRICS, Estimand, Widening

MOST_OTHER = 0.1  # fraction of the variance of losses within classes that is not due to wrong predictions


def squared_errors(rows: OutOfFold) -> np.ndarray:
    """Squared errors of the score, (n_subjects,): mean over repeats, and sum over classes of multiclass tasks."""
    return np.asarray(np.nanmean(squared_errors_by_repeat(rows), axis=0))


def squared_errors_by_repeat(rows: OutOfFold) -> np.ndarray:
    """Squared errors of each repeat, (n_repeats, n_subjects)."""
    if rows.probability is None:
        return np.asarray((rows.score - rows.y_true) ** 2)
    truth = np.eye(rows.probability.shape[2])[rows.y_true.astype(int)]
    return np.asarray(((rows.probability - truth) ** 2).sum(axis=2))


def absolute_errors(rows: OutOfFold) -> np.ndarray:
    """(n_subjects,) mean over repeats of the absolute error of the predicted value or level."""
    return np.asarray(np.nanmean(np.abs(rows.predicted - rows.y_true), axis=0))


def r2_losses(rows: OutOfFold, base: OutOfFold | None) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors (n_subjects,) of the model, and of the training mean (else of the overall mean)."""
    loss = np.nanmean((rows.predicted - rows.y_true) ** 2, axis=0)
    if base is None:
        return loss, (rows.y_true.mean() - rows.y_true) ** 2
    return loss, np.nanmean((base.predicted - rows.y_true) ** 2, axis=0)


def values_between(rows: OutOfFold, base: OutOfFold | None) -> float:
    """Contribution of the training sets to the variance of the mean loss, see `between_folds`."""
    centre = rows.y_true.mean() if base is None else base.predicted
    return between_folds((rows.predicted - centre) ** 2, rows.fold)


def values_widening(widening: Widening, rows: OutOfFold) -> Widening:
    """The widening of R2 for the learner that made these predictions."""
    widening = widening.of_learner(rows.instability)
    loss = float(np.nanmean((rows.predicted - rows.y_true) ** 2))
    return widening if rows.n_learning is not None else widening.taught(taught(rows.predicted, rows.fold, loss))


def brier_interval(metric: str, rows: OutOfFold, estimand: Estimand) -> Interval:
    """Brier score with its interval, conditional on the class shares."""
    loss, record = squared_errors(rows), METRICS[metric]
    if rows.probability is None:
        spread = (rows.score - rows.y_true.mean()) ** 2
    else:
        share = np.eye(rows.probability.shape[2])[rows.y_true.astype(int)].mean(axis=0)
        spread = ((rows.probability - share) ** 2).sum(axis=2)
    between = between_folds(spread, rows.fold)
    wide = record.widening[estimand].of_learner(rows.instability, balance(rows))
    if estimand == "procedure" and rows.n_learning is None:
        score = rows.score if rows.probability is None else rows.probability
        wide = wide.taught(taught(score, rows.fold, float(loss.mean())), better_than_chance(rows))
    low, high = positive_mean_interval(loss, rows.cluster, wide, rows.y_true, between, rows.n_learning)
    counted = float(loss.mean()) + unseen_errors(rows)
    high = counted + (1.0 - two_valued(rows)) * np.maximum(high - counted, 0.0)
    return float(loss.mean()), low, float(np.minimum(high, record.high))


def better_than_chance(rows: OutOfFold) -> float:
    """Probability that a model without information has an AUC nearer to 0.5 than this one; 0 if it is below 0.5.

    1 for more than two classes.
    """
    if rows.probability is not None:
        return 1.0
    pairs = within_fold_pairs(rows.y_true, rows.score, rows.fold)
    variance = pairs.variance(0.5) if pairs.met.any() else 0.0
    return max(0.0, 2.0 * float(special.ndtr((pairs.auc - 0.5) / np.sqrt(variance))) - 1.0) if variance > 0 else 1.0


def balance(rows: OutOfFold) -> float:
    """1 for two classes of the same size, 0 if at most a quarter are in one, or if the instability is unknown."""
    share = float(rows.y_true.mean())
    even = rows.probability is None and rows.instability_known
    return max(0.0, (4.0 * share * (1.0 - share) - 0.75) / 0.25) if even else 0.0


def unseen_errors(rows: OutOfFold) -> float:
    """Increase of the Brier score by wrong predictions that are too rare to be among the tested subjects.

    Losses of confident risks are near 0 or near 1. If few or none are near 1, the observed losses do not show how
    many others are. In each class, the fraction of wrong predictions is increased to the upper end of Jeffreys'
    interval; an additional one has the loss that correct predictions of other classes would have in this class. Classes
    are combined as independent.
    """
    possible, wrong = losses_of_each_outcome(rows), wrong_calls(rows)
    own, outcome, found = squared_errors_by_repeat(rows), rows.y_true.astype(int), 0.0
    for level in np.unique(outcome):
        inside = outcome == level
        here = own[:, inside][wrong[:, inside] == 0]
        others = possible[:, ~inside, level][wrong[:, ~inside] == 0]
        if here.size and others.size:
            family = np.unique(rows.cluster[inside], return_inverse=True)[1].ravel()
            share = np.bincount(family, np.nanmean(wrong[:, inside], axis=0)) / np.bincount(family)
            most = averaged_interval(share, np.arange(share.size), 1.0, least=1.0)[1]
            added = (most - share.mean()) * max(0.0, float(others.mean() - here.mean()))
            found += (float(inside.mean()) * added) ** 2
    return float(np.sqrt(found))


def wrong_calls(rows: OutOfFold) -> np.ndarray:
    """1 where another class than the observed one has the smallest squared error, else 0, (n_repeats, n_subjects)."""
    own = squared_errors_by_repeat(rows)
    return np.where(np.isnan(own), np.nan, own > losses_of_each_outcome(rows).min(axis=2))


def two_valued(rows: OutOfFold) -> float:
    """1 if each class has one loss of right predictions and one of wrong ones, and the learner is stable; at least 0.

    The mean loss is then a proportion of wrong predictions, with the interval of a proportion: the t interval on the
    log scale is too long for few large losses. 0 from 0.1 of the variance within classes that has another cause, and
    if the instability is unknown.
    """
    own, wrong = squared_errors_by_repeat(rows), wrong_calls(rows)
    rest = own.copy()
    for level, call in product(np.unique(rows.y_true), (0, 1)):
        inside = (rows.y_true == level) & (wrong == call)
        rest[inside] -= own[inside].mean() if inside.any() else 0.0
    whole = float((centred(np.nanmean(own, axis=0), rows.y_true) ** 2).sum())
    if not rows.instability_known or whole == 0:
        return 0.0
    other = float((np.nanmean(rest, axis=0) ** 2).sum()) / whole
    return max(0.0, 1.0 - other / MOST_OTHER) * (1.0 - rows.instability)


def losses_of_each_outcome(rows: OutOfFold) -> np.ndarray:
    """Squared errors of each prediction for every possible class, (n_repeats, n_subjects, n_classes)."""
    if rows.probability is None:
        return np.stack([rows.score**2, (1.0 - rows.score) ** 2], axis=2)
    return np.asarray((rows.probability**2).sum(axis=2, keepdims=True) - 2.0 * rows.probability + 1.0)


def mean_loss(metric: str, loss: np.ndarray, rows: OutOfFold, estimand: Estimand) -> Interval:
    """Mean of an absolute error (n_subjects,) with its interval.

    If all are 0, the upper end is for a model that predicts the median for the largest fraction of subjects that can
    be absent (`unseen_share`).
    """
    record = METRICS[metric]
    if not loss.any():
        apart = float(np.abs(rows.y_true - np.median(rows.y_true)).mean())
        low = float("nan") if one_family(rows.cluster) else 0.0
        return 0.0, low, unseen_share(rows.cluster) * apart
    low, high = positive_mean_interval(loss, rows.cluster, record.widening[estimand], n_learning=rows.n_learning)
    return float(loss.mean()), low, float(np.minimum(high, record.high))
