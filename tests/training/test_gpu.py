"""Fits and studies on a GPU agree with the CPU's in float32, are stored in memory, resume, and support bf16.

Tolerances: gradients agree to rounding (tests of the encoders), but AdamW divides them by their size, so that rounding
errors of small gradients cause steps of the learning rate. After a few steps losses agree to 1e-3, risks to 0.005.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from on_gpu import DEVICE, needs_gpu
from small_study import small_cohorts
from voxel_study import LESIONS, write_study

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.evaluation.nested_cv import plan_folds, tasks_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import StudyRun

pytestmark = needs_gpu
QUIET: dict[str, Any] = {"kind": "resnet", "width": 0.0625, "stem_stride": 1}
TRAINING: dict[str, Any] = {"steps": 4, "batch_size": 5, "learning_rate": 0.01}


def settings(training: dict[str, Any], **changed: Any) -> StudySettings:
    given: dict[str, Any] = {
        "target": {"cohort": "target"},
        "model": {"encoder": QUIET, "fused_width": 6},
        "image": {"size": 12, "voxel": 13.0, "augment": {"noise": 0.5}},
        "stages": {
            "finetune": {"training": {**TRAINING, **training}, "ensemble": {"networks": 2, "checkpoints": [0.5]}}
        },
        "splits": {"repeats": 1, "outer": 2},
        "n_jobs": 1,
    }
    return StudySettings.model_validate(given | changed)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Fourteen subjects with age and injury, one of them without outcomes."""
    folder = tmp_path_factory.mktemp("volumes")
    grids = VolumeSettings(size=16, lesions=LESIONS)
    made = write_volumes(14, grids, folder, name="target", seed=4, outcomes=("age", "injury"))
    targets = made.targets.astype(float)
    targets.iloc[3] = np.nan
    targets["injury"] = [float(i % 2) if i != 3 else np.nan for i in range(14)]
    return replace(made, targets=targets, status=made.status.mask(targets.isna(), "unknown"), volume_cache=str(folder))


def plan_of(cohort: Cohort, study: StudySettings, **more: Cohort) -> FitPlan:
    """The network of the first fold, to be trained on the device."""
    cohorts = StudyCohorts({"target": cohort, **more})
    splits = make_split_plan(cohort, study.splits)
    planned = plan_folds(study.model_copy(update={"device": DEVICE}), cohorts, splits, tasks_of(study, cohorts))
    return next(one for one in planned if one.model == "network").plans[0]


def fitted(plan: FitPlan, **cohorts: Cohort) -> FitResult:
    return fit([plan], cohorts)[plan.key]


