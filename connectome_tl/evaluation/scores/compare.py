"""Paired differences between models, and the rule that turns them into verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError, UsageError
from connectome_tl.evaluation.intervals.out_of_fold import centred, clustered_half_width, r2_interval
from connectome_tl.evaluation.intervals.pairs import Ranking
from connectome_tl.evaluation.intervals.resampled import corrected_resampled_t
from connectome_tl.evaluation.scores.losses import (
    absolute_errors,
    r2_losses,
    squared_errors,
    squared_errors_by_repeat,
    values_between,
    values_widening,
)
from connectome_tl.evaluation.scores.metrics import BASE_MODEL, FURTHER, matching, ranking, ranking_interval
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold
from connectome_tl.settings.metrics import Widening, metric_named
from connectome_tl.settings.model_table import FULL, MODELS, in_order, model_named, words_of
from connectome_tl.settings.records.results import Comparison, NetworkWeight, VerdictWord
from connectome_tl.tasks import Task


@dataclass(frozen=True)
class Difference:
    """`model - control` with its 95 % interval."""

    value: float
    low: float
    high: float


_BLOCKS = 100  # most blocks of families that are left out in turn
UNDEFINED = Difference(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Estimate:
    """One model's score with its own interval, and each subject's influence on it (n_subjects,)."""

    value: float
    low: float
    high: float
    influence: np.ndarray


def comparisons(
    predictions: pd.DataFrame,
    tasks: Sequence[Task],
    clusters: Mapping[str, str] | None = None,
    *,
    kfold: bool = False,
    n_labelled: int | None = None,
) -> list[Comparison]:
    """Compare every model in the table with the model that its record names, by the primary metric of the task.

    Controls of the network are compared with the network, everything else with the full model.

    Args:
        kfold: whether the splits are those of k-fold cross-validation, where the corrected resampled t test applies.
        n_labelled: subjects drawn to train on, where the splits are few-label ones.
    """
    found = []
    for task in tasks:
        here = set(predictions.loc[predictions["task"] == task.name, "model"].unique())
        pairs = [(model_named(name).of, name) for name in in_order(here)]
        pairs = [(model, name) for model, name in pairs if name != model and model in here]
        used = {name for pair in pairs for name in pair} | (here & {BASE_MODEL})
        rows = {name: out_of_fold(predictions, task, name, clusters, n_labelled) for name in used}
        found += [compare_rows(rows, task, *pair, task.spec.primary, kfold=kfold) for pair in pairs]
    return found


def compare(
    predictions: pd.DataFrame,
    task: Task,
    model: str,
    control: str,
    metric: str,
    clusters: Mapping[str, str] | None = None,
    *,
    kfold: bool = False,
) -> Comparison:
    """One paired difference, its interval over subjects (families) and its verdict.

    Raises:
        DataError: the two models were not tested on the same subjects in the same folds.
        UsageError: the task has no such metric, or its differences have no interval.
    """
    here = set(predictions.loc[predictions["task"] == task.name, "model"].unique())
    used = {model, control} | (here & {BASE_MODEL})
    rows = {name: out_of_fold(predictions, task, name, clusters) for name in used}
    return compare_rows(rows, task, model, control, metric, kfold=kfold)


def compare_rows(
    models: Mapping[str, OutOfFold], task: Task, model: str, control: str, metric: str, *, kfold: bool = False
) -> Comparison:
    """As `compare`, from the out-of-fold predictions of each model by name."""
    record = metric_named(metric)
    if not record.of(task.kind) or record.margin is None:
        raise UsageError(f"no comparison by {metric} for task {task.name}", got=f"a {task.kind} task")
    rows, other = models[model], models[control]
    same = rows.fold.shape == other.fold.shape and (rows.subjects == other.subjects).all()
    if not same or (rows.fold != other.fold).any():
        raise DataError(
            f"task {task.name}: {model} and {control} cannot be compared",
            expected="the same subjects, repeats and folds",
            remedy="Predict both with the same split plan.",
        )
    difference = paired_difference(rows, other, task, metric, matching(models.get(BASE_MODEL), rows))
    spec = model_named(control)
    question = spec.question if spec.of == model else ""
    if control == BASE_MODEL:
        question = f"Is it better than {words_of(control, task.form)}?"
    margin = record.margin * (float(rows.y_true.std()) if record.margin_in_sd else 1.0)
    return Comparison(
        task=task.name,
        metric=metric,
        model=model,
        control=control,
        question=question or f"Is {model} better than {control}?",
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        sign=record.sign,
        verdict=verdict(difference, record.sign, margin),
        n=rows.y_true.size,
        n_positive=int(rows.y_true.sum()) if task.is_binary else None,
        margin=margin,
        resampled_p=_resampled_p(rows, other) if kfold else float("nan"),
        method=(
            "paired over subjects, families together; "
            + ("from the two scores' own intervals and their correlation; " if metric not in _LOSSES else "")
            + f"95 % for these procedures on a new cohort of this size; no benefit: within +-{margin:.3g}"
        ),
    )


_LOSSES = {"brier": squared_errors, "multiclass_brier": squared_errors, "mae": absolute_errors}


def paired_difference(
    rows: OutOfFold,
    other: OutOfFold,
    task: Task,
    metric: str,
    base: OutOfFold | None = None,
    widening: Widening | None = None,
) -> Difference:
    """Difference of two models' scores with its interval.

    Args:
        base: for R2, the model that predicts the training mean.
        widening: replaces the widening of the metric.
    """
    record = metric_named(metric)
    if metric in FURTHER:
        one, two = (_further_estimate(metric, r, base) for r in (rows, other))
        return difference_of(one, two, rows.cluster)
    if metric in _LOSSES:
        return _loss_difference(rows, other, metric, widening or record.difference)
    wide = widening or record.widening["procedure"]
    if metric == "r2":
        one, two = (_r2_estimate(r, base, wide) for r in (rows, other))
    else:
        one, two = (_ranking_estimate(ranking(r, task), r, wide) for r in (rows, other))
    return difference_of(one, two, rows.cluster, 1.0 if record.difference is None else record.difference.factor)


def difference_of(one: Estimate, two: Estimate, cluster: np.ndarray, apart: float = 1.0) -> Difference:
    """Difference of two correlated estimates, from their own intervals.

    Method of Zou (2007, doi:10.1037/1082-989X.12.4.399): each side combines the distances to the ends of the two
    intervals, reduced by their correlation, which is estimated from the influences of subjects (families). Thus, the
    difference to a model without an interval (one with ties only, or the training mean for R2) has the score's own
    interval, shifted, and its ends are within the range of possible differences. The ends of skewed intervals
    differ even if the models agree; the correlated share therefore uses mean half-widths. The correlation is at
    most 1 - 1 / n_subjects, since two models that agree on one cohort may differ on the next.

    Two models without an interval have no interval of their difference: that both tie in one cohort does not show
    that they do in the next.

    Args:
        apart: factor on 1 - correlation. The influences are those of the tested subjects; the contribution of
            training sets is less correlated between two models.
    """
    value = one.value - two.value
    if not np.isfinite(value):
        return UNDEFINED
    if one.low == one.high and two.low == two.high:
        return Difference(value, float("nan"), float("nan"))
    a, b = (np.bincount(cluster, weights=e.influence) for e in (one, two))
    size = float(np.sqrt((a @ a) * (b @ b)))
    alike = float(a @ b) / size if size > 0 else 0.0
    correlation = max(0.0, min(1.0 - apart * (1.0 - alike), 1.0 - 1.0 / cluster.size))
    shared = correlation * ((one.high - one.low) - (two.high - two.low)) ** 2 / 4.0

    def reach(first: float, second: float) -> float:
        return float(np.sqrt((1.0 - correlation) * (first**2 + second**2) + shared))

    below = reach(one.value - one.low, two.high - two.value)
    above = reach(one.high - one.value, two.value - two.low)
    return Difference(value, value - below, value + above)


def _ranking_estimate(pairs: Ranking, rows: OutOfFold, widening: Widening) -> Estimate:
    low, high = ranking_interval(pairs, rows, widening)
    known = np.isfinite(pairs.auc)
    return Estimate(pairs.auc, low, high, pairs.influence(rows.y_true.size) if known else np.zeros(rows.y_true.size))


def _further_estimate(metric: str, rows: OutOfFold, base: OutOfFold | None) -> Estimate:
    """The metric of an extension; influences are changes of its value if a block of families is left out."""
    found = FURTHER[metric](rows, base, "procedure")
    influence, block = np.zeros(rows.y_true.size), rows.cluster % _BLOCKS
    for number in np.unique(block) if block.any() else ():
        kept = block != number
        without = FURTHER[metric](rows.at(kept), None if base is None else base.at(kept), "procedure")
        influence[~kept] = np.nan_to_num(found[0] - without[0]) / (~kept).sum()
    return Estimate(*found, influence)


def _r2_estimate(rows: OutOfFold, base: OutOfFold | None, widening: Widening) -> Estimate:
    loss, reference = r2_losses(rows, base)
    if not reference.any():
        return Estimate(*(float("nan"),) * 3, np.zeros(loss.size))
    wide = values_widening(widening, rows)
    low, high = r2_interval(loss, reference, rows.cluster, wide, values_between(rows, base), rows.n_learning)
    ratio = float(loss.mean() / reference.mean())
    influence = (ratio * reference - loss) / (reference.mean() * loss.size)
    return Estimate(1.0 - ratio, low, high, influence)


def _resampled_p(rows: OutOfFold, other: OutOfFold) -> float:
    """p of the corrected resampled t test on mean squared errors (for a class: Brier scores) per test fold."""
    gap = squared_errors_by_repeat(rows) - squared_errors_by_repeat(other)
    tested = [rows.fold == fold for fold in np.unique(rows.fold)]
    folds = [(gap[r][at[r]].mean(), at[r].sum()) for at in tested for r in range(rows.n_repeats) if at[r].any()]
    means, sizes = np.array(folds).T
    n_test = float(sizes.mean())
    if len(folds) < 2 or 2 * n_test > rows.y_true.size:
        return float("nan")
    return corrected_resampled_t(means, rows.y_true.size - n_test, n_test).p_value


def verdict(difference: Difference, sign: int, margin: float) -> VerdictWord:
    """Apply the verdict rule: interval excludes 0, lies within the margin, or is inconclusive."""
    low, high = sorted((sign * difference.low, sign * difference.high))
    if low > 0:
        return "helps"
    if high < 0:
        return "harms"
    if -margin <= low and high <= margin:
        return "no benefit"
    return "cannot tell"


def _loss_difference(rows: OutOfFold, other: OutOfFold, metric: str, widening: Widening | None) -> Difference:
    """Difference of Brier scores or mean absolute errors (smaller is better)."""
    one, two = (_LOSSES[metric](r) for r in (rows, other))
    gap = one - two
    value = float(gap.mean())
    unit = float(two.mean())  # the floor is relative to the control's loss
    if unit == 0 or widening is None:
        return Difference(value, float("nan"), float("nan"))
    strata = None if metric == "mae" else rows.y_true
    half = unit * clustered_half_width(
        centred(gap, strata) / (gap.size * unit), rows.cluster, widening, n_learning=rows.n_learning
    )
    return Difference(value, value - half, value + half)


def without_network(
    found: Sequence[Comparison],
    weights: Mapping[str, Sequence[NetworkWeight]],
    controls: Sequence[str] | None = None,
) -> list[Comparison]:
    """Set the verdict to *not applicable* if a comparison concerns networks that have weight 0 in both models.

    Args:
        weights: weights of the network in the full model and its controls, per task.
        controls: controls that differ from the full model only in the network; by default the closed-form core and
            the controls of the stages.
    """
    silent = {(model, w.task) for model, own in weights.items() for w in own if w.high == 0}
    silent |= {("core", task) for _, task in silent}  # it has no network
    names = (
        [spec.name for spec in MODELS.values() if spec.stage or spec.name == "core"] if controls is None else controls
    )
    return [
        c.model_copy(update={"verdict": "not applicable"})
        if c.model == FULL and c.control in names and {(FULL, c.task), (c.control, c.task)} <= silent
        else c
        for c in found
    ]
