"""Learning curves: refit all models on subsets of the labelled subjects, with the same test folds.

Stages that do not use outcomes of the target are shared with the study by their keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.labelled import labelled_plan
from connectome_tl.cohort.learnable import is_constant
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.settings.model_table import UNINFORMED
from connectome_tl.settings.records.results import LearningPoint, Score
from connectome_tl.settings.records.scores import NOT_ESTIMABLE
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress
from connectome_tl.training.schemes import StudyCohorts


def learning_curve(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    *,
    store: FitStore | None = None,
    progress: Progress | None = None,
) -> list[LearningPoint]:
    """The primary score of every model and task at every size of the study, smallest first.

    Subjects outside a draw are excluded from the fit entirely.
    """
    found: list[LearningPoint] = []
    for number, size in enumerate(study.learning_curve):
        plan = labelled_plan(cohorts.target, splits, study.splits, size, [task.name for task in tasks])
        one = None if progress is None else _part_of(progress, number, len(study.learning_curve))
        validation = cross_validate(study, cohorts, plan, store=store, progress=one)
        tables = [validation.predictions, baseline_predictions(study, cohorts, plan, tasks)]
        table = pd.concat([one for one in tables if len(one)], ignore_index=True)
        made = points(scores(table, tasks, cohorts.target.families, n_labelled=size), tasks, size)
        found += [taught_point(point, cohorts.target, plan) for point in made]
    return found


def _part_of(progress: Progress, number: int, n_parts: int) -> Progress:
    """Progress of one of several parts of equal length, as a part of the whole."""

    def told(done: int, total: int, share: float | None = None, /) -> None:
        own = done / max(total, 1) if share is None else share
        progress(number * total + done, n_parts * total, (number + own) / n_parts)

    return told


def taught_point(point: LearningPoint, target: Cohort, plan: SplitPlan) -> LearningPoint:
    """The point with the reason if the labelled subjects of a fold have the same outcome, so that nothing is learned.

    Not estimable if this is so in every fold; the uninformed model needs no training.
    """
    values = target.targets[point.task].to_numpy(dtype=float)
    same = [is_constant(values[target.positions(fold.train)]) for _, _, fold in plan.folds()]
    if not any(same) or point.model == UNINFORMED:
        return point
    if all(same):
        why = f"{NOT_ESTIMABLE}: the labelled subjects of each fold have the same outcome"
        return point.model_copy(update={"value": math.nan, "low": math.nan, "high": math.nan, "reason": why})
    why = f"the labelled subjects of {sum(same)} of {len(same)} folds have the same outcome"
    return point.model_copy(update={"reason": "; ".join(part for part in (point.reason, why) if part)})


def points(scored: Sequence[Score], tasks: Sequence[Task], n_labelled: int) -> list[LearningPoint]:
    """The primary score of each model and task as points at one size."""
    primary = {task.name: task.spec.primary for task in tasks}
    return [
        LearningPoint(
            task=score.task,
            model=score.model,
            metric=score.metric,
            n_labelled=n_labelled,
            value=score.value,
            low=score.low,
            high=score.high,
            n=score.n,
            method=score.method,
            reason=score.reason,
        )
        for score in scored
        if score.metric == primary[score.task]
    ]