def test_a_fit_is_that_of_the_processor(cohort: Cohort) -> None:
    """An ensemble with early stopping, noise by the seed of the fit and a missing outcome."""
    plan = plan_of(cohort, settings({}))
    one, two = fitted(replace(plan, device="cpu"), target=cohort), fitted(plan, target=cohort)
    np.testing.assert_allclose(two.curve, one.curve, rtol=1e-3)
    assert one.arrays.keys() == two.arrays.keys()
    for subject, value in one.predictions.items():
        np.testing.assert_allclose(two.predictions[subject], value, rtol=5e-3, atol=5e-3)


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mixup and class weights": ({"mixup": {"alpha": 0.5}, "class_weights": "balanced"}, {}),
    "uncertainty": ({"task_weights": "uncertainty", "schedule": "cosine"}, {}),
    "gradient balance": ({"task_weights": "gradient", "mixup": {"alpha": 0.5, "neighbours": 3}}, {}),
    "distribution": ({}, {"model": {"encoder": QUIET, "fused_width": 6, "regression": {"kind": "distribution"}}}),
    "dropout": ({}, {"model": {"encoder": {**QUIET, "dropout": 0.3, "norm": "batch"}, "dropout": 0.2}}),
    "bf16": ({}, {"image": {"size": 12, "voxel": 13.0, "precision": "bf16", "flip_test": True}}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_stored_is_in_memory_and_predicts_on_the_processor(name: str, cohort: Cohort, tmp_path: Path) -> None:
    training, changed = OPTIONS[name]
    plan, store = plan_of(cohort, settings(training, **changed)), FitStore(tmp_path)
    made = fit([plan], {"target": cohort}, store=store)[plan.key]
    assert np.isfinite(made.curve).all()
    again = store.load(plan.key, state=True)
    assert again is not None
    assert {n: v.tobytes() for n, v in again.arrays.items()} == {n: v.tobytes() for n, v in made.arrays.items()}
    model, ids = stored_model(store, plan.key), list(made.predictions)
    assert model.predict(cohort, ids).tobytes() == np.array([made.predictions[i] for i in ids]).tobytes()
    assert np.isfinite(model.embed(cohort, ids)).all()


@pytest.mark.parametrize(
    "objective", [{"kind": "masked_volume", "blocks": 4, "coarse": 3}, {"kind": "voxel_contrast", "stage": 2}]
)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_all_three_stages_of_volumes(
    objective: dict[str, Any], precision: str, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory
) -> None:
    roles = {}
    for seed, role in enumerate(("source", "pool")):
        folder = tmp_path_factory.mktemp(role)
        made = write_volumes(10, VolumeSettings(size=16), folder, name=role, seed=seed)
        roles[role] = replace(made, volume_cache=str(folder))
    study = settings(
        {},
        source={"cohort": "source", "tasks": ["age"]},
        pool={"cohort": "pool"},
        image={"size": 12, "voxel": 13.0, "precision": precision},
        stages={
            "pretrain": {"training": TRAINING},
            "adapt": {"objective": objective, "training": {"steps": 2}},
            "finetune": {"training": {**TRAINING, "freeze": [], "unfreeze": 0.5, "anchor": 0.1}},
        },
    )
    plan = plan_of(cohort, study, **roles)
    results = fit([plan], {"target": cohort, **roles})
    assert {one.stage for one in results.values()} == {"source", "pretrain", "adapt", "finetune"}
    for one in results.values():
        assert np.isfinite(one.curve).all()
        assert all(np.isfinite(value).all() for value in one.predictions.values())


def test_mixed_precision_is_near_float32(cohort: Cohort) -> None:
    exact = plan_of(cohort, settings({}))
    lower = plan_of(
        cohort, settings({}, image={"size": 12, "voxel": 13.0, "augment": {"noise": 0.5}, "precision": "bf16"})
    )
    one, two = fitted(exact, target=cohort), fitted(lower, target=cohort)
    np.testing.assert_allclose(two.curve, one.curve, rtol=0.1)


def test_a_repeated_fit_is_equal_up_to_rounding(cohort: Cohort) -> None:
    plan = plan_of(cohort, settings({}))
    one, two = fitted(plan, target=cohort), fitted(plan, target=cohort)
    np.testing.assert_allclose(two.curve, one.curve, rtol=1e-5)
    for subject, value in one.predictions.items():
        np.testing.assert_allclose(two.predictions[subject], value, rtol=1e-3, atol=1e-3)


STUDY: dict[str, Any] = {
    # Without a pool: masks of an adaptation are drawn on the device, and would differ.
    "pool": None,
    "stages": {
        "pretrain": {"training": {"steps": 3}},
        "adapt": None,
        "finetune": {"training": {"steps": 3}, "ensemble": {"networks": 2, "checkpoints": [0.5]}},
    },
}


def assert_studies_agree(here: StudyRun, there: StudyRun) -> None:
    """Risks to 0.01, scores to 0.03: of 20 subjects one pair in another order changes an AUC by up to 0.01."""
    keys = ["subject", "task", "model", "repeat", "fold"]
    both = here.predictions.merge(there.predictions, on=keys, suffixes=("_here", "_there"))
    assert len(both) == len(here.predictions) == len(there.predictions)
    np.testing.assert_allclose(both["y_score_there"], both["y_score_here"], atol=0.01)
    scores = [pd.read_table(run.folder / "scores.tsv") for run in (here, there)]
    scores = [one[one["metric"].isin(["auc", "brier", "log_loss"])] for one in scores]
    assert len(scores[0])
    paired = scores[0].merge(scores[1], on=["model", "task", "metric"], suffixes=("_here", "_there"))
    assert len(paired) == len(scores[0])
    np.testing.assert_allclose(paired["value_there"], paired["value_here"], atol=0.03, rtol=0.03)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), without=(3, 8), **STUDY)


@pytest.fixture(scope="module")
def there(study: Path) -> StudyRun:
    return run_study(study, study.parent / "there", overrides=[f"device={DEVICE}"])


