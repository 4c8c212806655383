"""Trials are stopped inside a fit: reports of a fit, when it is stopped, and independence of other factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna import TrialPruned
from small_study import plan_of, small_cohorts
from tuning_cases import inner_folds, tuned_cohorts, tuned_study, write_study

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.tuning import inner
from connectome_tl.evaluation.tuning.sampler import sampler_of
from connectome_tl.evaluation.tuning.storage import MAX_RETRY
from connectome_tl.evaluation.tuning.watch import PER_FOLD, STOPPED, Watch, last_score
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.context import checks_of
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import FitPlan
from connectome_tl.workflows.study.tune import tune_study

COHORTS = small_cohorts()
FOLD = Fold(COHORTS.target.ids[:16], COHORTS.target.ids[16:])


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def plan() -> FitPlan:
    return plan_of(FOLD, scheme="network_scratch", checkpoints=(0.0, 0.5))


@pytest.mark.parametrize("model", ["full", "core", "network"])
def test_no_fit_of_an_inner_fold_predicts_rows_of_the_outer_test_fold(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[FitPlan] = []

    def keep(plans: Sequence[FitPlan], *_: object, **__: object) -> None:
        asked.extend(plans)
        raise Stopped

    monkeypatch.setattr(inner, "fit", keep)
    study = tuned_study(model=model)
    folds = inner_folds(study, tuned_cohorts())
    with pytest.raises(Stopped):
        folds.scores(study)
    assert len(asked) == len(folds.fold.inner)
    for plan, part in zip(asked, folds.fold.inner, strict=True):
        predicted = {one.predict for one in plan.lineage()}
        assert plan.predict == part.test
        assert predicted <= {(), part.test}
        assert not set(part.test) & set(folds.fold.test)


def test_a_fit_tells_the_held_out_loss_of_its_first_network_at_each_checkpoint(plan: FitPlan, tmp_path: Path) -> None:
    told: list[tuple[str, int, dict[str, float]]] = []
    store = FitStore(tmp_path)
    other = replace(plan, seed=1)
    results = fit(
        [plan, other],
        COHORTS.by_name(),
        store=store,
        n_jobs=2,
        check=lambda whose, at, losses: told.append((whose.key, at, dict(losses))),
    )
    for one in (plan, other):
        heard = {at: losses for key, at, losses in told if key == one.key}
        assert list(heard) == [0, 1, 2]
        assert heard == checks_of(results[one.key])
        assert set(heard[0]) == set(one.tasks)
    # A stored fit reports the same without a callback.
    n_told = len(told)
    again = fit([plan], COHORTS.by_name(), store=store, check=lambda *_: told.append(("", 0, {})))
    assert len(told) == n_told
    assert checks_of(again[plan.key]) == checks_of(results[plan.key])


def test_an_exception_of_the_check_ends_the_fit_and_nothing_is_stored(plan: FitPlan, tmp_path: Path) -> None:
    def stop(_: FitPlan, at: int, __: object) -> None:
        if at == 1:
            raise Stopped

    with pytest.raises(Stopped):
        fit([plan], COHORTS.by_name(), store=FitStore(tmp_path), check=stop)
    assert not (tmp_path / f"{plan.key}.json").exists()


def watch_of(losses: list[float], *, fold: int = 0, at: int = 1, sign: int = 1) -> Watch:
    """A new trial after completed ones with these losses at one checkpoint, and as scores after three folds."""
    study = optuna.create_study(direction="maximize" if sign > 0 else "minimize")
    for loss in losses:
        steps = {fold * PER_FOLD + at + 1: loss, **{(i + 1) * PER_FOLD: sign * -loss for i in range(3)}}
        study.add_trial(optuna.create_trial(value=0.0, intermediate_values=steps))
    return Watch(study, study.ask(), sign, inside=True)


def test_a_checkpoint_stops_the_worst_quarter_and_an_inner_fold_the_worse_half() -> None:
    losses = [0.1, 0.2, 0.3, 0.4, 0.5]
    for sign in (1, -1):
        watch_of(losses, sign=sign).check(0, 1, 0.39)
        with pytest.raises(TrialPruned, match="worst quarter at checkpoint 2 of inner fold 1"):
            watch_of(losses, sign=sign).check(0, 1, 0.41)
        watch_of(losses, sign=sign).fold(1, (-0.29 * sign,))
        ended = watch_of(losses, sign=sign)
        with pytest.raises(TrialPruned, match="worse than the median after 2 inner folds"):
            ended.fold(1, (-0.31 * sign,))
        assert "median" in ended.trial.user_attrs[STOPPED]
        watch_of(losses, sign=sign).fold(0, (-9.0 * sign,))  # no trial is stopped after the first inner fold
    watch_of(losses, at=0).check(0, 0, 9.0)  # nor at the first checkpoint, before any training
    watch_of(losses[:4]).check(0, 1, 9.0)  # nor with four trials
    watch_of(losses, fold=1).check(0, 1, 9.0)  # nor by trials of another fold
    watch_of(losses).check(0, 1, float("nan"))


def test_the_last_score_on_the_way_is_that_of_an_inner_fold() -> None:
    assert last_score({3: 0.9, PER_FOLD: 0.6, PER_FOLD + 1: 0.8}) == 0.6
    assert np.isnan(last_score({3: 0.9}))


def network_study() -> StudySettings:
    space = {"stages.finetune.training.learning_rate": {"low": 1e-4, "high": 30.0, "log": True}}
    return tuned_study(inner=2, outer=2, space=space, model="network", trials=6, sampler="random", prune="inside")


@pytest.mark.slow
def test_a_search_with_stops_inside_fits_is_the_same_again_with_stored_fits_and_more_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates of up to 30 are worse. Stored fits, as after a kill, report the same values as before."""
    monkeypatch.setattr("connectome_tl.report.tuning.render_search", lambda _: "")
    study = network_study()
    stages = study.stages.finetune
    stages = stages.model_copy(
        update={
            "training": stages.training.model_copy(update={"steps": 4}),
            "ensemble": stages.ensemble.model_copy(update={"checkpoints": (0.0, 0.25, 0.5)}),
        }
    )
    study = study.model_copy(update={"seed": 1, "stages": study.stages.model_copy(update={"finetune": stages})})
    write_study(tmp_path, study)
    tune_study(study, tmp_path / "tuned", base=tmp_path)
    table = (tmp_path / "tuned" / "trials.tsv").read_bytes()
    assert b"in the worst quarter at checkpoint" in table
    assert table.count(b"\tcomplete\t") == 12
    (tmp_path / "tuned" / "trials.sqlite").unlink()
    tune_study(study.model_copy(update={"n_jobs": 2}), tmp_path / "tuned", base=tmp_path)
    assert (tmp_path / "tuned" / "trials.tsv").read_bytes() == table


