"""Out-of-fold predictions of all models of a study on the same folds and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fit import Progress, fit
from connectome_tl.training.networks.outputs import columns_of
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import Scheme, StudyCohorts, omitted_controls, schemes_of
from connectome_tl.training.stages import chain


@dataclass(frozen=True)
class PlannedFold:
    """The plans (one per seed) whose mean predicts some tasks of one model on one fold."""

    model: str
    tasks: tuple[Task, ...]
    repeat: int
    fold_number: int
    fold: Fold
    plans: tuple[FitPlan, ...]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Predictions of every model and the underlying fits, by key."""

    predictions: pd.DataFrame
    planned: tuple[PlannedFold, ...]
    results: dict[str, FitResult]


def tasks_of(study: StudySettings, cohorts: StudyCohorts) -> tuple[Task, ...]:
    """The target's tasks of this study, in order.

    Raises:
        UsageError: there is no task, a task is unknown, or one lacks its levels.
    """
    names = study.target.tasks if study.target.tasks is not None else tuple(t.name for t in cohorts.target.tasks)
    tasks = tuple(cohorts.target.task(name) for name in names)
    if not tasks:
        raise UsageError("the target cohort has no outcome", remedy="Give `outcomes` in its cohort.yaml.")
    for task in tasks:
        task.n_columns  # noqa: B018 - refuses an ordinal task without levels before anything is fitted
    return tasks


def plan_folds(
    study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task]
) -> tuple[PlannedFold, ...]:
    """Every model of the study on every fold."""
    omitted = omitted_controls(study, cohorts, len(tasks))
    return tuple(
        item
        for scheme in schemes_of(study, cohorts)
        if scheme.name not in omitted
        for item in plan_model(study, cohorts, scheme, splits, tasks)
    )


def plan_model(
    study: StudySettings, cohorts: StudyCohorts, scheme: Scheme, splits: SplitPlan, tasks: Sequence[Task]
) -> tuple[PlannedFold, ...]:
    """One model on every fold."""
    groups = [(task,) for task in tasks] if scheme.single_task else [tuple(tasks)]
    return tuple(
        PlannedFold(
            scheme.name,
            group,
            repeat,
            number,
            fold,
            seeded_chains(study.of(repeat, number), cohorts, scheme, fold, group),
        )
        for repeat, number, fold in splits.folds()
        for group in groups
    )


def seeded_chains(
    study: StudySettings,
    cohorts: StudyCohorts,
    scheme: Scheme,
    fold: Fold,
    tasks: Sequence[Task],
    *,
    label_rows: Sequence[str] | None = None,
    keep: bool = True,
) -> tuple[FitPlan, ...]:
    """One chain of plans per seed. Seeds do not depend on the repeat, so stage 1 is fitted once per seed."""
    names = [task.name for task in tasks]
    return tuple(
        chain(study, cohorts, scheme, fold, names, seed=study.seed + s, label_rows=label_rows, keep=keep)
        for s in range(study.n_seeds)
    )


def cross_validate(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    *,
    store: FitStore | None = None,
    progress: Progress | None = None,
) -> CrossValidation:
    """Fit every model on every fold and predict its test rows.

    Raises:
        LeakageError: a fit, or an earlier stage, used a row of its test fold.
    """
    tasks = tasks_of(study, cohorts)
    planned = plan_folds(study, cohorts, splits, tasks)
    results = fit(
        [plan for item in planned for plan in item.plans],
        cohorts.by_name(),
        store=store,
        n_jobs=study.n_jobs,
        progress=progress,
    )
    tables = []
    for item in planned:
        admit_fits(item, results, study)
        tables.append(fold_predictions(item, results, cohorts, study.threshold))
    return CrossValidation(pd.concat(tables, ignore_index=True), planned, results)


def admit_fits(item: PlannedFold, results: dict[str, FitResult], study: StudySettings) -> None:
    """Check that no fit of one fold, and no earlier stage, used a row of its test fold.

    Raises:
        LeakageError: a fit used a row of its test fold.
    """
    transductive = study.stages.adapt is not None and study.stages.adapt.transductive
    # Choosing the step on tested rows is a leak that the settings request; the report and the audit state it.
    seen = transductive or study.stages.finetune.ensemble.choose_on == "tested"
    for plan in item.plans:
        for member in plan.lineage():
            if not (transductive and member.stage == "adapt"):
                item.fold.admit(f"{item.model}: {member.stage}", member.train.ids)
                if not seen:
                    item.fold.admit(f"{item.model}: features of {member.stage}", results[member.key].rows)


def fold_predictions(
    item: PlannedFold,
    results: dict[str, FitResult],
    cohorts: StudyCohorts,
    threshold: float,
) -> pd.DataFrame:
    """Mean predictions over seeds, as rows of the prediction table."""
    ids = item.fold.test
    outputs = np.mean([[results[plan.key].predictions[i] for i in ids] for plan in item.plans], axis=0)
    places = columns_of(item.tasks)
    truth = cohorts.target.targets[[t.name for t in item.tasks]].to_numpy(float)[cohorts.target.positions(ids)]
    return pd.concat(
        [
            prediction_rows(
                task,
                item.model,
                item.repeat,
                item.fold_number,
                ids,
                truth[:, t],
                outputs[:, places[task.name]],
                threshold,
            )
            for t, task in enumerate(item.tasks)
        ],
        ignore_index=True,
    )
