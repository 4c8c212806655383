"""Out-of-fold predictions: each subject once per repeat, the same folds for all; signal is found, noise is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.metrics import roc_auc_score
from small_study import TASKS, cut, small_cohorts, small_settings

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.errors import DataError, LeakageError, UsageError
from connectome_tl.evaluation.baselines.covariates import nuisance_table
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate, plan_folds, tasks_of
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import COLUMNS
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.settings.training import Adapt, Ensemble, FineTune, Pretrain, Stages, Training
from connectome_tl.tasks import Task
from connectome_tl.training import stages as staging
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import ALWAYS, BY_NAME, StudyCohorts, schemes_of
from connectome_tl.training.stages import chain
from connectome_tl.workflows.study.inputs import read_cohorts

COHORTS = small_cohorts()


def predictions_of(study: StudySettings, cohorts: StudyCohorts = COHORTS) -> pd.DataFrame:
    splits = make_split_plan(cohorts.target, study.splits)
    tasks = tasks_of(study, cohorts)
    networks = cross_validate(study, cohorts, splits).predictions
    return pd.concat([networks, baseline_predictions(study, cohorts, splits, tasks)], ignore_index=True)


def auc_within_folds(table: pd.DataFrame, model: str, task: str = "cognitive") -> float:
    rows = table[(table["model"] == model) & (table["task"] == task)].dropna(subset=["y_true"])
    good = pairs = 0.0
    for _, fold in rows.groupby(["repeat", "fold"]):
        n = (fold["y_true"] == 1).sum() * (fold["y_true"] == 0).sum()
        if n:
            good, pairs = good + n * roc_auc_score(fold["y_true"], fold["y_score"]), pairs + n
    return good / pairs


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return predictions_of(small_settings(steps=1, splits=SplitSettings(repeats=2, outer=2, stratum="cognitive")))


def test_everybody_is_predicted_once_a_repeat_by_every_model_on_the_same_folds(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    study = small_settings()
    # The edges are not correlations, and there are no volumes.
    left_out = {"tangent_ridge", "random_encoder", "volumes", "quantiles", "volumes_quantiles", "pca_gpr"}
    models = {scheme.name for scheme in schemes_of(study, COHORTS)} | set(study.baselines) - left_out
    assert set(table["model"]) == models
    assert len(models) == 24
    for _, rows in table.groupby(["model", "task", "repeat"]):
        assert sorted(rows["subject"]) == sorted(COHORTS.target.ids)
    folds = table.groupby(["subject", "repeat"])["fold"].nunique()
    assert (folds == 1).all()


def test_missing_outcomes_are_predicted_and_not_scored(table: pd.DataFrame) -> None:
    missing = COHORTS.target.targets["cognitive"].isna()
    assert missing.any()
    rows = table[(table["task"] == "cognitive") & (table["model"] == "full") & (table["repeat"] == 0)].set_index(
        "subject"
    )
    assert_array_equal(rows.loc[missing.index, "y_true"].isna(), missing)
    assert np.isfinite(rows["y_score"]).all()
    found = scores(table, tasks_of(small_settings(), COHORTS), {})
    assert {s.n for s in found if s.task == "cognitive"} == {int((~missing).sum())}


def test_prevalence_has_an_auc_of_one_half_by_definition(table: pd.DataFrame) -> None:
    assert auc_within_folds(table, "prevalence") == 0.5
    (score,) = [
        s
        for s in scores(table, tasks_of(small_settings(), COHORTS), {})
        if (s.task, s.model, s.metric) == ("cognitive", "prevalence", "auc")
    ]
    assert score.value == 0.5
    rows = table[(table["model"] == "prevalence") & (table["task"] == "cognitive")]
    for (_, fold), test in rows.groupby(["repeat", "fold"]):
        del fold
        train = COHORTS.target.targets["cognitive"].drop(test["subject"])
        assert test["y_score"].to_numpy() == pytest.approx(train.mean())


def test_a_single_task_is_its_own_control() -> None:
    one = small_settings(target=CohortUse(cohort="t", tasks=("cognitive",)))
    splits = make_split_plan(COHORTS.target, one.splits)
    assert "single_task" not in {item.model for item in plan_folds(one, COHORTS, splits, tasks_of(one, COHORTS))}
    two = small_settings()
    items = [i for i in plan_folds(two, COHORTS, splits, tasks_of(two, COHORTS)) if i.model == "single_task"]
    assert [tuple(task.name for task in item.tasks) for item in items] == [("cognitive",), ("motor_score",)] * 3


def test_seeds_are_averaged() -> None:
    changed = {"controls": (), "steps": 1, "baselines": ()}
    seeds = [predictions_of(small_settings(seed=s, **changed))["y_score"] for s in (4, 5)]
    both = predictions_of(small_settings(seed=4, n_seeds=2, **changed))["y_score"]
    np.testing.assert_allclose(both, (seeds[0] + seeds[1]) / 2)


def test_tasks_that_cannot_be_learnt_are_refused() -> None:
    target = COHORTS.target
    bare = replace(target, tasks=(*target.tasks, Task(name="level", kind="ordinal", column="l")))
    with pytest.raises(UsageError, match="ordinal and has 0 levels"):
        tasks_of(small_settings(target=CohortUse(cohort="t", tasks=("level",))), COHORTS.with_role("target", bare))
    with pytest.raises(DataError, match="no outcome called 'iq'"):
        tasks_of(small_settings(target=CohortUse(cohort="t", tasks=("iq",))), COHORTS)
    with pytest.raises(UsageError, match="no outcome"):
        tasks_of(small_settings(target=CohortUse(cohort="t")), COHORTS.with_role("target", replace(target, tasks=())))


def test_a_stage_that_saw_a_test_infant_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cohorts = COHORTS.with_role("pool", replace(COHORTS.target, name="pool"))
    study = small_settings(steps=1, controls=())
    splits = make_split_plan(cohorts.target, study.splits)
    cross_validate(study, cohorts, splits)
    monkeypatch.setattr(staging, "adaptation_rows", lambda pool, *_, **__: pool.ids)  # the planted leak
    with pytest.raises(LeakageError, match="full: adapt was fitted on"):
        cross_validate(study, cohorts, splits)
    assert study.stages.adapt is not None
    allowed = study.stages.model_copy(update={"adapt": study.stages.adapt.model_copy(update={"transductive": True})})
    cross_validate(study.model_copy(update={"stages": allowed}), cohorts, splits)


def strong_settings(**changed: object) -> StudySettings:
    stages = Stages(
        pretrain=Pretrain(training=Training(steps=60, batch_size=32, learning_rate=3e-3)),
        adapt=Adapt(training=Training(steps=10, batch_size=32, learning_rate=3e-3)),
        finetune=FineTune(
            training=Training(steps=40, learning_rate=5e-3), ensemble=Ensemble(networks=2, checkpoints=(0.0, 0.25, 0.5))
        ),
    )
    return small_settings(stages=stages, controls=("no_clinical",), baselines=("ridge",), **changed)


@pytest.mark.slow
def test_a_planted_signal_is_found_by_ridge_and_by_the_full_model() -> None:
    found = predictions_of(strong_settings(), small_cohorts(n_source=60, n_target=60, effect=2.0))
    for model in ("ridge", "full", "core", "network", "no_clinical"):
        assert auc_within_folds(found, model) > 0.75, model


@pytest.mark.slow
def test_where_the_connectome_says_nothing_ridge_and_the_model_are_at_chance() -> None:
    models = ("ridge", *ALWAYS)
    tuned = FineTune(training=Training(steps=20, learning_rate=5e-3), ensemble=Ensemble(networks=2))
    stages = Stages(pretrain=None, adapt=None, finetune=tuned)
    study = small_settings(stages=stages, source=None, pool=None, controls=(), baselines=("ridge",))
    aucs = []
    for seed in range(8):
        target = replace(small_cohorts(n_target=36, effect=0.0, seed=seed).target, covariate_specs=())
        found = predictions_of(study, StudyCohorts({"target": target}))
        aucs.append([auc_within_folds(found, model) for model in models])
    mean, error = np.mean(aucs, axis=0), np.std(aucs, axis=0, ddof=1) / np.sqrt(len(aucs))
    assert (np.abs(mean - 0.5) < 3 * error + 0.01).all(), (mean, error)
    assert (error < 0.08).all()


def test_a_baseline_without_anything_to_work_on_is_left_out() -> None:
    bare = replace(
        COHORTS.target,
        covariates=COHORTS.target.covariates[[]],
        covariate_specs=(),
        age=np.full(COHORTS.target.n_subjects, np.nan),
        site=np.full(COHORTS.target.n_subjects, "", dtype=object),
    )
    study = small_settings(steps=1, controls=())
    assert list(predictions_of(study, COHORTS.with_role("target", bare))["model"].unique()) == [
        *ALWAYS,
        "ridge",
        "linear_all",
        "kernel_ridge",
        "cpm",
        "pca_logistic",
        "linear_svm",
        "linear_transfer",
        "meta_matching",
        "prevalence",
    ]


def test_nuisance_is_age_site_and_what_is_declared_so_but_not_the_task_itself() -> None:
    target, source = COHORTS.target, COHORTS.source
    assert source is not None
    assert set(nuisance_table(target, target.task("cognitive"))[0]) == {"sex", "mean_fd", "age at scan", "site"}
    assert set(nuisance_table(source, source.task("sex"))[0]) == {"age at scan", "site"}
    assert set(nuisance_table(source, source.task("age"))[0]) == {"site"}


def test_cohorts_line_up_by_name_whatever_the_order_of_their_files(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(COHORTS.target.n_regions)
    study = small_settings(steps=1, controls=())
    found = []
    for name in ("plain", "shuffled"):
        for folder, cohort in (("older", COHORTS.source), ("pool", COHORTS.pool), ("target", COHORTS.target)):
            assert isinstance(cohort, Cohort)
            moved = cohort
            if name == "shuffled" and folder != "target":
                moved = cut(cohort, [cohort.regions[i] for i in order])
            write_cohort(moved, tmp_path / name / folder)
        (tmp_path / name / "study.yaml").write_text(dump_settings(study))
        cohorts = read_cohorts(study, tmp_path / name)
        fold = make_split_plan(cohorts.target, study.splits).repeats[0][0]
        plan = chain(study, cohorts, BY_NAME["full"], fold, TASKS, seed=0)
        found.append(fit([plan], cohorts.by_name())[plan.key].predictions)
    assert found[0].keys() == found[1].keys()
    assert all((found[0][i] == found[1][i]).all() for i in found[0])


def test_the_order_of_subjects_in_any_cohort_changes_no_fit() -> None:
    study = small_settings(steps=1, controls=())
    turned = StudyCohorts({role: cohort.take(cohort.ids[::-1]) for role, cohort in COHORTS.roles.items()})
    plans = [make_split_plan(cohorts.target, study.splits).repeats[0][0] for cohorts in (COHORTS, turned)]
    keys = [
        [plan.key for plan in chain(study, cohorts, BY_NAME["full"], fold, TASKS, seed=0).lineage()]
        for cohorts, fold in zip((COHORTS, turned), plans, strict=True)
    ]
    assert len(keys[0]) == 7
    assert keys[0] == keys[1]


def test_ridge_does_not_depend_on_the_order_of_regions() -> None:
    study = small_settings(controls=(), baselines=("ridge",))
    splits = make_split_plan(COHORTS.target, study.splits)
    tasks = tasks_of(study, COHORTS)
    moved = cut(COHORTS.target, COHORTS.target.regions[::-1])
    a, b = (
        baseline_predictions(study, StudyCohorts({"target": cohort}), splits, tasks)["y_score"]
        for cohort in (COHORTS.target, moved)
    )
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_a_fold_without_a_known_outcome_is_the_data_s_fault() -> None:
    targets = COHORTS.target.targets.copy()
    targets["motor_score"] = np.nan
    study = small_settings(controls=())
    splits = make_split_plan(COHORTS.target, study.splits)
    unknown = COHORTS.with_role("target", replace(COHORTS.target, targets=targets))
    with pytest.raises(DataError, match="motor_score"):
        baseline_predictions(study, unknown, splits, tasks_of(study, COHORTS))
