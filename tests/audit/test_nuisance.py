"""Outcomes due to site, age or motion: edges predict them, the guard names the cause, confounds correct the edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connectome_tl.audit.nuisance import nuisance_findings, nuisance_scores
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.settings.records.results import Score
from connectome_tl.settings.study import Confounds, SplitSettings
from connectome_tl.tasks import Task
from connectome_tl.training.schemes import StudyCohorts
from tests.small_study import small_cohorts, small_settings

MOTOR = Task(name="motor", kind="binary", column="motor")
SPLITS = SplitSettings(repeats=2, outer=4, stratum="cognitive")
TRUE_NAMES = {"age": "age at scan", "site": "site", "motion": "mean_fd"}


def made(model, value, task="motor"):
    return Score(task=task, model=model, metric="auc", value=value, low=0.1, high=0.9, n=30)


def driven_by(what):
    """A cohort whose outcome and edges depend on one nuisance variable only."""
    target = small_cohorts(n_target=64, effect=0.0).target
    rng = np.random.default_rng(3)
    site = rng.integers(0, 2, 64)
    target = replace(target, site=np.array(["A", "B"], dtype=object)[site])
    known = {"age": target.age, "motion": target.covariates["mean_fd"].to_numpy(float), "site": site.astype(float)}
    driver = (known[what] - known[what].mean()) / known[what].std()
    pattern = np.triu(rng.normal(size=(target.n_regions, target.n_regions)), 1)
    weights = target.weights + 0.25 * driver[:, None, None, None] * (pattern + pattern.T)
    outcome = target.targets["cognitive"].mask(
        target.targets["cognitive"].notna(), (driver > np.median(driver) - 1e-9) * 1.0
    )
    if what == "site":
        outcome = target.targets["cognitive"].mask(target.targets["cognitive"].notna(), site * 1.0)
    return replace(target, weights=weights, targets=target.targets.assign(cognitive=outcome))


@pytest.mark.parametrize("what", ["site", "age", "motion"])
def test_an_outcome_of_a_nuisance_variable_alone_is_pointed_out_by_name(what):
    target = driven_by(what)
    tasks, alone = (target.task("cognitive"),), StudyCohorts({"target": target})
    splits = make_split_plan(target, SPLITS)
    found = scores(baseline_predictions(small_settings(), alone, splits, tasks), tasks)
    auc = {s.model: s.value for s in found if s.metric == "auc"}
    assert auc["ridge"] > 0.75  # edges do predict it
    (finding,) = nuisance_findings(found, nuisance_scores(target, splits, tasks), tasks, model="ridge")
    assert finding.status == "warning"
    assert f"from {TRUE_NAMES[what]}" in finding.what
    if what != "site":
        column = "age" if what == "age" else "mean_fd"
        freed = small_settings(confounds=Confounds(columns=(column,)), baselines=("ridge",))
        (without,) = (s for s in scores(baseline_predictions(freed, alone, splits, tasks), tasks) if s.metric == "auc")
        assert without.value < auc["ridge"] - 0.15


def test_an_outcome_that_nuisance_explains_is_a_warning_not_a_charge():
    (finding,) = nuisance_findings([made("full", 0.7), made("nuisance_only", 0.75)], [], (MOTOR,))
    assert finding.status == "warning"
    (finding,) = nuisance_findings([made("full", 0.7), made("nuisance_only", 0.5)], [made("site", 0.6)], (MOTOR,))
    assert finding.status == "passed"
    (finding,) = nuisance_findings([made("full", 0.7), made("nuisance_only", 0.5)], [made("site", 0.8)], (MOTOR,))
    assert "0.80 from site" in finding.what
