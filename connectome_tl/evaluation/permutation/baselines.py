"""Refit baselines under permuted outcomes, all permutations of a fold in one decomposition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.baselines.design import Baseline
from connectome_tl.evaluation.baselines.fixed import baselines_of
from connectome_tl.evaluation.permutation.tests import can_be_fitted, no_parts, statistic, statistic_parts
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.fit import Progress
from connectome_tl.training.schemes import StudyCohorts


def baseline_statistics(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    permutations: np.ndarray,
    *,
    progress: Progress | None = None,
) -> dict[str, tuple[tuple[Task, ...], np.ndarray]]:
    """Statistics of every baseline whose labellings share computations, on the folds of the first repeat.

    Penalties, edges and pulls are chosen again for every permutation.

    Args:
        permutations: (n_permutations, n_subjects) from `exchangeable_permutations`.

    Returns:
        By baseline: its tasks and (1 + n_permutations, n_tasks), the observed statistic first. Baselines whose
        features cannot be computed in a fold are omitted.
    """
    target, found = cohorts.target, {}
    every = np.vstack([np.arange(target.n_subjects), permutations])
    asked = {
        name: baselines
        for name, baselines in baselines_of(study, cohorts, tasks).items()
        if all(one.learner.many is not None for one in baselines)
    }
    for n_done, (name, baselines) in enumerate(asked.items()):
        parts: dict[str, np.ndarray] = {}
        for baseline in baselines:
            parts |= _parts(baseline, cohorts, splits, every)
        if parts:
            own = tuple(task for task in tasks if task.name in parts)
            found[name] = own, statistic([parts[task.name] for task in own], own)
        if progress is not None:
            progress(n_done + 1, len(asked))
    return found


def _parts(baseline: Baseline, cohorts: StudyCohorts, splits: SplitPlan, every: np.ndarray) -> dict[str, np.ndarray]:
    """Sums over folds by task; empty if the features cannot be computed in a fold."""
    target, many = cohorts.target, baseline.learner.many
    assert many is not None
    sums = {task.name: no_parts(task, len(every)) for task in baseline.tasks}
    for fold in splits.repeats[0]:
        design = baseline.design(fold)
        if not design.train.shape[1]:
            return {}
        train, test = target.positions(fold.train), target.positions(fold.test)
        for task in baseline.tasks:
            labels = target.targets[task.name].to_numpy(float)[every].T
            y_train, y_test = labels[train], labels[test]
            usable = can_be_fitted(y_train, task)
            if not usable.any():
                continue
            y = y_train[:, usable]
            if task.form == "classes":
                missing = np.isnan(y)
                each = [np.where(missing, np.nan, y == level) for level in range(task.n_levels)]
                score = np.array([many(design, labels_of) for labels_of in each])
            else:
                score = many(design, y)
            sums[task.name][..., usable] += statistic_parts(score, y, y_test[:, usable], task)
    return sums
