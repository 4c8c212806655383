"""A correct run folder passes; one that does not follow from its settings fails, even if it is consistent."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from connectome_tl.audit.tables import null_findings, prediction_findings, split_findings
from connectome_tl.cohort.splits import Fold, InnerFold, SplitPlan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.errors import MissingInputError
from connectome_tl.provenance import write_table, write_text
from connectome_tl.settings.records.results import PermutationResult
from connectome_tl.settings.study import Refits, SplitSettings
from connectome_tl.tasks import Task
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.study.run import run_study
from tests.audit.conftest import FEW, write_run
from tests.audit.leaky_runs import leaky_ridge, predictions_of, rewrite
from tests.small_study import small_cohorts, small_settings

# Most tests edit files of one run, and none of its data.
pytestmark = pytest.mark.usefixtures("audits_fit_once", "audits_draw_once", "without_figures")
MOTOR = Task(name="motor", kind="binary", column="motor")


@pytest.fixture(scope="module")
def finished_run(made_once, without_figures):
    return made_once("audited-without-figures", lambda home: write_run(home, **FEW))


def failed(record):
    return {f.check for f in record.findings if f.status == "failed"}


def audited(home):
    return audit_run(home / "run", base=home / "cohorts")


@pytest.mark.slow
def test_an_honest_run_passes_and_its_refitted_fold_is_the_same_to_the_last_bit(run_of_all_models):
    record = audited(run_of_all_models)
    assert not failed(record)
    by_check = {f.check: f for f in record.findings}
    assert "exactly" in by_check["networks fitted again (all folds)"].what
    for check in ("poisoned test fold", "canary label", "order, subset and batch size", "adaptation pool"):
        assert by_check[check].status == "passed", check
    assert json.loads((run_of_all_models / "run" / "audit.json").read_text())["findings"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["selection", "harmonised"])
def test_steps_fitted_before_the_split_are_caught_though_the_folder_agrees_with_itself(run_copy, how):
    home = rewrite(run_copy, leaky_ridge(run_copy, predictions_of(run_copy), how))
    assert failed(audited(home)) == {"baselines fitted again (all folds)"}


def test_a_network_kept_at_its_best_test_epoch_is_caught(run_copy):
    predictions = predictions_of(run_copy)
    full = (predictions["model"] == "full") & (predictions["task"] == "cognitive")
    better = 0.9 * predictions["y_score"] + 0.1 * predictions["y_true"].fillna(0.5)
    predictions.loc[full, "y_score"] = better[full]
    predictions.loc[full, "y_pred"] = (better[full] >= 0.5).astype(float)
    assert failed(audited(rewrite(run_copy, predictions))) == {"networks fitted again (all folds)"}


@pytest.mark.slow
def test_adaptation_on_test_infants_that_the_settings_deny_is_caught(finished_run, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(finished_run / "cohorts", home / "cohorts")
    write_cohort(small_cohorts().target, home / "cohorts" / "pool")  # the infants are the pool
    stages = small_settings().stages
    few = {"controls": (), "baselines": ("prevalence", "ridge")}
    secret = stages.model_copy(update={"adapt": stages.adapt.model_copy(update={"transductive": True})})
    study = write_text(
        home / "cohorts" / "study.yaml", dump_settings(small_settings(stages=secret, refits=Refits(linear=5), **few))
    )
    run_study(study, home / "run")
    text = (home / "run" / "study.yaml").read_text()
    (home / "run" / "study.yaml").write_text(text.replace("transductive: true", "transductive: false"))
    found = failed(audited(home))
    assert "networks fitted again (all folds)" in found
    assert "target subjects in the pool cohort" not in found  # under their own ids: correctly inductive


def test_a_threshold_other_than_the_settings_is_caught(run_copy):
    predictions = predictions_of(run_copy)
    binary = predictions["task"] == "cognitive"
    predictions.loc[binary, "y_pred"] = (predictions.loc[binary, "y_score"] >= 0.37).astype(float)
    assert failed(audited(rewrite(run_copy, predictions))) == {"classes are those of the threshold 0.5"}


@pytest.mark.slow
def test_risks_or_thresholds_calibrated_on_test_rows_are_caught(finished_run, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(finished_run / "cohorts", home / "cohorts")
    splits = SplitSettings(repeats=1, outer=2, inner=2, stratum="cognitive")
    few = ("prevalence", "ridge")
    study = dump_settings(small_settings(splits=splits, controls=(), baselines=few, steps=1, refits=Refits(linear=5)))
    run_study(write_text(home / "cohorts" / "study.yaml", study), home / "run")
    check = "recalibrated again (all folds)"
    by_check = {f.check: f for f in audited(home).findings}
    assert "exactly" in by_check[check].what
    path = home / "run" / "calibrated.tsv"
    honest = pd.read_csv(path, sep="\t", na_values="n/a", dtype={"subject": str})
    nearer = 0.8 * honest["y_score"] + 0.2 * honest["y_true"].fillna(0.5)
    for leaky in (honest.assign(y_score=nearer), honest.assign(y_pred=honest["y_true"].fillna(honest["y_pred"]))):
        write_table(path, leaky)
        assert failed(audited(home)) == {check}
    path.unlink()
    assert failed(audited(home)) == {check, "provenance and sidecars are those of the run"}


def test_a_polished_score_and_a_missing_one_are_caught(run_copy):
    path = run_copy / "run" / "scores.json"
    rows = json.loads(path.read_text())
    rows[0]["value"] = 0.99
    path.write_text(json.dumps(rows[:-1]))
    assert failed(audited(run_copy)) == {
        "scores follow from the predictions",
        "no score was left out",
        "scores.json is that of results.json",
    }


def test_a_split_plan_edited_after_the_fact_is_caught(run_copy):
    plan = SplitPlan.load(run_copy / "run" / "split_plan.json")
    first = plan.repeats[0][0]
    edited = Fold((*first.train, first.test[0]), first.test, first.inner)
    SplitPlan(((edited, *plan.repeats[0][1:]),)).save(run_copy / "run" / "split_plan.json")
    assert {"the split plan is that of the settings", "folds are disjoint"} <= failed(audited(run_copy))
    text = (run_copy / "run" / "split_plan.json").read_text()
    (run_copy / "run" / "split_plan.json").write_text(text.replace(first.test[1], "nobody", 1))
    assert failed(audited(run_copy)) == {"split plan"}


def test_data_changed_since_the_run_is_caught(run_copy):
    path = run_copy / "cohorts" / "target" / "participants.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    numeric = next(c for c in table.columns if c.startswith("bayley"))
    known = table[numeric].ne("n/a").idxmax()
    table.loc[known, numeric] = "140"
    table.to_csv(path, sep="\t", index=False)
    assert "the data are those of the run" in failed(audited(run_copy))


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(MissingInputError, match="not a finished run"):
        audit_run(tmp_path)


def test_families_and_inner_folds_must_not_straddle():
    plan = SplitPlan(((Fold(("a", "b"), ("c",), (InnerFold(("a",), ("c",)),)), Fold(("c",), ("a", "a"))),))
    found = {f.check: f for f in split_findings(plan, {"b": "f", "c": "f"})}
    assert found["families stay together"].status == "failed"
    assert "inner folds" in found["folds are disjoint"].what
    assert "a (repeat 0)" in found["everyone is tested once a repeat"].what


def test_predictions_must_stand_where_the_plan_tested_them():
    plan = SplitPlan(((Fold(("a", "b"), ("c",)), Fold(("c",), ("a", "b"))),))
    rows = pd.DataFrame(
        {
            "subject": ["a", "b", "c", "c"], "task": "motor", "model": "full", "repeat": 0, "fold": [1, 0, 0, 0],
            "y_true": [1.0, 0.0, np.nan, 1.0], "y_score": [0.7, 0.2, 0.4, 0.4], "y_pred": [1.0, 0.0, 1.0, 0.0],
        }
    )  # fmt: skip
    targets = pd.DataFrame({"motor": [1.0, 0.0, np.nan]}, index=["a", "b", "c"])
    found = {f.check: f.what for f in prediction_findings(rows, plan, targets, (MOTOR,), 0.5) if f.status == "failed"}
    assert found.keys() == {
        "predictions are those of the split plan",
        "one prediction per subject and repeat",
        "outcomes are the cohort's",
        "classes are those of the threshold 0.5",
    }
    assert "1 not in the fold" in found["predictions are those of the split plan"]
    assert "b (motor" in found["predictions are those of the split plan"]


def test_a_null_that_predicts_permuted_outcomes_is_asked_about():
    def permuted(centre):
        null = tuple(np.random.default_rng(0).normal(centre, 0.08, 60))
        return PermutationResult(
            task="motor", model="full", metric="auc", question="", observed=0.7, null=null,
            p_value=0.1, p_value_max=0.1, n_permutations=60,
        )  # fmt: skip

    assert [f.status for f in null_findings([permuted(0.5)])] == ["passed"]
    assert [f.status for f in null_findings([permuted(0.6)])] == ["warning"]
    assert [f.status for f in null_findings([])] == ["skipped"]
