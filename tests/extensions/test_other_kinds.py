"""Ordinal and multiclass outcomes together with the usual ones, from files through every model to the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_study import small_cohorts

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.evaluation.permutation.beyond_clinical import QUESTION
from connectome_tl.settings.study import CohortUse, SplitSettings
from connectome_tl.tasks import Task
from connectome_tl.workflows.study.study_run import StudyRun

NAMES = ("pattern", "severity", "motor_score", "cognitive")
LEVELS = {"severity": ("0", "1", "2"), "pattern": ("0", "1", "2")}


def with_other_kinds(cohort: Cohort) -> Cohort:
    """Severity in three levels of a simulated score, and an associated class."""
    score = cohort.targets["motor_score"]
    rank = score.rank(pct=True)
    severity = np.where(score.isna(), np.nan, np.digitize(rank.fillna(0), [0.34, 0.67])).astype(float)
    pattern = np.where(score.isna(), np.nan, (severity + (np.arange(len(score)) % 4 == 0)) % 3)
    added = {"severity": severity, "pattern": pattern}
    kinds = {"severity": "ordinal", "pattern": "multiclass"}
    tasks = [
        Task.model_validate({"name": name, "kind": kinds[name], "column": name, "levels": LEVELS[name]})
        for name in added
    ]
    return replace(
        cohort,
        tasks=(*cohort.tasks, *tasks),
        targets=cohort.targets.assign(**added),
        status=cohort.status.assign(**dict.fromkeys(added, cohort.status["motor_score"])),
        scores=None if cohort.scores is None else cohort.scores.assign(**added),
    )


@pytest.fixture(scope="module")
def run(run_small: Callable) -> StudyRun:
    cohorts = small_cohorts(n_source=16, n_pool=12, n_target=30)
    return run_small(
        {},
        cohorts.with_role("target", with_other_kinds(cohorts.target)),
        target=CohortUse(cohort="target/cohort.yaml", tasks=NAMES),
        splits=SplitSettings(repeats=1, outer=2, stratum="severity"),
        baselines=("prevalence", "clinical_only", "ridge", "linear_all"),
        controls=("no_pretrain", "single_task"),
        permutations=2,
        figures=True,
    )


def test_every_model_gives_probabilities_of_every_level(run: StudyRun) -> None:
    columns = [f"p_{k}" for k in range(3)]
    for name in LEVELS:
        rows = run.predictions[run.predictions["task"] == name]
        assert set(rows["model"]) >= {"full", "core", "network", "single_task", "ridge", "linear_all", "prevalence"}
        found = rows[columns].to_numpy()
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
        assert (found >= 0).all()
        assert set(rows["y_pred"]) <= {0.0, 1.0, 2.0}
    others = run.predictions[~run.predictions["task"].isin(LEVELS)]
    assert others[columns].isna().all().all()


def test_every_kind_has_scores_tests_and_verdicts(run: StudyRun) -> None:
    primary = {"severity": "c_index", "pattern": "macro_auc", "cognitive": "auc", "motor_score": "r2"}
    for name, metric in primary.items():
        mine = run.scores[(run.scores["task"] == name) & (run.scores["metric"] == metric)]
        assert np.isfinite(mine.loc[mine["model"] == "full", "value"]).all(), name
        assert {"full", "core", "network"} <= set(mine["model"])
    assert set(run.verdicts["task"]) == set(NAMES)
    assert set(run.permutations["task"]) == set(NAMES)
    assert {"severity", "pattern"} <= set(run.comparisons["task"])


def test_the_report_names_the_outcomes(run: StudyRun) -> None:
    page = run.report.read_text("utf-8")
    assert "were used to predict pattern, severity, motor_score" in page
    assert "concordance" in page.lower()


def test_value_beyond_covariates_is_tested_for_every_kind_of_outcome(run: StudyRun) -> None:
    asked = run.permutations[run.permutations["question"] == QUESTION]
    assert dict(zip(asked["task"], asked["metric"])) == {
        "pattern": "macro_auc",
        "severity": "c_index",
        "motor_score": "r2",
        "cognitive": "auc",
    }
    assert asked["p_value"].between(1 / 3, 1).all()


def test_an_ordinal_outcome_with_signal_is_found(run_small: Callable) -> None:
    cohorts = small_cohorts(n_source=16, n_pool=12, n_target=60, effect=2.0)
    found = run_small(
        {"stages.finetune.training.steps": 20},
        cohorts.with_role("target", with_other_kinds(cohorts.target)),
        target=CohortUse(cohort="target/cohort.yaml", tasks=("severity",)),
        splits=SplitSettings(repeats=1, outer=3, stratum="severity"),
        controls=(),
    )
    scores = found.scores.set_index(["model", "metric"])["value"]
    assert scores["core", "c_index"] > 0.6
    assert scores["full", "c_index"] > 0.6