def test_after_a_trial_that_was_given_up_something_else_is_tried() -> None:
    """A lost trial is repeated with the same settings; one that has killed too many workers is not."""
    tune = TuneSettings.model_validate({"space": {"core.clip": {"low": 1.5, "high": 6.0}}, "sampler": "random"})

    def next_value(history: list[int]) -> float:
        study = optuna.create_study(sampler=sampler_of(tune, 0))
        lost = optuna.create_trial(state=optuna.trial.TrialState.FAIL, system_attrs={"retry_history": history})
        study.add_trial(lost)
        return study.ask().suggest_float("core.clip", 1.5, 6.0)

    fresh = optuna.create_study(sampler=sampler_of(tune, 0)).ask().suggest_float("core.clip", 1.5, 6.0)
    assert next_value(list(range(MAX_RETRY - 1))) == fresh
    assert next_value(list(range(MAX_RETRY))) != fresh


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_trial_lost_between_two_of_its_parameters_draws_the_others_as_before(sampler: str) -> None:
    space = {name: {"low": 1.5, "high": 6.0} for name in ("core.clip", "edges.min_density")}
    tune = TuneSettings.model_validate({"space": {"core.clip": space["core.clip"]}, "sampler": sampler})

    def drawn(fixed: dict[str, float]) -> dict[str, float]:
        study = optuna.create_study(sampler=sampler_of(tune, 0))
        if fixed:
            study.enqueue_trial(fixed)
        trial = study.ask()
        return {name: trial.suggest_float(name, 1.5, 6.0) for name in space}

    whole = drawn({})
    for name in space:
        assert drawn({name: whole[name]}) == whole
