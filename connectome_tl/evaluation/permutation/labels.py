"""The fine-tuning, fitted again under permuted outcomes: what chance alone would give, all stages on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.evaluation.nested_cv import seeded_chains
from connectome_tl.evaluation.permutation.tests import statistic, statistic_parts
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress, fit
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.stages import SCHEMES, StudyCohorts


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
    """Statistic of the full model under every permutation, its fine-tuning refitted each time.

    The first repeat's folds and one seed, for the observed outcomes too, so that all are made alike.
    Stages 1 and 2 do not see the target's outcomes: all permutations share them.

    Args:
        permutations: (n_permutations, n_subjects) from `exchangeable_permutations`: whole outcome rows move.

    Returns:
        (1 + n_permutations, n_tasks), the observed statistic first: AUC within folds, or R2.
    """
    target = cohorts.target
    outcomes = target.targets[[task.name for task in tasks]].to_numpy(float)
    every = np.vstack([np.arange(target.n_subjects), permutations])
    folds = splits.repeats[0]
    plans = [[_plan(study, cohorts, fold, tasks, row) for fold in folds] for row in every]
    results = fit(
        [plan for of_one in plans for plan in of_one],
        cohorts.by_name(),
        store=store,
        n_jobs=study.n_jobs,
        progress=progress,
    )
    sums = np.zeros((len(tasks), 2, len(every)))
    for f, fold in enumerate(folds):
        train, test = target.positions(fold.train), target.positions(fold.test)
        score = np.array([[results[of_one[f].key].predictions[i] for i in fold.test] for of_one in plans])
        for t, task in enumerate(tasks):
            labels = outcomes[every, t].T
            sums[t] += statistic_parts(score[:, :, t].T, labels[train], labels[test], task)
    return statistic(sums, tasks)


def _plan(study: StudySettings, cohorts: StudyCohorts, fold: Fold, tasks: Sequence[Task], row: np.ndarray) -> FitPlan:
    target = cohorts.target
    labels = [target.ids[i] for i in row[target.positions(fold.train)]]
    single = study.model_copy(update={"n_seeds": 1})
    (plan,) = seeded_chains(single, cohorts, SCHEMES[0], fold, tasks, label_rows=labels, keep=False)
    return plan
