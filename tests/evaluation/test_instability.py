"""Instability falls with the number of infants; a bootstrap is of families; no refit sees the infant it judges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import TASKS, small_cohorts, small_settings

from connectome_tl.audit.wrecking import wrecked
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.errors import DataError
from connectome_tl.evaluation import instability as module
from connectome_tl.evaluation.baselines.linear import fit_ridge
from connectome_tl.evaluation.instability import bootstrap_risks, instability, resampled, study_instability
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.evaluation.permutation.tests import FoldRows
from connectome_tl.settings.study import Refits, SplitSettings

COHORTS = small_cohorts()
STUDY = small_settings(steps=1, splits=SplitSettings(repeats=2, outer=3), refits=Refits(linear=8, network=3))
SPLITS = make_split_plan(COHORTS.target, STUDY.splits)


def made(n, seed=0, twins=False):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 5 < 2).astype(float)
    x = rng.standard_normal((n, 10)) + 0.6 * y[:, None]
    cluster = np.arange(n)
    if twins:
        x, y, cluster = np.vstack([x, x]), np.r_[y, y], np.r_[cluster, cluster]
    fold = cluster % 4
    folds = [
        FoldRows(0, np.flatnonzero(fold != k), np.flatnonzero(fold == k), x[fold != k], x[fold == k]) for k in range(4)
    ]
    return folds, y, cluster


def ridge(x, y):
    return fit_ridge(x, y, (10.0, 100.0))


def found_in(folds, y, cluster, n_refits):
    return instability("motor", "ridge", *bootstrap_risks(folds, y, cluster, n_refits, fit=ridge), 0.5)


def test_risks_are_steadier_with_more_infants():
    few, many = (found_in(*made(n), n_refits=40) for n in (30, 300))
    assert many.mean_absolute_error < 0.6 * few.mean_absolute_error
    assert many.classification < few.classification
    inside = [low <= one <= high for low, one, high in zip(few.low, few.original, few.high)]
    assert np.mean(inside) > 0.8


def test_twins_add_nothing_when_families_are_drawn():
    single = found_in(*made(40), n_refits=60)
    folds, y, family = made(40, twins=True)
    related = found_in(folds, y, family, n_refits=60)
    ignored = found_in(folds, y, np.arange(y.size), n_refits=60)
    assert related.mean_absolute_error > 0.85 * single.mean_absolute_error
    assert ignored.mean_absolute_error < 0.85 * single.mean_absolute_error


def test_the_numbers_of_a_case_worked_by_hand():
    record = instability("motor", "full", np.array([0.4, 0.6]), np.array([[0.5, 0.6], [0.3, 0.4]]), 0.5)
    assert record.mean_absolute_error == pytest.approx((0.1 + 0.0 + 0.1 + 0.2) / 4)
    assert record.classification == pytest.approx(2 / 4)  # 0.5 is called positive, 0.4 negative


def test_folds_of_several_repeats_are_refused():
    folds, y, family = made(30)
    with pytest.raises(DataError, match="one repeat"):
        bootstrap_risks([*folds, folds[0]], y, family)


def test_every_model_of_every_binary_task_is_refitted_and_the_network_s_original_is_its_own():
    from connectome_tl.evaluation.nested_cv import cross_validate

    found = {(one.task, one.model): one for one in study_instability(STUDY, COHORTS, SPLITS, tasks_of(STUDY, COHORTS))}
    assert set(found) == {("cognitive", m) for m in ("full", "nuisance_only", "clinical_only", "ridge", "linear_all")}
    assert found["cognitive", "full"].n_refits == 3
    table = cross_validate(STUDY.model_copy(update={"controls": ()}), COHORTS, SPLITS).predictions
    here = (
        (table["task"] == "cognitive") & (table["model"] == "full") & (table["repeat"] == 0) & table["y_true"].notna()
    )
    assert sorted(found["cognitive", "full"].original) == pytest.approx(sorted(table.loc[here, "y_score"]))
    assert found["cognitive", "full"].mean_absolute_error > 0


def test_no_refit_sees_a_test_row(monkeypatch):
    """Wrecked test rows change predictions of those rows only through their own features: no fit moves."""
    from small_study import fitted_bytes

    states = []
    honest = module.fit

    def spied(plans, cohorts, **options):
        plans = list(plans)
        first = [member for plan in plans[:4] for member in plan.lineage()]  # those of the first fold
        results = honest([*plans, *(replace(member, keep=True) for member in first)], cohorts, **options)
        states.append([(member.stage, fitted_bytes(results[member.key])) for member in first])
        return results

    monkeypatch.setattr(module, "fit", spied)
    tasks = tasks_of(STUDY, COHORTS)
    small = STUDY.model_copy(update={"refits": Refits(linear=0, network=3)})
    study_instability(small, COHORTS, SPLITS, tasks)
    spoiled = COHORTS.with_role("target", wrecked(COHORTS.target, SPLITS.repeats[0][0].test))
    study_instability(small, spoiled, SPLITS, tasks)
    assert {stage for stage, _ in states[0]} == {"source", "pretrain", "adapt", "core", "finetune", "mixture"}
    assert states[0] == states[1]


def test_a_draw_of_the_same_infant_is_a_row_of_its_own():
    ids = COHORTS.target.ids
    tables = COHORTS.target.covariates
    known = replace(COHORTS.target, as_read=tables, scores=tables, volumes=tuple(ids))  # all that a file may bring
    again = resampled(known, (ids[1], ids[1], ids[0]), ids[5:7])
    assert again.ids == (ids[1], f"{ids[1]} #2", ids[0], ids[5], ids[6])
    np.testing.assert_array_equal(again.weights[1], again.weights[0])
    np.testing.assert_array_equal(again.targets.loc[f"{ids[1]} #2"], COHORTS.target.targets.loc[ids[1]])
    assert again.task(TASKS[0]) == COHORTS.target.task(TASKS[0])
    assert again.as_read is not None
    assert again.scores is not None
    assert list(again.as_read.index) == list(again.scores.index) == list(again.ids)
    assert again.volumes == (ids[1], ids[1], ids[0], ids[5], ids[6])
    assert again.take(again.ids[::-1]).take(again.ids).ids == again.ids


@pytest.mark.parametrize(("n_refits", "ends"), [(99, (0.0, 1.0)), (100, (0.025, 0.975))])
def test_of_few_refits_the_range_is_given_and_of_many_95_percent(n_refits, ends):
    refitted = np.random.default_rng(5).random((n_refits, 3))
    found = instability("motor", "full", np.full(3, 0.5), refitted, 0.5)
    np.testing.assert_allclose([found.low, found.high], np.quantile(refitted, ends, axis=0))
