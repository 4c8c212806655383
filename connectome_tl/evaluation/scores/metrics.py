"""Metrics of out-of-fold predictions, each with an interval, for every kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from connectome_tl.evaluation.clinical.calibration import calibration_scores
from connectome_tl.evaluation.intervals.calls import call_intervals
from connectome_tl.evaluation.intervals.out_of_fold import (
    clustered_half_width,
    log_half_width,
    mean_interval,
    one_family,
    proportion_interval,
    r2_interval,
    unseen_share,
)
from connectome_tl.evaluation.intervals.pairs import Ranking, auc_interval, macro_pairs, within_fold_pairs
from connectome_tl.evaluation.scores.losses import (
    absolute_errors,
    brier_interval,
    mean_loss,
    r2_losses,
    values_between,
    values_widening,
)
from connectome_tl.evaluation.scores.predictions import Interval, OutOfFold, out_of_fold, tasks_and_models
from connectome_tl.evaluation.scores.undefined import explained
from connectome_tl.settings.metrics import METRICS, Estimand, Widening
from connectome_tl.settings.model_table import UNINFORMED
from connectome_tl.settings.records.results import Score
from connectome_tl.tasks import Form, Task

BASE_MODEL = UNINFORMED
Found = dict[str, Interval]
FURTHER: dict[str, Callable[[OutOfFold, OutOfFold | None, Estimand], Interval]] = {}
"""Metrics of extensions: from out-of-fold predictions, those of the prevalence model, and the estimand."""


def scores(
    predictions: pd.DataFrame,
    tasks: Sequence[Task],
    clusters: Mapping[str, str] | None = None,
    estimand: Estimand = "procedure",
    n_labelled: int | None = None,
) -> list[Score]:
    """Every metric of every task and model in the table, with 95 % intervals.

    Args:
        predictions: `subject, task, model, repeat, fold, y_true, y_score, y_pred`, and `p_0` ... for ordinal and
            multiclass tasks; y_true NaN is predicted but not scored; a binary y_score is a probability.
        tasks: what to score, of any kind.
        clusters: family of each subject; relatives count as one draw.
        estimand: estimand of the intervals (`intervals.ESTIMANDS`), stated in each score's `method`. Scores of the
            procedure also contain the interval for the fitted model.
        n_labelled: number of labelled training subjects of few-label splits (`splits.n_labelled`).

    Raises:
        DataError: the table breaks its contract (see `predictions.out_of_fold`).
        UsageError: a task of an unknown kind, or an ordinal or multiclass one without levels.
    """
    found: list[Score] = []
    for task in tasks:
        models = [model for _, model in tasks_and_models(predictions, [task])]
        every = {model: out_of_fold(predictions, task, model, clusters, n_labelled) for model in models}
        for model, rows in every.items():
            base = matching(every.get(BASE_MODEL), rows)
            made = task_scores(rows, task, model, base, estimand)
            if estimand == "procedure":
                made = _beside(made, task_scores(rows, task, model, base, "fitted"))
            found += made
    return found


def _beside(scores: Sequence[Score], fitted: Sequence[Score]) -> list[Score]:
    return [
        score.model_copy(update={"fitted_low": f.low, "fitted_high": f.high, "fitted_method": f.method})
        for score, f in zip(scores, fitted, strict=True)
    ]


def matching(base: OutOfFold | None, rows: OutOfFold) -> OutOfFold | None:
    """`base` if it was tested on the same subjects and repeats, else None."""
    if base is None or base.score.shape != rows.score.shape or (base.subjects != rows.subjects).any():
        return None
    return base


def task_scores(
    rows: OutOfFold, task: Task, model: str, base: OutOfFold | None = None, estimand: Estimand = "procedure"
) -> list[Score]:
    """Every metric of one model and task, the primary one first.

    Args:
        base: the prevalence model on the same subjects and repeats; None where it is not in the table.
    """
    made = _OF_FORM[task.form](rows, base, estimand)
    made |= {name: of(rows, base, estimand) for name, of in FURTHER.items() if METRICS[name].of(task.kind)}
    primary = task.spec.primary
    found = [
        explained(score, rows, task) for score in rows.scores({primary: made[primary], **made}, task, model, estimand)
    ]
    if task.is_binary and model != BASE_MODEL:  # its risk varies only between folds, so that it has no slope
        found += calibration_scores(rows, task, model, base, estimand)
    return found


def ranking(rows: OutOfFold, task: Task) -> Ranking:
    """The pairs from which the AUC, the concordance index or the macro AUC is computed."""
    if rows.probability is not None and task.form == "classes":
        return macro_pairs(rows.y_true, rows.probability, rows.fold)
    return within_fold_pairs(rows.y_true, rows.score, rows.fold)


def ranking_interval(pairs: Ranking, rows: OutOfFold, widening: Widening) -> tuple[float, float]:
    """Interval of the AUC, the concordance index or the macro AUC of the learner that made these predictions."""
    return auc_interval(pairs, rows.cluster, widening.of_learner(rows.ranking_instability), rows.n_labelled)


def binary_metrics(rows: OutOfFold, _: OutOfFold | None, estimand: Estimand) -> Found:
    """AUC within folds, balanced accuracy, sensitivity, specificity, Brier."""
    y = rows.y_true
    pairs = within_fold_pairs(y, rows.score, rows.fold)
    predicted = np.nanmean(rows.predicted, axis=0)  # share of the repeats in which a subject is called positive
    auc = ranking_interval(pairs, rows, METRICS["auc"].widening[estimand])
    draws = 1 if rows.n_labelled is None else rows.n_repeats
    calls = call_intervals(predicted, y == 1, rows.cluster, auc, estimand, draws)
    return {
        "auc": (pairs.auc, *auc),
        "balanced_accuracy": calls.balanced_accuracy,
        "sensitivity": calls.sensitivity,
        "specificity": calls.specificity,
        "brier": brier_interval("brier", rows, estimand),
    }


def regression_metrics(rows: OutOfFold, base: OutOfFold | None, estimand: Estimand) -> Found:
    """Out-of-fold R2 against the training folds' mean, and MAE."""
    loss, reference = r2_losses(rows, base)
    r2 = float(1.0 - loss.mean() / reference.mean()) if reference.any() else float("nan")
    wide, between = values_widening(METRICS["r2"].widening[estimand], rows), values_between(rows, base)
    return {
        "r2": (r2, *r2_interval(loss, reference, rows.cluster, wide, between, rows.n_learning)),
        "mae": mean_loss("mae", absolute_errors(rows), rows, estimand),
    }


