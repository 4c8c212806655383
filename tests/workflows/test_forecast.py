"""`run --dry-run`: the predicted cost of a study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_study import TASKS, last_stage, small_cohorts, small_settings
from typer.testing import CliRunner

from connectome_tl.cli.entry import app
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.cost import PERMUTED, RESAMPLED, Finished, Line, Measured, predicted
from connectome_tl.evaluation.nested_cv import cross_validate, plan_folds
from connectome_tl.evaluation.permutation.tests import can_be_permuted
from connectome_tl.provenance import read_json
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.images.volumes import ImageSettings, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings
from connectome_tl.settings.training import Training
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fit import FITTERS
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.timing import FitCost, cost_of, kind_of
from connectome_tl.training.work import steps_of, work_of
from connectome_tl.workflows.images.grids import CACHE, made_grids
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study import forecast as forecast_module
from connectome_tl.workflows.study.fitting import fit_study
from connectome_tl.workflows.study.forecast import WORTH_SAYING, Forecast, forecast, forecast_study, is_long
from connectome_tl.workflows.study.run import run_study

pytestmark = pytest.mark.usefixtures("without_figures")

COHORTS = small_cohorts()
STUDY = small_settings(
    controls=("no_adapt",), baselines=("ridge",), permutations=6, refits=Refits(linear=2), steps=20
).model_copy(update={"splits": SplitSettings(repeats=2, outer=2, stratum="cognitive")})
SPLITS = make_split_plan(COHORTS.target, STUDY.splits)
TARGET_TASKS = [COHORTS.target.task(name) for name in TASKS]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Forecast:
    folder = tmp_path_factory.mktemp("run")
    found = forecast(STUDY, COHORTS, SPLITS, TARGET_TASKS, folder)
    assert not any(folder.iterdir())
    return found


def test_the_fits_that_are_counted_are_those_that_are_made(before: Forecast, tmp_path: Path) -> None:
    cross_validate(STUDY, COHORTS, SPLITS, store=FitStore(tmp_path / "models"))
    made = len(list((tmp_path / "models").glob("*.json")))
    assert sum(count.n_fits for count in before.fits) == made
    assert sum(count.n_done for count in before.fits) == 0
    after = forecast(STUDY, COHORTS, SPLITS, TARGET_TASKS, tmp_path)
    assert [count.n_done for count in after.fits] == [count.n_fits for count in after.fits]
    assert sum(count.seconds for count in after.fits) == 0
    assert "0 of" in after.line


def test_time_memory_and_every_step_are_predicted(before: Forecast) -> None:
    steps = dict(before.steps)
    assert set(steps) >= {"baselines", "bootstrap refits", "permutations of the core", "scores, comparisons, report"}
    assert all(seconds > 0 for seconds in steps.values())
    assert before.seconds == pytest.approx(sum(c.seconds for c in before.fits) + sum(steps.values()))
    assert 1e8 < before.memory < 1e10


def test_each_saving_is_a_setting_and_less_than_the_whole(before: Forecast) -> None:
    assert "splits.repeats=1" in {saving.change for saving in before.savings}
    for saving in before.savings:
        key, _, value = saving.change.partition("=")
        assert STUDY.with_settings({key: () if value == "[]" else int(value)}) != STUDY
        assert 0 < saving.seconds < before.seconds


def test_what_the_first_fit_of_a_process_loads_does_not_hide_the_cost_of_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from small_study import plan_of

    from connectome_tl.training import timing

    done: list[str] = []

    def timed(plan: FitPlan, *_: object) -> float:
        done.append(plan.key)
        loading = 5.0 if len(done) == 1 else 0.0
        return loading + 1.0 + 0.1 * (plan.training.steps or 0) if plan.training is not None else 0.1

    lineage = plan_of(SPLITS.repeats[0][0], STUDY, cohorts=COHORTS, scheme="network").lineage()
    plan = next(one for one in lineage if one.training is not None and not one.parents)
    monkeypatch.setattr(timing, "_timed", timed)
    cost = timing.measure([plan], COHORTS.roles, brief=True)
    assert cost[kind_of(plan)].per_step == pytest.approx(0.1)


@pytest.mark.parametrize(("second", "steps"), [(0.1, [1, 4, 16]), (20.0, [1, 2, 4])])
def test_fewer_steps_are_timed_if_each_takes_long(
    monkeypatch: pytest.MonkeyPatch, second: float, steps: list[int]
) -> None:
    from small_study import plan_of

    from connectome_tl.training import timing

    trained: list[int] = []

    def timed(plan: FitPlan, *_: object) -> float:
        assert plan.training is not None
        assert isinstance(plan.training.steps, int)
        trained.append(plan.training.steps)
        return second * plan.training.steps

    lineage = plan_of(SPLITS.repeats[0][0], STUDY, cohorts=COHORTS, scheme="network").lineage()
    plan = next(one for one in lineage if one.training is not None and not one.parents)
    monkeypatch.setattr(timing, "_timed", timed)
    cost = timing.measure([plan], COHORTS.roles, brief=True)
    assert trained == steps
    assert cost[kind_of(plan)].per_step == pytest.approx(second)


def test_a_timed_ensemble_makes_all_of_its_steps() -> None:
    """With a rate that only makes predictions worse, networks of the study itself stop at the first checkpoint."""
    from small_study import plan_of, retrained

    from connectome_tl.training import timing
    from connectome_tl.training.context import Context
    from connectome_tl.training.fit import FITTERS

    def n_steps(plan: FitPlan) -> float:
        done: dict[str, FitResult] = {}
        for one in plan.lineage():
            done[one.key] = FITTERS[one.stage](one, Context(COHORTS.by_name(), done))
        return sum(np.isfinite(done[plan.key].curve))

    plan = plan_of(SPLITS.repeats[0][0], STUDY, cohorts=COHORTS, scheme="network")
    bad = replace(retrained(plan, steps=64, learning_rate=3.0), checkpoints=(0.0, 1 / 16, 1 / 4))
    assert bad.inner
    short = timing._shortened(bad, 64)
    assert n_steps(short) > n_steps(bad)
    assert n_steps(short) == n_steps(timing._shortened(retrained(bad, learning_rate=1e-9), 64))


def test_the_cost_of_a_network_grows_with_its_steps_and_its_ensemble() -> None:
    from small_study import plan_of

    fold = SPLITS.repeats[0][0]
    plan = plan_of(fold, STUDY, cohorts=COHORTS, scheme="network")
    costs = {kind_of(plan): FitCost(fixed=1.0, per_step=0.1, taken=0.5, networks=2)}
    assert steps_of(plan) == 20
    assert cost_of(plan, costs) == pytest.approx(1.0 + 0.1 * 0.5 * 20)
    longer = plan_of(fold, STUDY, cohorts=COHORTS, scheme="network", training=Training(steps=200))
    assert cost_of(longer, costs) == pytest.approx(1.0 + 0.1 * 0.5 * 200)
    wider = plan_of(fold, STUDY, cohorts=COHORTS, scheme="network", inner=(*plan.inner, *plan.inner))
    assert cost_of(wider, costs) == pytest.approx(2 * cost_of(plan, costs))


def test_a_study_of_the_first_hour_is_not_timed_before_it_runs() -> None:
    """Its 20 ensembles of 320 steps take at most a minute, since networks stop early; the timing would take seconds."""
    short = STUDY.with_settings({"splits.repeats": 1, "splits.outer": 5, "stages.finetune.training.steps": 320})
    short = short.model_copy(update={"stages": last_stage(short.stages.finetune), "controls": ()})
    assert not is_long(short, COHORTS, make_split_plan(COHORTS.target, short.splits), TARGET_TASKS)
    full = short.with_settings({"splits.repeats": 40})
    assert is_long(full, COHORTS, make_split_plan(COHORTS.target, full.splits), TARGET_TASKS)


def test_networks_that_differ_between_folds_are_timed_separately_and_numbers_of_steps_are_not() -> None:
    from small_study import FLAT, plan_of, retrained

    plan = next(one for one in plan_of(SPLITS.repeats[0][0]).lineage() if one.stage == "finetune")
    assert kind_of(replace(plan, model=FLAT)) != kind_of(plan)
    assert kind_of(retrained(plan, batch_size=2)) != kind_of(plan)
    assert kind_of(retrained(plan, steps=77)) == kind_of(plan)


def test_networks_on_volumes_are_long() -> None:
    """A step takes as long as a thousand steps on connectomes; one fit of 320 steps is a long study."""
    from small_study import plan_of, retrained

    small = next(one for one in plan_of(SPLITS.repeats[0][0]).lineage() if one.stage == "finetune")
    small = retrained(small, steps=320)
    model = ModelSettings(encoder=ResNetEncoder())
    grids = [FeatureSettings(image=ImageSettings(size=size)) for size in (32, 64)]
    on_volumes = [replace(small, modalities=("image",), model=model, features=grid) for grid in grids]
    assert work_of(small) < 1
    assert work_of(on_volumes[1]) > WORTH_SAYING
    assert 6 < work_of(on_volumes[1]) / work_of(on_volumes[0]) < 8


def test_the_command_tells_and_writes_nothing_and_a_long_run_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cohort(COHORTS.target, tmp_path / "target")
    study = STUDY.model_copy(
        update={"source": None, "pool": None, "target": CohortUse(cohort="target/cohort.yaml", tasks=("cognitive",))}
    )
    stages = last_stage(study.stages.finetune)
    study = study.model_copy(update={"stages": stages, "permutations": 0, "refits": Refits(linear=0)})
    study = study.with_settings({"splits.repeats": 1, "stages.finetune.training.steps": 2})
    (tmp_path / "study.yaml").write_text(dump_settings(study))
    found = CliRunner().invoke(app, ["run", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "run"), "--dry-run"])
    assert found.exit_code == 0, found.output
    assert "6 of 6 fits to make: roughly" in found.output
    assert "not fitted: no_adapt: there is no earlier stage" in found.output
    asked = ["run", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "run"), "--dry-run", "--json", "--quiet"]
    answer = json.loads(CliRunner().invoke(app, asked).stdout)
    assert answer["result"]["forecast"]["seconds"] > 0
    assert not (tmp_path / "run").exists()
    assert "--check has no effect" in str(CliRunner().invoke(app, [*asked, "--check"]).exception)
    assert not is_long(study, COHORTS, make_split_plan(COHORTS.target, study.splits), TARGET_TASKS[:1])
    said: list[str] = []
    run_study(tmp_path / "study.yaml", tmp_path / "run", tell=said.append)
    assert not said
    found = CliRunner().invoke(app, ["run", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "run"), "--dry-run"])
    assert found.output == "The run is finished: nothing is to be computed.\n"
    monkeypatch.setattr(forecast_module, "WORTH_SAYING", 0.001)
    run_study(tmp_path / "study.yaml", tmp_path / "run", check=True, tell=said.append)
    assert len(said) == 1
    assert said[0].startswith("0 of 6 fits to make")


FURTHER = small_settings(
    controls=("scratch",),
    baselines=("ridge",),
    steps=2,
    refits=Refits(linear=0, network=1),
    network_permutations=2,
    learning_curve=(8, 12),
).model_copy(update={"splits": SplitSettings(repeats=1, outer=2, stratum="cognitive")})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study with all of its fits: of resampled subjects, permuted outcomes, a learning curve."""
    folder = tmp_path_factory.mktemp("fitted")
    with Steps(shown=False) as steps:
        fit_study(folder, FURTHER, COHORTS, make_split_plan(COHORTS.target, FURTHER.splits), TARGET_TASKS, steps)
    return folder


