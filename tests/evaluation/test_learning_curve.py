"""Draws of a learning curve are nested, stratified and labelled; its points are those of a study of that size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_study import TASKS, small_cohorts, small_settings

from connectome_tl.cohort.labelled import check_sizes, labelled_plan
from connectome_tl.cohort.splits import Fold, SplitPlan, kinship_groups, make_split_plan
from connectome_tl.errors import UsageError
from connectome_tl.evaluation import learning_curve as module
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.learning_curve import learning_curve, taught_point
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.report.figures.learning_curve import curve_figure
from connectome_tl.report.tables.scores import with_interval
from connectome_tl.settings.records.results import LearningPoint
from connectome_tl.settings.study import SplitSettings, StudySettings
from connectome_tl.training.checkpoint import FitStore

COHORTS = small_cohorts()
TARGET = COHORTS.target
SPLITS = SplitSettings(repeats=2, outer=3, stratum="cognitive")


def test_draws_are_nested_stratified_and_tested_on_the_same_folds() -> None:
    target = small_cohorts(n_target=60).target
    splits = make_split_plan(target, SPLITS)
    plans = {n: labelled_plan(target, splits, SPLITS, n, TASKS) for n in (8, 16, 30)}
    share = target.targets["cognitive"].mean()
    for repeat, number, fold in splits.folds():
        drawn = {n: plan.repeats[repeat][number] for n, plan in plans.items()}
        assert set(drawn[8].train) < set(drawn[16].train) < set(drawn[30].train) < set(fold.train)
        assert all(len(one.train) == n and one.test == fold.test for n, one in drawn.items())
        for n, one in drawn.items():
            assert abs(target.targets.loc[list(one.train), "cognitive"].mean() - share) < 1.5 / n + 0.05
    first = [set(fold.train) for fold in plans[8].repeats[0]]
    assert first[0] != first[1]
    assert plans[16].hash == labelled_plan(target, splits, SPLITS, 16, TASKS).hash


def test_relatives_and_subjects_without_an_outcome_come_last() -> None:
    target = small_cohorts(n_target=60).target
    targets = target.targets.copy()
    targets.iloc[::4] = np.nan
    family = np.array([f"f{i // 2}" for i in range(60)], dtype=object)
    changed = replace(target, targets=targets, family=family)
    splits = make_split_plan(changed, SPLITS)
    for _, _, fold in labelled_plan(changed, splits, SPLITS, 14, TASKS).folds():
        assert changed.targets.loc[list(fold.train), list(TASKS)].notna().any(axis=1).all()
        assert len(set(kinship_groups(changed.family[changed.positions(fold.train)]))) == 14


def test_a_size_as_large_as_a_training_fold_is_refused_with_the_largest_possible_one() -> None:
    splits = make_split_plan(TARGET, SPLITS)
    check_sizes(splits, (8, 14))
    check_sizes(splits, ())
    with pytest.raises(UsageError, match=r"expected at most 14; got 15") as refusal:
        check_sizes(splits, (8, 15))
    assert refusal.value.exit_code == 64
    for sizes in ((10, 8), (8, 8), (3,)):
        with pytest.raises(ValueError, match="learning_curve"):
            StudySettings.model_validate({"target": {"cohort": "t"}, "learning_curve": sizes})


def test_points_are_the_scores_of_a_study_of_that_size_and_stages_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_settings(
        steps=1, controls=("scratch",), baselines=("prevalence", "ridge", "meta_matching"), learning_curve=(8, 12)
    )
    splits = SplitPlan(make_split_plan(TARGET, study.splits).repeats[:1])
    tasks = [TARGET.task(name) for name in TASKS]
    keys: list[dict[str, set[str]]] = []
    honest = module.cross_validate

    def spied(*args, **options):  # type: ignore[no-untyped-def]
        made = honest(*args, **options)
        stages: dict[str, set[str]] = {}
        for result in made.results.values():
            stages.setdefault(result.stage, set()).add(result.key)
        keys.append(stages)
        return made

    monkeypatch.setattr(module, "cross_validate", spied)
    told: list[tuple[int, int, float | None]] = []
    store = FitStore(tmp_path)
    found = learning_curve(study, COHORTS, splits, tasks, store=store, progress=lambda *one: told.append(one))
    counts = [(done, share or 0.0) for done, _, share in told]
    assert counts == sorted(counts)
    assert told[-1] == (told[-1][1], told[-1][1], 1.0)
    for stage in ("source", "pretrain", "adapt"):
        assert keys[0][stage] == keys[1][stage]
    assert not keys[0]["finetune"] & keys[1]["finetune"]
    assert {(p.task, p.model, p.n_labelled) for p in found} == {
        (task, model, n)
        for task in TASKS
        for model in ("full", "core", "network", "scratch", *study.baselines)
        for n in (8, 12)
    }
    plan = labelled_plan(TARGET, splits, study.splits, 12, TASKS)
    table = baseline_predictions(study, COHORTS, plan, tasks)
    for score in scores(table, tasks, n_labelled=12):
        if score.metric == "auc":
            (point,) = [p for p in found if (p.task, p.model, p.n_labelled) == (score.task, score.model, 12)]
            assert point.value == pytest.approx(score.value)
            assert point.low <= point.value <= point.high


@pytest.mark.parametrize("n_without", [0, 1, 3])
def test_a_point_whose_labelled_subjects_have_the_same_outcome_is_not_estimable(n_without: int) -> None:
    """Also if the model predicts different values, as a network does that saw one class."""
    plan = SplitPlan(make_split_plan(TARGET, SPLITS).repeats[:1])
    values = TARGET.targets["cognitive"].copy()
    folds = []
    for number, fold in enumerate(plan.repeats[0]):
        one = [i for i in fold.train if values[i] == 0]
        folds.append(Fold(tuple(one[:4]) if number < n_without else fold.train, fold.test))
    point = LearningPoint(
        task="cognitive", model="network", metric="auc", n_labelled=4, value=0.33, low=0.1, high=0.7, n=24
    )
    made = taught_point(point, TARGET, SplitPlan((tuple(folds),)))
    if n_without == 0:
        assert made == point
    elif n_without == 1:
        assert (made.value, made.reason) == (0.33, "the labelled subjects of 1 of 3 folds have the same outcome")
    else:
        assert not np.isfinite([made.value, made.low, made.high]).any()
        assert made.reason == "not estimable: the labelled subjects of each fold have the same outcome"
        assert made.reason in with_interval(made)
        assert curve_figure([made], "curve") is None
    uninformed = point.model_copy(update={"model": "prevalence", "value": 0.5})
    assert taught_point(uninformed, TARGET, SplitPlan((tuple(folds),))) == uninformed
