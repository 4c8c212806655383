"""The methods on volumes as parts of a study: baselines, an objective, maps of its networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, make_split_plan
from connectome_tl.evaluation.baselines.design import VolumeFit
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.objectives import VolumeContrast
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.synthetic import copies, synthetic_tables

BRIEF = {"steps": 3, "batch_size": 4}
ENCODER = {"kind": "resnet", "width": 0.0625, "stem_stride": 1}


def settings(**more: object) -> StudySettings:
    brief = {"training": {"steps": 2}}
    given: dict[str, object] = {
        "target": {"cohort": "target"},
        "model": {"encoder": ENCODER},
        "image": {"size": 16, "voxel": 10.0},
        "stages": {"pretrain": None, "adapt": None, "finetune": {**brief, "ensemble": {"networks": 2}}},
        "splits": {"repeats": 1, "outer": 2},
        "controls": [],
        "baselines": ["prevalence"],
        "n_jobs": 1,
        "refits": {"linear": 0},
    }
    return StudySettings.model_validate(given | more)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_volumes(16, VolumeSettings(size=16), tmp_path_factory.mktemp("volumes"), name="target", seed=4)


NETWORKS = ("two_stage", "synthetic_volumes", "mixed_volumes", "real_volumes")
BRIEF_NETWORKS = {
    "two_stage": {"folds": 2, "first": BRIEF, "second": BRIEF},
    "synthetic_volumes": {
        "synthesis": {"width": 4, "depth": 1, "latent": 4, "bin_width": 12.0, "descent": BRIEF},
        "training": BRIEF,
    },
}


Fitted = tuple[pd.DataFrame, list[VolumeFit], list[Fold]]


@pytest.fixture(scope="module")
def fitted(cohort: Cohort) -> Fitted:
    """Predictions and fits of all networks that are baselines, and the folds."""
    study = settings(baselines=["prevalence", *NETWORKS], baseline_settings=BRIEF_NETWORKS)
    cohorts, splits = StudyCohorts({"target": cohort}), make_split_plan(cohort, study.splits)
    fits: list[VolumeFit] = []
    table = baseline_predictions(study, cohorts, splits, tasks_of(study, cohorts), fits)
    return table, fits, [fold for _, _, fold in splits.folds()]


def test_all_methods_are_baselines_that_a_study_can_ask_for(cohort: Cohort, fitted: Fitted) -> None:
    found, _, _ = fitted
    for model in NETWORKS:
        rows = found[found["model"] == model]
        assert sorted(rows["subject"]) == sorted(cohort.ids)
        assert np.isfinite(rows["y_score"]).all()
        assert rows["y_score"].nunique() == len(cohort.ids)


def test_baselines_on_volumes_tell_how_near_synthetic_volumes_are_and_their_held_out_ages(fitted: Fitted) -> None:
    found, fits, folds = fitted
    table = found.set_index(["model", "subject"])
    for model in NETWORKS:
        own = [fit for fit in fits if fit.model == model]
        assert [fit.test for fit in own] == [fold.test for fold in folds]
        for fit, fold in zip(own, folds, strict=True):
            assert fit.predicted == {i: table.loc[(model, i), "y_score"] for i in fold.test}
            assert set(fit.held_out) == (set(fold.train) if model == "two_stage" else set())
            assert (fit.nearness > 0) == (model in ("synthetic_volumes", "mixed_volumes"))
    (shown,) = synthetic_tables(fits)
    assert [row[0] for row in shown.rows] == ["With synthetic volumes", "With mixed volumes"]
    copied = [replace(fit, nearness=0.01) if fit.model == "synthetic_volumes" else fit for fit in fits]
    assert [text.split(":")[0] for text in copies(copied)] == ["With synthetic volumes"]
    assert not synthetic_tables([fit for fit in fits if fit.model == "two_stage"])


@pytest.mark.slow
def test_networks_of_baselines_are_augmented_and_started_as_the_network_of_the_study(
    cohort: Cohort, tmp_path: Path
) -> None:
    def predicted(**more: object) -> pd.DataFrame:
        study = settings(baselines=["prevalence", *NETWORKS], baseline_settings=BRIEF_NETWORKS, **more)
        cohorts, splits = StudyCohorts({"target": cohort}), make_split_plan(cohort, study.splits)
        found = baseline_predictions(study, cohorts, splits, tasks_of(study, cohorts))
        return found.pivot_table(index="subject", columns="model", values="y_score")

    plain = {"size": 16, "voxel": 10.0, "augment": {"flip": 0, "affine": 0, "noise": 0, "gamma": 0}}
    usual, still = predicted(), predicted(image=plain)
    net = VoxelResNet(10, width=0.0625, stem_stride=1)
    weights = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    save_file(weights, tmp_path / "zeros.safetensors")
    started = predicted(model={"encoder": {**ENCODER, "weights": str(tmp_path / "zeros.safetensors")}})
    for model in NETWORKS:
        assert not np.allclose(usual[model], still[model])
        assert not np.allclose(usual[model], started[model])


def test_contrast_between_voxels_adapts_the_encoder_of_a_study(cohort: Cohort, tmp_path: Path) -> None:
    pool = write_volumes(8, VolumeSettings(size=16), tmp_path, name="pool", seed=5, outcomes=())
    study = settings(
        pool={"cohort": "pool"},
        stages={
            "pretrain": None,
            "adapt": {"objective": {"kind": "voxel_contrast", "stage": 2}, "training": {"steps": 2}},
            "finetune": {"training": {"steps": 2}, "ensemble": {"networks": 2}},
        },
        controls=["no_adapt"],
    )
    cohorts = StudyCohorts({"target": cohort, "pool": pool})
    found = cross_validate(study, cohorts, make_split_plan(cohort, study.splits))
    stages = {result.stage for result in found.results.values()}
    assert "adapt" in stages
    assert np.isfinite(found.predictions["y_score"]).all()


def test_a_test_volume_changes_no_prediction_of_another_test_subject(cohort: Cohort) -> None:
    study = settings(
        baselines=["two_stage"],
        baseline_settings={"two_stage": {"folds": 2, "first": BRIEF, "second": BRIEF}},
    )
    cohorts, splits = StudyCohorts({"target": cohort}), make_split_plan(cohort, study.splits)
    before = baseline_predictions(study, cohorts, splits, tasks_of(study, cohorts)).set_index("subject")["y_score"]
    fold = next(iter(splits.folds()))[2]
    one, other = fold.test[:2]
    files = list(cohort.volumes)
    files[cohort.ids.index(one)] = cohort.volumes[cohort.ids.index(fold.train[0])]
    changed = StudyCohorts({"target": replace(cohort, volumes=tuple(files))})
    after = baseline_predictions(study, changed, splits, tasks_of(study, changed)).set_index("subject")["y_score"]
    assert after[other] == before[other]
    assert after[one] != before[one]


def test_settings_of_a_contrast_that_would_have_no_effect_are_refused() -> None:
    bank = {"scope": "within", "bank": "memory"}
    for contrast, named in (({"weight": 0.5}, "weight"), ({"width": 8}, "width"), (bank, "bank")):
        with pytest.raises(ValidationError, match=named):
            VolumeContrast.model_validate({"contrast": contrast})
    assert VolumeContrast.model_validate({"contrast": {"scope": "within", "bank": "none"}}).contrast.bank == "none"
    objective = {"adapt": {"objective": {"kind": "voxel_contrast"}}}
    with pytest.raises(ValidationError, match="background of 0"):
        settings(pool={"cohort": "pool"}, stages=objective, image={"size": 16, "outside": "keep"})
