"""Recalibration by inner folds uses training rows only, corrects too extreme risks, and preserves their order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_study import small_cohorts, small_settings

from connectome_tl.audit.corruption import wrecked
from connectome_tl.cohort.splits import Fold, SplitPlan, make_split_plan
from connectome_tl.errors import LeakageError
from connectome_tl.evaluation.clinical.recalibration import (
    FoldCalibrator,
    RecalibratedStudy,
    fit_calibrators,
    inner_plan,
    inner_predictions,
    recalibrate,
    recalibration_results,
)
from connectome_tl.evaluation.nested_cv import cross_validate, plan_folds, tasks_of
from connectome_tl.settings.study import Recalibration, SplitSettings
from connectome_tl.tasks import Task
from connectome_tl.training.schemes import ALWAYS, StudyCohorts

MOTOR = Task(name="motor", kind="binary", column="motor")
SMALL = small_cohorts()
# The pool contains infants of the target, including tested ones.
COHORTS = SMALL.with_role("pool", replace(SMALL.target, name="pool"))
STUDY = small_settings(steps=1, splits=SplitSettings(repeats=1, outer=3, inner=2, stratum="cognitive"))
SPLITS = make_split_plan(COHORTS.target, STUDY.splits)
FIRST = SPLITS.repeats[0][0]


def calibrators(cohorts: StudyCohorts) -> tuple[FoldCalibrator, ...]:
    study = STUDY.model_copy(update={"controls": ()})
    first = SplitPlan((SPLITS.repeats[0][:1],))
    validation = cross_validate(study, cohorts, first)
    inner = inner_predictions(study, cohorts, first, validation)
    return fit_calibrators(inner, first, tasks_of(study, cohorts), study.recalibration)


def test_wrecked_test_rows_change_no_bit_of_scaling_or_threshold() -> None:
    want = calibrators(COHORTS)
    of_images = {"random_encoder", "volumes", "quantiles", "volumes_quantiles", "pca_gpr"}
    assert {c.model for c in want} == {*ALWAYS, *STUDY.baselines} - {"prevalence", "tangent_ridge"} - of_images
    assert all(set(c.scaling.train_ids) <= set(FIRST.train) for c in want)
    spoiled = COHORTS
    for role in ("target", "pool"):
        spoiled = spoiled.with_role(role, wrecked(COHORTS.roles[role], FIRST.test))
    assert repr(calibrators(spoiled)) == repr(want)
    trained = COHORTS.with_role("target", wrecked(COHORTS.target, FIRST.train[:2]))
    assert repr(calibrators(trained)) != repr(want)


def test_no_held_out_risk_comes_from_a_network_that_has_seen_the_row_or_from_a_test_row() -> None:
    planned = plan_folds(STUDY.model_copy(update={"controls": ()}), COHORTS, SPLITS, tasks_of(STUDY, COHORTS))
    for item in planned:
        for plan in item.plans:
            for member in plan.lineage():
                assert not set(item.fold.test) & set(member.train.ids), member.stage
                held_out = [subject for part in member.inner for subject in part]
                assert len(held_out) == len(set(held_out))
                assert set(held_out) == (set(item.fold.train) if member.stage == "finetune" else set())


def test_no_inner_fit_of_a_baseline_sees_its_validation_rows_or_the_outer_test_rows() -> None:
    plan = inner_plan(SPLITS)
    assert [len(folds) for folds in plan.repeats] == [2, 2, 2]
    for number, folds in enumerate(plan.repeats):
        outer = SPLITS.repeats[0][number]
        for fold, inner in zip(folds, outer.inner, strict=True):
            assert not {*inner.test, *outer.test} & set(fold.train)
            assert set(fold.test) == {*inner.test, *outer.test}


def bold(n: int, stretch: float, seed: int = 0) -> tuple[pd.DataFrame, SplitPlan]:
    """Risks of two folds whose logits are too extreme by the factor `stretch`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.7, 1.2, n)
    ids = [f"s{i:05d}" for i in range(n)]
    table = pd.DataFrame({"subject": ids, "task": "motor", "model": "full", "repeat": 0, "fold": np.arange(n) % 2})
    table["y_true"] = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(float)
    table["y_score"] = 1 / (1 + np.exp(-stretch * x))
    table["y_pred"] = (table["y_score"] >= 0.5).astype(float)
    halves = [tuple(table.loc[table["fold"] == k, "subject"]) for k in (0, 1)]
    return table, SplitPlan(((Fold(halves[1], halves[0]), Fold(halves[0], halves[1])),))


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_bold_risks_become_true_and_the_threshold_holds_its_specificity(method: str) -> None:
    table, plan = bold(6000, 3.0)
    inner = table.assign(fold=1 - table["fold"])  # each half is used for the fold that tests the other
    settings = Recalibration.model_validate({"method": method, "specificity": 0.8})
    fixed = RecalibratedStudy(recalibrate(table, found := fit_calibrators(inner, plan, [MOTOR], settings), 0.5), found)
    (record,) = recalibration_results(table, fixed, [MOTOR], {}, settings)
    scores = {s.metric: s.value for s in record.scores}
    assert scores["calibration_slope"] == pytest.approx(1, abs=0.08)
    assert scores["calibration_intercept"] == pytest.approx(0, abs=0.12)
    assert scores["specificity"] == pytest.approx(0.8, abs=0.02)
    assert record.slope == pytest.approx((1 / 3, 1 / 3), rel=0.1)
    assert len(record.threshold) == 2
    raw, new = (t.sort_values("subject") for t in (table, fixed.predictions))
    for k in (0, 1):
        one, two = (t.loc[t["fold"] == k, "y_score"].to_numpy() for t in (raw, new))
        assert (np.argsort(one) == np.argsort(two)).all()


def test_a_fold_whose_training_rows_have_one_class_keeps_its_risks() -> None:
    table, plan = bold(40, 2.0)
    inner = table.assign(fold=1 - table["fold"])
    inner.loc[inner["fold"] == 0, "y_true"] = 0.0
    found = fit_calibrators(inner, plan, [MOTOR], Recalibration())
    assert [c.fold for c in found] == [1]
    fixed = recalibrate(table, found, 0.5)
    here = fixed["fold"] == 0
    assert (fixed.loc[here, "y_score"].to_numpy() == table.loc[table["fold"] == 0, "y_score"].to_numpy()).all()
    assert (fixed.loc[here, "y_pred"] == (fixed.loc[here, "y_score"] >= 0.5)).all()


def test_recalibration_on_a_test_row_is_refused() -> None:
    table, plan = bold(40, 2.0)
    with pytest.raises(LeakageError, match="recalibration of full"):
        fit_calibrators(table, plan, [MOTOR], Recalibration())
