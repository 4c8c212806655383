"""Reasons why a score, or its interval, is not estimable."""

from __future__ import annotations

import math

import numpy as np

from connectome_tl.evaluation.intervals.out_of_fold import one_family
from connectome_tl.evaluation.scores.predictions import OutOfFold
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.model_table import UNINFORMED
from connectome_tl.settings.records.results import Score
from connectome_tl.settings.records.scores import NOT_ESTIMABLE
from connectome_tl.tasks import Task

EQUAL_PREDICTIONS = "its predictions are equal within each test fold"
SAME_OUTCOME = "all tested subjects have the same outcome"


def explained(score: Score, rows: OutOfFold, task: Task) -> Score:
    """The score with the reason if it, or its interval, is not estimable, or if predictions of some folds are equal.

    A trained model that predicts the same for all subjects of each test fold has the score of chance in this cohort,
    without an interval: this does not show what it predicts in other cohorts. For `UNINFORMED` that score is the true
    one by definition.
    """
    same = bool(np.ptp(rows.y_true) == 0)
    if not math.isfinite(score.value):
        why = f": {SAME_OUTCOME}" if same else _no_pairs(score, task)
        return score.model_copy(update={"reason": f"{NOT_ESTIMABLE}{why}"})
    known = score.model == UNINFORMED and score.value == metric_named(score.metric).chance
    if score.low == score.high and not known:
        why = SAME_OUTCOME if same else EQUAL_PREDICTIONS
        return score.model_copy(
            update={"low": math.nan, "high": math.nan, "reason": f"interval {NOT_ESTIMABLE}: {why}"}
        )
    if not math.isfinite(score.high - score.low):
        why = "all subjects belong to one family" if one_family(rows.cluster) else "too few families or no variation"
        return score.model_copy(update={"reason": f"interval {NOT_ESTIMABLE}: {why}"})
    if score.metric == task.spec.tested and task.form != "value" and score.model != UNINFORMED:
        equal = _equal_within_folds(rows)
        if any(equal):
            return score.model_copy(
                update={"reason": f"its predictions are equal within {sum(equal)} of {len(equal)} test folds"}
            )
    return score


def _equal_within_folds(rows: OutOfFold) -> list[bool]:
    """Whether the predictions of a test fold are equal, for each with different outcomes.

    The training rows of such a fold had one class, or nothing was selected; all its pairs are ties.
    """
    parts = [
        (outputs[fold == k], rows.y_true[fold == k])
        for outputs, fold in zip(rows.outputs, rows.fold, strict=True)
        for k in np.unique(fold[fold >= 0])
    ]
    return [bool((np.ptp(outputs, axis=0) == 0).all()) for outputs, y in parts if np.ptp(y) > 0]


def _no_pairs(score: Score, task: Task) -> str:
    if score.metric == task.spec.tested and task.form != "value":
        return f": no test fold contains {'both classes' if task.is_binary else 'two levels'}"
    return ""