def test_resampled_and_permuted_networks_use_the_earlier_stages_of_the_run(fitted: Path) -> None:
    for name in (RESAMPLED, PERMUTED):
        stages = {read_json(file)["stage"] for file in (fitted / "models" / name).glob("*.json")}
        assert stages == {"core", "finetune", "mixture"}


def test_the_forecast_of_an_interrupted_run_excludes_the_fits_of_every_step(fitted: Path, tmp_path: Path) -> None:
    splits = make_split_plan(COHORTS.target, FURTHER.splits)
    known = Measured(
        {(stage, (), 0, False, ""): FitCost(1.0) for stage in FITTERS}, Line(), Line(), Line(), Line(), Line()
    )

    def left(folder: Path) -> float:
        return predicted(FURTHER, COHORTS, splits, TARGET_TASKS, known, Finished.of(folder / "models")).divided

    networks = FURTHER.stages.finetune.ensemble.networks
    made = [read_json(file) for file in (fitted / "models").rglob("*.json")]
    seconds = sum(networks if one["stage"] == "finetune" else 1 for one in made)
    assert left(tmp_path) == pytest.approx(seconds)
    assert left(fitted) == 0
    (tmp_path / "models" / PERMUTED).mkdir(parents=True)
    some = sorted((fitted / "models" / PERMUTED).glob("*.json"))
    for file in some[: len(some) // 2]:
        (tmp_path / "models" / PERMUTED / file.name).touch()
    n_full = 1 + 1 + 2 * networks  # mixture, core, networks with and without earlier stages
    n_fits = 4
    assert left(tmp_path) == pytest.approx(seconds - len(some) // 2 * n_full / n_fits)


def test_no_time_is_predicted_for_permutations_that_are_left_out() -> None:
    study = FURTHER.model_copy(update={"permutations": 9, "baseline_permutations": 9})
    target = COHORTS.target
    alone = replace(target, site=np.array([f"site {i}" for i in range(target.n_subjects)], dtype=object))
    assert not can_be_permuted(alone)
    line = Line(1.0, 1.0)
    for cohort in (target, alone):
        known = Measured({}, line, line, line, line, line)
        splits = make_split_plan(cohort, study.splits)
        steps = predicted(study, COHORTS.with_role("target", cohort), splits, TARGET_TASKS, known).steps
        tests = [name for name in steps if name.startswith("permutations")]
        assert len(tests) == (2 if cohort is target else 0)


def test_changes_that_another_setting_rules_out_are_not_suggested(before: Forecast, tmp_path: Path) -> None:
    study = STUDY.with_settings({"splits.inner": 2, "recalibration.method": "temperature", "permutations": 0})
    with pytest.raises(UsageError):
        study.with_settings({"splits.inner": 0})
    found = forecast(study, COHORTS, make_split_plan(COHORTS.target, study.splits), TARGET_TASKS, tmp_path)
    assert "recalibration" in dict(found.steps)
    assert {saving.change for saving in found.savings}.isdisjoint({"splits.inner=0"})
    assert found.savings


def test_no_change_is_suggested_for_a_run_that_has_begun(before: Forecast, tmp_path: Path) -> None:
    plan = next(iter(plan_folds(STUDY, COHORTS, SPLITS, TARGET_TASKS))).plans[0].lineage()[0]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{plan.key}.json").touch()
    found = forecast(STUDY, COHORTS, SPLITS, TARGET_TASKS, tmp_path)
    assert sum(count.n_done for count in found.fits) == 1
    assert before.savings
    assert not found.savings


def test_the_fits_of_all_steps_are_divided_among_the_processes() -> None:
    many = Forecast(steps=(("learning curve", 100.0), ("scores", 20.0)), divided=80.0, n_jobs=4)
    assert many.seconds == 120
    assert f"{80 / 4 + 40:.0f} s with 4 processes" in many.line


def test_the_volumes_of_a_study_are_resampled_at_a_cost_until_they_are_there(tmp_path: Path) -> None:
    from voxel_study import STUDY as ON_VOLUMES

    write_volume_cohort(16, VolumeSettings(size=16), tmp_path / "target", name="target", seed=3)
    study = {key: value for key, value in ON_VOLUMES.items() if key not in ("source", "pool")}
    study |= {"splits": {"repeats": 1, "outer": 2}, "controls": [], "baselines": ["prevalence"]}
    study["stages"] = {"finetune": ON_VOLUMES["stages"]["finetune"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    before = dict(forecast_study(tmp_path / "study.yaml", tmp_path / "run").steps)
    assert not (tmp_path / "run").exists()
    made_grids([read_cohort(tmp_path / "target" / "cohort.yaml")], ImageSettings(), tmp_path / "run" / CACHE)
    after = dict(forecast_study(tmp_path / "study.yaml", tmp_path / "run").steps)
    assert before["volumes"] > 0
    assert "volumes" not in after
