"""Scores of out-of-fold predictions, each with an interval: AUC, accuracy, Brier, calibration; R2 and MAE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from connectome_tl.evaluation.clinical.calibration import calibration_scores
from connectome_tl.evaluation.intervals.out_of_fold import (
    ESTIMANDS,
    WIDENING,
    Estimand,
    auc_interval,
    call_intervals,
    positive_mean_interval,
    r2_interval,
    within_fold_pairs,
)
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold, tasks_and_models
from connectome_tl.settings.results import Score
from connectome_tl.tasks import Task

BASE_MODEL = "prevalence"


def scores(
    predictions: pd.DataFrame,
    tasks: Sequence[Task],
    clusters: Mapping[str, str] | None = None,
    estimand: Estimand = "procedure",
) -> list[Score]:
    """Every metric of every task and model in the table, with 95 % intervals.

    Args:
        predictions: `subject, task, model, repeat, fold, y_true, y_score, y_pred`; y_true NaN is
            predicted but not scored; a binary y_score is a probability.
        tasks: what to score; binary and regression tasks have metrics.
        clusters: family of each subject; relatives count as one draw.
        estimand: what the interval is for (`intervals.ESTIMANDS`); named in each score's `method`. Scores of the
            procedure carry the interval of the fitted model beside it.

    Raises:
        DataError: the table breaks its contract (see `predictions.out_of_fold`).
    """
    found: list[Score] = []
    for task, model in tasks_and_models(predictions, list(tasks)):
        rows = out_of_fold(predictions, task.name, model, clusters)
        if task.is_binary:
            found += binary_scores(rows, task.name, model, estimand)
            if model != BASE_MODEL:  # it has no slope: its risk moves only with the fold
                found += calibration_scores(rows, task.name, model, _base(predictions, rows, task.name), estimand)
        elif task.kind == "regression":
            base = regression_base(predictions, rows, task.name)
            found += regression_scores(rows, base, task.name, model, estimand)
    if estimand == "fitted":
        return found
    beside = scores(predictions, tasks, clusters, "fitted")
    return [
        score.model_copy(update={"fitted_low": f.low, "fitted_high": f.high, "fitted_method": f.method})
        for score, f in zip(found, beside, strict=True)
    ]


def _base(predictions: pd.DataFrame, rows: OutOfFold, task: str) -> OutOfFold | None:
    """The prevalence model on the same subjects and repeats, where it is in the table."""
    if not ((predictions["task"] == task) & (predictions["model"] == BASE_MODEL)).any():
        return None
    base = out_of_fold(predictions, task, BASE_MODEL)
    same = base.score.shape == rows.score.shape and (base.subjects == rows.subjects).all()
    return base if same else None


def binary_scores(rows: OutOfFold, task: str, model: str, estimand: Estimand = "procedure") -> list[Score]:
    """AUC within folds, balanced accuracy, sensitivity, specificity, Brier."""
    y = rows.y_true
    pairs = within_fold_pairs(y, rows.score, rows.fold)
    called = np.nanmean(rows.predicted, axis=0)  # in what share of the repeats a subject is called positive
    positive = y == 1
    wide = WIDENING[estimand]
    auc = auc_interval(pairs, rows.cluster, wide["auc"])
    calls = call_intervals(called, positive, rows.cluster, auc, estimand)
    brier = np.nanmean((rows.score - y) ** 2, axis=0)
    brier_low, brier_high = positive_mean_interval(brier, rows.cluster, wide["brier"])
    found = {
        "auc": (pairs.auc, *auc),
        "balanced_accuracy": calls.balanced_accuracy,
        "sensitivity": calls.sensitivity,
        "specificity": calls.specificity,
        "brier": (float(brier.mean()), brier_low, float(np.minimum(brier_high, 1.0))),
    }
    tied = not pairs.decided
    told = {m: (*found[m], _method(m, rows, estimand, tied=m == "auc" and tied)) for m in found}
    return rows.scores(told, task, model, binary=True)


def regression_scores(
    rows: OutOfFold, base: np.ndarray, task: str, model: str, estimand: Estimand = "procedure"
) -> list[Score]:
    """Out-of-fold R2 against `base` (n_repeats, n_subjects), the training folds' mean, and MAE."""
    y, wide = rows.y_true, WIDENING[estimand]
    squared, reference = (np.nanmean((p - y) ** 2, axis=0) for p in (rows.predicted, base))
    absolute = np.nanmean(np.abs(rows.predicted - y), axis=0)
    r2 = float(1.0 - squared.mean() / reference.mean()) if reference.any() else float("nan")
    found = {
        "r2": (r2, *r2_interval(squared, reference, rows.cluster, wide["r2"])),
        "mae": (float(absolute.mean()), *positive_mean_interval(absolute, rows.cluster, wide["mae"])),
    }
    told = {metric: (*found[metric], _method(metric, rows, estimand)) for metric in found}
    return rows.scores(told, task, model, binary=False)


def regression_base(predictions: pd.DataFrame, rows: OutOfFold, task: str) -> np.ndarray:
    """What R2 is measured against: the `prevalence` model's out-of-fold means, else the overall mean."""
    base = _base(predictions, rows, task)
    if base is not None:
        return base.predicted
    return np.where(np.isnan(rows.predicted), np.nan, rows.y_true.mean())


def _method(metric: str, rows: OutOfFold, estimand: Estimand, tied: bool = False) -> str:
    if tied:
        return "all scores of a fold tie: .5 by definition"
    chance = ", wider where the AUC may be below .6, one end open where it may be .5" if estimand == "procedure" else ""
    how = {
        "auc": ("pairs within repeat and test fold; Hanley-McNeil variance of these pairs, score interval", "auc"),
        "balanced_accuracy": ("mean of sensitivity and specificity, intervals combined (Zou-Donner)", "proportion"),
        "sensitivity": (f"Wilson interval over positives{chance}", "proportion"),
        "specificity": (f"Wilson interval over negatives{chance}", "proportion"),
        "brier": ("t interval over families on the log scale", "brier"),
        "mae": ("t interval over families on the log scale", "mae"),
        "r2": ("against the training folds' mean; t interval over families, log of the ratio", "r2"),
    }
    text, factor = how[metric]
    repeats = f"{rows.n_repeats} repeat{'s' if rows.n_repeats > 1 else ''}"
    return (
        f"out of fold, {repeats}; {text}; variance x {WIDENING[estimand][factor].at(rows.y_true.size):.2g} "
        f"for training sets; 95 % for {ESTIMANDS[estimand]}"
    )


def within_fold_counts(y_true: np.ndarray, score: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Won and met pairs of many labelings at once, for permutation tests.

    Args:
        y_true: (n_subjects, n_labelings) 0, 1 or NaN (not scored).
        score: (n_subjects, n_labelings).
        fold: (n_subjects,) of one repeat.

    Returns:
        (won, met), each (n_labelings,): the AUC pooled over repeats is sum(won) / sum(met).
    """
    won, met = np.zeros(score.shape[1]), np.zeros(score.shape[1])
    for k in np.unique(fold):
        y, s = y_true[fold == k], score[fold == k]
        # Unscored subjects go to the bottom, where they push every rank up by their number.
        unknown = np.isnan(y)
        ranks = rankdata(np.where(unknown, -np.inf, s), axis=0) - unknown.sum(axis=0)
        n_positive, n_negative = (y == 1).sum(axis=0), (y == 0).sum(axis=0)
        won += np.where(y == 1, ranks, 0.0).sum(axis=0) - n_positive * (n_positive + 1) / 2.0
        met += n_positive * n_negative
    return won, met
