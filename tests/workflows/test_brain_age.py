"""A study of brain age: heads for distributions, the gap by folds, comparison of cases with controls."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from voxel_study import LESIONS, STUDY

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, UsageError
from connectome_tl.evaluation.images.age_gaps import check_brain_age
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.provenance import content_hash
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fitted_models import NetworkModel, stored_model
from connectome_tl.training.images.age_gap import fit_age_bias
from connectome_tl.workflows.images.grids import with_grids
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import StudyRun

pytestmark = pytest.mark.slow

MODELS = ["full", "core", "network", "two_stage"]
BRIEF = {"steps": 4, "batch_size": 8}


def write_brain_age(folder: Path, **changed: object) -> Path:
    infants = VolumeSettings(size=16, lesions=LESIONS)
    write_volume_cohort(24, infants, folder / "infants", name="infant", outcomes=("age", "injury"), seed=5)
    stages = {"finetune": {"training": {"steps": 6}, "ensemble": {"networks": 2, "checkpoints": [0.5]}}}
    study = {key: value for key, value in STUDY.items() if key not in ("source", "pool")}
    study |= {
        "target": {"cohort": "infants/cohort.yaml", "tasks": ["age"]},
        "stages": stages,
        "splits": {"repeats": 2, "outer": 3, "stratum": "injury"},
        "controls": [],
        "baselines": ["prevalence", "two_stage"],
        "baseline_settings": {"two_stage": {"folds": 2, "first": BRIEF, "second": BRIEF}},
        "model": {**STUDY["model"], "regression": {"kind": "distribution", "bins": 10}},
        "brain_age": {"task": "age", "case": "injury"},
    }
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(study | changed))
    return file


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_brain_age(tmp_path_factory.mktemp("brain_age"))


@pytest.fixture(scope="module")
def run(study: Path) -> StudyRun:
    return run_study(study, study.parent / "run")


@pytest.fixture(scope="module")
def gaps(run: StudyRun) -> pd.DataFrame:
    return pd.read_csv(run.folder / "age_gap.tsv", sep="\t")


def test_every_prediction_has_its_gap(run: StudyRun, gaps: pd.DataFrame) -> None:
    shown = run.predictions[run.predictions["model"].isin(MODELS)]
    both = gaps.merge(shown, on=["subject", "model", "repeat", "fold"], validate="one_to_one")
    assert len(both) == len(gaps) == 4 * 24 * 2
    np.testing.assert_allclose(both["gap"], both["y_score"] - both["y_true"], rtol=1e-9)
    np.testing.assert_allclose(both["predicted"], both["y_score"], rtol=1e-9)
    assert set(both["case"]) == {0.0, 1.0}


def stored_fit(run: StudyRun, tested: set[str]) -> FitResult:
    """The network of the fold that tests these subjects."""
    store = FitStore(run.folder / "models")
    fits = [store.load(file.stem, state=False) for file in sorted(store.folder.glob("*.json"))]
    (found,) = [one for one in fits if one is not None and one.stage == "finetune" and set(one.predictions) == tested]
    return found


def test_the_gap_is_corrected_by_held_out_predictions_of_training_rows(run: StudyRun, gaps: pd.DataFrame) -> None:
    """The correction line is computed again from the stored fit of one fold."""
    own = gaps[(gaps["model"] == "network") & (gaps["repeat"] == 0) & (gaps["fold"] == 0)]
    tested = set(own["subject"])
    fitted = stored_fit(run, tested)
    truth = run.predictions.drop_duplicates("subject").set_index("subject")["y_true"]
    train = sorted(fitted.held_out)
    assert not tested & set(train)
    bias = fit_age_bias(train, np.array([fitted.held_out[i][0] for i in train]), truth[train].to_numpy(), "gap")
    want = bias.corrected(own["predicted"].to_numpy(), own["age"].to_numpy()) - own["age"]
    np.testing.assert_allclose(own["corrected_gap"], want, rtol=1e-6)


def test_poisoned_test_volumes_do_not_change_the_correction(
    run: StudyRun, study: Path, gaps: pd.DataFrame, tmp_path: Path
) -> None:
    """In the fold that tests them, what the correction is fitted on is the same to the bit, and so is its line."""
    first = "repeat == 0 and fold == 0 and model == 'network'"
    tested = gaps.query(first).set_index("subject")
    copy = shutil.copytree(study.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("run"))
    rng, cohort = np.random.default_rng(0), read_cohort(copy / "infants" / "cohort.yaml")
    for file in (cohort.volumes[i] for i in cohort.positions(tested.index)):
        volume = read_volume(file)
        write_volume(file, volume.data * rng.uniform(0.3, 1.7, volume.data.shape).astype(np.float32), volume.affine)
    poisoned = run_study(copy / "study.yaml", tmp_path / "run")
    found = pd.read_csv(poisoned.folder / "age_gap.tsv", sep="\t").query(first).set_index("subject").loc[tested.index]
    assert not np.allclose(found["predicted"], tested["predicted"], rtol=1e-4)
    held = [stored_fit(one, set(tested.index)).held_out for one in (run, poisoned)]
    assert content_hash(*held[:1]) == content_hash(*held[1:])
    lines = [np.polyfit(one["age"], one["gap"] - one["corrected_gap"], 1) for one in (found, tested)]
    np.testing.assert_allclose(lines[0], lines[1], rtol=1e-9)


def test_the_gap_of_the_two_stage_network_is_corrected_by_its_out_of_fold_estimates(
    run: StudyRun, gaps: pd.DataFrame
) -> None:
    """Within a fold the correction is a line in age; its slope is not that of the tested rows."""
    for _, own in gaps[gaps["model"] == "two_stage"].groupby(["repeat", "fold"]):
        removed = own["gap"] - own["corrected_gap"]
        slope, _ = line = np.polyfit(own["age"], removed, 1)
        np.testing.assert_allclose(removed, np.polyval(line, own["age"]), atol=1e-6)
        assert slope != pytest.approx(np.polyfit(own["age"], own["gap"], 1)[0], abs=1e-3)
        assert slope < -0.1  # a few steps of training predict almost the mean
    assert 0 <= next(one.auc for one in run.record.age_gaps if one.model == "two_stage") <= 1


def test_the_report_shows_the_gap_of_cases_and_what_the_head_was(run: StudyRun) -> None:
    page = run.report.read_text("utf-8")
    for said in (
        "Brain-age gap: predicted minus true age",
        "Mean absolute error (months)",
        "Gap of cases minus controls (months)",
        "before the correction",
        "distributions over 10 bins",
    ):
        assert said in page, said
    scores = {one.model: one for one in run.record.age_gaps}
    assert list(scores) == MODELS
    mae = run.scores.query("metric == 'mae' and model == 'core'")["value"].item()
    assert scores["core"].mae == pytest.approx(mae, rel=1e-6)
    assert 0 < scores["core"].n_cases < 24
    assert 0 <= scores["core"].auc <= 1
    assert scores["core"].low < scores["core"].difference < scores["core"].high


def test_a_stored_network_with_distributions_predicts_the_same_again(run: StudyRun, study: Path) -> None:
    settings = load_settings(study, StudySettings)
    cohorts = with_grids(settings, read_cohorts(settings, study.parent), run.folder / "volumes")
    store = FitStore(run.folder / "models")
    fits = [store.load(file.stem, state=False) for file in sorted(store.folder.glob("*.json"))]
    fitted = next(one for one in fits if one is not None and one.stage == "finetune")
    model = stored_model(store, fitted.key)
    assert isinstance(model, NetworkModel)
    ids = tuple(fitted.predictions)
    found = model.predict(cohorts.target, ids)
    assert found.tobytes() == np.array([fitted.predictions[i] for i in ids]).tobytes()
    ages = [cohorts.target.targets.loc[i, "age"] for i in cohorts.target.ids]
    assert min(ages) - 3 < found.min()
    assert found.max() < max(ages) + 3


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"task": "growth"}, "no regression 'growth'"),
        ({"task": "age", "case": "death"}, "no binary outcome 'death'"),
        ({"task": "age", "case": "age"}, "no binary outcome 'age'"),
    ],
)
def test_a_gap_that_cannot_be_made_is_refused_before_anything_is_fitted(
    study: Path, tmp_path: Path, asked: dict[str, str], said: str
) -> None:
    settings = load_settings(study, StudySettings, overrides=[f"brain_age.{k}={v}" for k, v in asked.items()])
    with pytest.raises(UsageError, match=said):
        run_study(settings, tmp_path / "run", base=study.parent)
    assert not (tmp_path / "run" / "models").exists()


@pytest.mark.parametrize(
    ("unit", "shift", "scanned", "said"),
    [
        # Weeks since conception as the outcome, and the same scans counted from birth in the cohort's age.
        ("weeks", 40.0, ("weeks", 1.0, "birth"), r"not the age at scan.*weeks \(birth\).*\+40.0 weeks"),
        ("weeks", 0.0, ("weeks", 1.0, "postmenstrual"), None),
        ("weeks", 0.0, ("days", 7.0, "postmenstrual"), None),
        ("weeks", 40.0, ("days", 7.0, "corrected"), r"days|\+40.0 weeks"),
        ("months", 9.2, ("weeks", 4.348, "birth"), r"\+9.2 months"),
        ("months", 0.0, ("months", 1.0, "birth"), None),
        ("weeks", 0.0, None, "weeks from what"),
        ("months", 0.0, None, None),
    ],
)
def test_an_age_that_counts_from_another_day_is_refused(
    study: Path, unit: str, shift: float, scanned: tuple[str, float, str] | None, said: str | None
) -> None:
    settings = load_settings(study, StudySettings, overrides=["brain_age.case=null"])
    cohort = read_cohorts(settings, study.parent).target
    task = cohort.task("age").model_copy(update={"unit": unit})
    truth = cohort.targets["age"].to_numpy(dtype=float) + shift
    known = {"age": np.full(len(truth), np.nan), "age_unit": "months", "age_reference": "birth"}
    if scanned is not None:
        known = {"age": (truth - shift) * scanned[1], "age_unit": scanned[0], "age_reference": scanned[2]}
    tasks = tuple(task if one.name == "age" else one for one in cohort.tasks)
    cohort = replace(cohort, tasks=tasks, targets=cohort.targets.assign(age=truth), **known)
    if said is None:
        check_brain_age(settings, cohort, (task,))
        return
    with pytest.raises((UsageError, DataError), match=said):
        check_brain_age(settings, cohort, (task,))


def test_a_source_that_counts_from_another_day_or_in_another_unit_is_refused(study: Path) -> None:
    settings = load_settings(study, StudySettings, overrides=["brain_age.case=null"])
    cohort = read_cohorts(settings, study.parent).target
    task = cohort.task("age")
    check_brain_age(settings, cohort, (task,), cohort)
    later = replace(cohort, name="older", age_reference="postmenstrual")
    with pytest.raises(DataError, match=r"'older' and 'infant' count 'age' from different days.*age.to"):
        check_brain_age(settings, cohort, (task,), later)
    years = task.model_copy(update={"unit": "years"})
    tasks = tuple(years if one.name == "age" else one for one in cohort.tasks)
    targets = cohort.targets.assign(age=cohort.targets["age"] / 12)
    with pytest.raises(DataError, match=r"different units.*months.*years"):
        check_brain_age(settings, cohort, (task,), replace(cohort, tasks=tasks, targets=targets))
