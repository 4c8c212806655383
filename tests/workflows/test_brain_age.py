"""A study of brain age: distributions as heads, the gap by folds, cases against controls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from voxel_study import LESIONS, STUDY

from connectome_tl.config import load_settings
from connectome_tl.errors import UsageError
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted import NetworkModel, stored_model
from connectome_tl.training.images.age_gap import fit_age_bias
from connectome_tl.workflows.images.grids import with_grids
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import StudyRun


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
        "baselines": ["prevalence"],
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
    shown = run.predictions[run.predictions["model"].isin(["full", "core", "network"])]
    both = gaps.merge(shown, on=["subject", "model", "repeat", "fold"], validate="one_to_one")
    assert len(both) == len(gaps) == 3 * 24 * 2
    np.testing.assert_allclose(both["gap"], both["y_score"] - both["y_true"], rtol=1e-9)
    np.testing.assert_allclose(both["predicted"], both["y_score"], rtol=1e-9)
    assert set(both["case"]) == {0.0, 1.0}


def test_the_gap_is_corrected_by_held_out_predictions_of_training_rows(run: StudyRun, gaps: pd.DataFrame) -> None:
    """The line is computed again from the stored fit of one fold."""
    own = gaps[(gaps["model"] == "network") & (gaps["repeat"] == 0) & (gaps["fold"] == 0)]
    store = FitStore(run.folder / "models")
    fits = [store.load(file.stem, state=False) for file in sorted(store.folder.glob("*.json"))]
    tested = set(own["subject"])
    (fitted,) = [one for one in fits if one is not None and one.stage == "finetune" and set(one.predictions) == tested]
    truth = run.predictions.drop_duplicates("subject").set_index("subject")["y_true"]
    train = sorted(fitted.held_out)
    assert not tested & set(train)
    bias = fit_age_bias(train, np.array([fitted.held_out[i][0] for i in train]), truth[train].to_numpy(), "gap")
    want = bias.corrected(own["predicted"].to_numpy(), own["age"].to_numpy()) - own["age"]
    np.testing.assert_allclose(own["corrected_gap"], want, rtol=1e-6)


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
    assert set(scores) == {"full", "core", "network"}
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