def ordinal_metrics(rows: OutOfFold, _: OutOfFold | None, estimand: Estimand) -> Found:
    """Concordance of the expected level within folds, quadratic weighted kappa and MAE of the median level."""
    pairs = within_fold_pairs(rows.y_true, rows.score, rows.fold)
    return {
        "c_index": (pairs.auc, *ranking_interval(pairs, rows, METRICS["c_index"].widening[estimand])),
        "weighted_kappa": _kappa(rows, estimand),
        "mae": mean_loss("mae", absolute_errors(rows), rows, estimand),
    }


def multiclass_metrics(rows: OutOfFold, _: OutOfFold | None, estimand: Estimand) -> Found:
    """Macro one-vs-rest AUC within folds, balanced accuracy over the observed classes, Brier summed over classes.

    Balanced accuracy is NaN if only one class is observed, as for two classes.
    """
    assert rows.probability is not None
    pairs = macro_pairs(rows.y_true, rows.probability, rows.fold)
    wide = METRICS["balanced_accuracy"].widening[estimand]
    recalls = []
    for level in np.unique(rows.y_true):
        inside = rows.y_true == level
        right = _mean_over_repeats(rows.predicted[:, inside] == level, rows.predicted[:, inside])
        recalls.append((float(right.mean()), *proportion_interval(right, rows.cluster[inside], wide)))
    balanced = (float("nan"),) * 2 if one_family(rows.cluster) else mean_interval(*recalls)
    if len(recalls) < 2:
        recalls, balanced = [(float("nan"),) * 3], (float("nan"),) * 2
    return {
        "macro_auc": (pairs.auc, *ranking_interval(pairs, rows, METRICS["macro_auc"].widening[estimand])),
        "balanced_accuracy": (float(np.mean([value for value, _, _ in recalls])), *balanced),
        "multiclass_brier": brier_interval("multiclass_brier", rows, estimand),
    }


_OF_FORM: dict[Form, Callable[[OutOfFold, OutOfFold | None, Estimand], Found]] = {
    "risk": binary_metrics,
    "value": regression_metrics,
    "levels": ordinal_metrics,
    "classes": multiclass_metrics,
}


def _mean_over_repeats(value: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return np.asarray(np.nanmean(np.where(np.isnan(seen), np.nan, value), axis=0))


def _kappa(rows: OutOfFold, estimand: Estimand) -> Interval:
    """Quadratic weighted kappa: 1 - observed / expected squared distance of levels, per repeat and averaged.

    Its interval is on the log of that ratio, from the first-order influence of each subject on both.
    """
    values, influences = [], np.zeros((rows.n_repeats, rows.y_true.size))
    for r, predicted in enumerate(rows.predicted):
        seen = np.isfinite(predicted)
        y, p = rows.y_true[seen], predicted[seen]
        observed = (y - p) ** 2
        apart = (y[:, None] - p[None, :]) ** 2
        expected = float(apart.mean())
        if expected == 0 or np.ptp(y) == 0:  # with one level, any predictions have a kappa of 0
            values.append(float("nan"))
            continue
        values.append(1.0 - float(observed.mean()) / expected)
        part = apart.mean(axis=0) + apart.mean(axis=1) - 2 * expected
        if observed.any():
            influences[r, seen] = ((observed / observed.mean() - 1.0) - part / expected) / y.size
    value = float(np.mean(values))
    if not np.isfinite(value):
        return value, float("nan"), float("nan")
    if value == 1.0:  # predictions that do not agree may be absent
        return value, 1.0 - unseen_share(rows.cluster), float("nan") if one_family(rows.cluster) else 1.0
    wide = METRICS["weighted_kappa"].widening[estimand]
    half = log_half_width(clustered_half_width(influences.mean(axis=0), rows.cluster, wide))
    ratio = 1.0 - value
    return value, float(np.maximum(-1.0, 1.0 - ratio * np.exp(half))), 1.0 - ratio * float(np.exp(-half))