def test_a_study_of_volumes_agrees_and_says_where_it_was_made(study: Path, there: StudyRun) -> None:
    assert_studies_agree(run_study(study, study.parent / "here", overrides=["device=cpu"]), there)
    assert yaml.safe_load((there.folder / "study.yaml").read_text("utf-8")).get("device", "cpu") == DEVICE
    assert there.report.is_file()
    assert audit_run(there.folder).accused is False


def test_a_killed_study_is_resumed(study: Path, there: StudyRun) -> None:
    out = study.parent / "killed"
    command = [sys.executable, "-m", "connectome_tl.cli", "run", str(study), "--out", str(out)]
    process = subprocess.Popen([*command, "--set", f"device={DEVICE}"], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end and not any((out / "models").glob("*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = run_study(study, out, overrides=[f"device={DEVICE}"])
    keys = ["subject", "task", "model", "repeat", "fold"]
    both = there.predictions.merge(found.predictions, on=keys, suffixes=("_once", "_again"))
    assert len(both) == len(found.predictions)
    np.testing.assert_allclose(both["y_score_again"], both["y_score_once"], atol=1e-3)


def fused_study(folder: Path, **image: Any) -> Path:
    """Connectomes, covariates and volumes of the same infants, each missing in some."""
    made = small_cohorts(n_source=16, n_pool=12, n_target=20)
    grids = VolumeSettings(size=16, lesions=LESIONS)
    images = write_volumes(20, grids, folder / "target", name="x", seed=4)
    mask, covariates = made.target.node_mask.copy(), made.target.covariates.copy()
    mask[1::3] = False
    covariates.iloc[2::3] = np.nan
    files = tuple("" if i % 3 == 0 else file for i, file in enumerate(images.volumes))
    target = replace(made.target, volumes=files, node_mask=mask, covariates=covariates)
    for role, cohort in (("older", made.source), ("target", target)):
        assert cohort is not None
        write_cohort(cohort, folder / role)
    steps = {"training": {"steps": 2}}
    given = {
        "source": {"cohort": "older/cohort.yaml", "tasks": ["age"]},
        "target": {"cohort": "target/cohort.yaml", "tasks": ["cognitive"]},
        "image": {"size": 12, "voxel": 13.0, **image},
        "model": {
            "encoder": {"kind": "graph", "width": 4, "embedding": 6, "dropout": 0.0},
            "others": [{"kind": "sfcn", "widths": [4, 4], "dropout": 0.0}],
            "fused_width": 5,
        },
        "stages": {"pretrain": steps, "adapt": None, "finetune": {**steps, "ensemble": {"networks": 2}}},
        "splits": {"repeats": 1, "outer": 2, "stratum": "cognitive"},
        "controls": ["no_image", "no_connectome"],
        "baselines": ["prevalence"],
        "refits": {"linear": 0},
        "n_jobs": 1,
    }
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(given))
    return file


def runs_of(file: Path, devices: Sequence[str]) -> list[StudyRun]:
    return [run_study(file, file.parent / name, overrides=[f"device={name}"]) for name in devices]


def test_a_fused_study_agrees(tmp_path: Path) -> None:
    assert_studies_agree(*runs_of(fused_study(tmp_path), ("cpu", DEVICE)))


def test_a_fused_study_in_bf16_gives_finite_risks(tmp_path: Path) -> None:
    (found,) = runs_of(fused_study(tmp_path, precision="bf16"), (DEVICE,))
    assert np.isfinite(found.predictions["y_score"]).all()


def test_float32_holds_during_training(cohort: Cohort) -> None:
    """Seen from a hook of the loop: no TF32, deterministic algorithms; earlier settings are restored afterwards."""
    seen: list[tuple[str, bool]] = []

    def look(step: int, loss: float) -> None:
        seen.append((torch.backends.cudnn.conv.fp32_precision, torch.backends.cudnn.deterministic))

    before = torch.backends.cudnn.conv.fp32_precision
    plan = plan_of(cohort, settings({}))
    fit([plan], {"target": cohort}, hook=look)
    assert torch.backends.cudnn.conv.fp32_precision == before
    if DEVICE == "cuda":
        assert set(seen) == {("ieee", True)}
