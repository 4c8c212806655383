"""Studies of volumes are tuned with the same nesting: encoder, rate, augmentation."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from voxel_study import STUDY, write_study

from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.config import load_settings, parse_settings
from connectome_tl.errors import MissingInputError, UsageError
from connectome_tl.evaluation.nested_cv import plan_folds, tasks_of
from connectome_tl.evaluation.tuning.inner import InnerFolds
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import TuneSettings, tunable_keys
from connectome_tl.workflows.study.inputs import read_cohorts, read_run_cohorts, read_study
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.tune import tune_study
from connectome_tl.workflows.study.tuned import check_tuned

pytestmark = pytest.mark.usefixtures("without_figures")

SPACE = Path(__file__).parents[2] / "configs" / "tune" / "images.yaml"
TRIED: dict[str, Any] = {
    "model.encoder": {
        "choices": [
            {"kind": "resnet", "width": 0.0625, "stem_stride": 1},
            {"kind": "sfcn", "widths": [4, 4], "dropout": 0.0},
        ]
    },
    "stages.finetune.training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "image.augment.noise": {"low": 0.0, "high": 1.0},
}
ALONE: dict[str, Any] = {
    "source": None,
    "pool": None,
    "stages": {"finetune": {**STUDY["stages"]["finetune"], "training": {"steps": 1}}},
    "splits": {"repeats": 1, "outer": 2, "inner": 2, "stratum": "injury"},
    "controls": [],
    "baselines": ["prevalence"],
    "tune": {"space": TRIED, "trials": 2, "model": "network", "sampler": "random", "prune": "inside"},
}


@pytest.mark.slow
def test_encoder_rate_and_augmentation_are_chosen_without_the_tested_subjects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectome_tl.report.tuning.render_search", lambda _: "")
    file = write_study(tmp_path, n=16, **ALONE)
    seen: list[tuple[InnerFolds, set[str]]] = []
    predicted = InnerFolds._predicted

    def spied(self: InnerFolds, study: Any, planned: Any, heard: Any) -> Any:
        rows = {subject for item in planned for plan in item.plans for subject in (*plan.train.ids, *plan.predict)}
        seen.append((self, rows))
        return predicted(self, study, planned, heard)

    monkeypatch.setattr(InnerFolds, "_predicted", spied)
    tuned = tune_study(file, tmp_path / "tuned")
    assert seen
    assert not any(set(inner.fold.test) & rows for inner, rows in seen)
    assert [set(one.settings) for one in tuned.folds] == [set(TRIED)] * 2
    # `run --tuned` plans each outer fold with the settings found for it.
    study = load_settings(file, StudySettings).model_copy(update={"tuned": tuned})
    cohorts = read_cohorts(study, tmp_path)
    from connectome_tl.cohort.splits import make_split_plan

    planned = plan_folds(study, cohorts, make_split_plan(cohorts.target, study.splits), tasks_of(study, cohorts))
    for item in (one for one in planned if one.model == "network"):
        found = tuned.settings_of(item.repeat, item.fold_number)
        assert found is not None
        (plan,) = item.plans
        assert plan.features.image.augment.noise == found["image.augment.noise"]
        assert plan.model is not None
        assert plan.model.encoder.kind == found["model.encoder"]["kind"]
        assert plan.training is not None
        assert plan.training.learning_rate == found["stages.finetune.training.learning_rate"]


def test_the_space_that_comes_with_the_package_fits_a_study_of_volumes() -> None:
    space = load_settings(SPACE, TuneSettings).space
    study = StudySettings.model_validate({**STUDY, "source": None, "pool": None, "stages": {}})
    for key, one in space.items():
        for value in one.tested:
            assert study.with_settings({key: value}) is not None
    assert {"image.augment", "image.augment.noise", "image.flip_test"} <= set(tunable_keys())


def test_how_volumes_are_read_cannot_be_tuned() -> None:
    head = "target: {cohort: x}\ntune:\n  space:\n    "
    assert not {"image", "image.size", "image.voxel", "image.grid"} & set(tunable_keys())
    with pytest.raises(UsageError, match=r"decides how the volumes are read; image.augment, image.flip_test can"):
        parse_settings(f"{head}image.size: {{low: 8, high: 16}}", StudySettings)
    parse_settings(f"{head}image.augment.noise: {{low: 0.0, high: 0.5}}", StudySettings)


@pytest.mark.slow
def test_a_search_from_a_weight_file_belongs_to_its_study_and_to_its_moved_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = VoxelResNet(10, width=0.0625, stem_stride=1)
    torch.save(net.state_dict(), tmp_path / "start.pth")
    space = {"stages.finetune.training.learning_rate": TRIED["stages.finetune.training.learning_rate"]}
    changed = {
        "model": {"encoder": {**STUDY["model"]["encoder"], "weights": "start.pth"}},
        "stages": {"finetune": {"training": {"steps": 0}, "ensemble": {"networks": 2, "checkpoints": [0.0]}}},
        "tune": {**ALONE["tune"], "space": space, "trials": 1, "prune": False},
    }
    file = write_study(tmp_path, n=16, **{**ALONE, **changed})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tune_study(file, tmp_path / "tuned")
    run_study(file, tmp_path / "run", tuned=tmp_path / "tuned")
    texts = [path for path in (tmp_path / "run").glob("*") if path.suffix in (".yaml", ".json", ".tsv")]
    assert [path.name for path in texts if str(tmp_path) in path.read_text()] == []
    moved = tmp_path / "elsewhere" / "run"
    shutil.move(tmp_path / "run", moved)
    study = read_study(moved)
    assert Path(str(getattr(study.model.encoder, "weights", ""))).is_file()
    cohorts = read_run_cohorts(study, moved, tmp_path / "run")
    check_tuned(study, cohorts, SplitPlan.load(moved / "split_plan.json"), any_code=True)
    with pytest.raises(MissingInputError, match=r"--base FOLDER"):
        read_run_cohorts(study, moved, None)
    with pytest.raises(MissingInputError, match="former path of the run folder itself"):
        read_run_cohorts(study, moved, tmp_path)
