"""Permutation tests of baselines equal complete new runs on the permuted outcomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import TASKS, small_cohorts, small_settings, with_correlations

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.evaluation.baselines.fixed import BASELINES, baseline_predictions
from connectome_tl.evaluation.permutation.baselines import baseline_statistics
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.training.schemes import StudyCohorts

COHORTS = StudyCohorts({role: with_correlations(cohort) for role, cohort in small_cohorts().roles.items()})
IN_ALGEBRA = {"ridge", "linear_all", "tangent_ridge", "kernel_ridge", "cpm", "linear_transfer", "meta_matching"}


def test_each_statistic_is_the_score_of_a_run_on_the_permuted_outcomes() -> None:
    study = small_settings(baselines=tuple(BASELINES))
    target = COHORTS.target
    tasks = tuple(target.task(name) for name in TASKS)
    splits = make_split_plan(target, study.splits)
    moves = exchangeable_permutations(target.ids, 2, 0)
    found = baseline_statistics(study, COHORTS, splits, tasks, moves)
    assert set(found) == IN_ALGEBRA
    few = small_settings(baselines=("prevalence", *sorted(IN_ALGEBRA)))
    for k, order in enumerate([np.arange(target.n_subjects), *moves]):
        moved = target.targets.iloc[order].set_axis(list(target.ids), axis=0)
        table = baseline_predictions(few, COHORTS.with_role("target", replace(target, targets=moved)), splits, tasks)
        made = {(s.task, s.model, s.metric): s.value for s in scores(table, tasks)}
        for name, (own, statistics) in found.items():
            assert own == tasks
            for t, task in enumerate(tasks):
                want = made[task.name, name, task.spec.primary]
                assert statistics[k, t] == pytest.approx(want, abs=1e-6), (name, task.name, k)
