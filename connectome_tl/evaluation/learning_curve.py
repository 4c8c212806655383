"""Learning curves: refit all models on subsets of the labelled subjects, with the same test folds.

Stages that do not use outcomes of the target are shared with the study by their keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from connectome_tl.cohort.labelled import labelled_plan
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.settings.records.results import LearningPoint, Score
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
    for size in study.learning_curve:
        plan = labelled_plan(cohorts.target, splits, study.splits, size, [task.name for task in tasks])
        validation = cross_validate(study, cohorts, plan, store=store, progress=progress)
        tables = [validation.predictions, baseline_predictions(study, cohorts, plan, tasks)]
        table = pd.concat([one for one in tables if len(one)], ignore_index=True)
        found += points(scores(table, tasks, cohorts.target.families, n_labelled=size), tasks, size)
    return found


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
