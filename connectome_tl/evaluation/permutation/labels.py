"""Refit the core, or the full model, under permuted outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.permutation.relabelled import relabelled_plan
from connectome_tl.evaluation.permutation.tests import no_parts, statistic, statistic_parts
from connectome_tl.evaluation.scores.predictions import score_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress, fit
from connectome_tl.training.networks.outputs import columns_of
from connectome_tl.training.refits import refitted_scores
from connectome_tl.training.schemes import StudyCohorts


def core_statistics(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    permutations: np.ndarray,
    *,
    store: FitStore | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Statistic of the closed-form core for every permutation, with all parts refitted.

    Permuted outcomes share the decompositions of a fold, so that without missing outcomes a thousand
    permutations cost little more than one. The folds are those of the first repeat. The core of the source,
    which does not use the target's outcomes, is fitted once.

    Args:
        permutations: (n_permutations, n_subjects) from `exchangeable_permutations`; outcome rows are permuted as a
            whole.

    Returns:
        (1 + n_permutations, n_tasks), the observed statistic first: the tested metric of each task.
    """
    target = cohorts.target
    outcomes = target.targets[[task.name for task in tasks]].to_numpy(float)
    every = np.vstack([np.arange(target.n_subjects), permutations])
    folds = splits.repeats[0]
    names = [task.name for task in tasks]
    plans = [
        relabelled_plan(study.of(0, f), cohorts, "core", fold, tasks, every[0], keep=True)
        for f, fold in enumerate(folds)
    ]
    parents = {parent.key: parent for plan in plans for _, parent in plan.parents}
    done = fit(parents.values(), cohorts.by_name(), store=store, n_jobs=study.n_jobs)
    sums = [no_parts(task, len(every)) for task in tasks]
    for f, (fold, plan) in enumerate(zip(folds, plans, strict=True)):
        train, test = target.positions(fold.train), target.positions(fold.test)
        scores = refitted_scores(plan, cohorts.by_name(), done, outcomes[every[:, train]], fold.test)
        for t, task in enumerate(tasks):
            labels = outcomes[every, t].T
            found = scores[names[t]] if task.form == "classes" else task.spec.from_score(scores[names[t]][0])
            sums[t] += statistic_parts(found, labels[train], labels[test], task)
        if progress is not None:
            progress(f + 1, len(folds))
    return statistic(sums, tasks)


def network_statistics(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    permutations: np.ndarray,
    *,
    store: FitStore | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Statistic of the full model for every permutation, with core and last stage refitted.

    Observed and permuted outcomes use the folds of the first repeat and one seed. All permutations share stages 1
    and 2, which do not use the target's outcomes. Arguments and result as for `core_statistics`.
    """
    target = cohorts.target
    outcomes = target.targets[[task.name for task in tasks]].to_numpy(float)
    every = np.vstack([np.arange(target.n_subjects), permutations])
    folds = splits.repeats[0]
    studies = [study.of(0, f) for f in range(len(folds))]
    plans = [
        [relabelled_plan(studies[f], cohorts, "full", fold, tasks, row, keep=False) for f, fold in enumerate(folds)]
        for row in every
    ]
    results = fit(
        [plan for of_one in plans for plan in of_one],
        cohorts.by_name(),
        store=store,
        n_jobs=study.n_jobs,
        progress=progress,
    )
    sums, places = [no_parts(task, len(every)) for task in tasks], columns_of(tasks)
    for f, fold in enumerate(folds):
        train, test = target.positions(fold.train), target.positions(fold.test)
        found = np.array([[results[of_one[f].key].predictions[i] for i in fold.test] for of_one in plans])
        for t, task in enumerate(tasks):
            labels = outcomes[every, t].T
            own = found[:, :, places[task.name]]
            if task.form == "classes":
                score = own.transpose(2, 1, 0)
            else:
                score = np.array([score_of(task, one) for one in own]).T
            sums[t] += statistic_parts(score, labels[train], labels[test], task)
    return statistic(sums, tasks)
