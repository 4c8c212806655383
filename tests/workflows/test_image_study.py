"""Studies of volumes from files to the report: alone, fused, killed, with corrupted rows, with bad files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_study import all_bytes, fitted_bytes, small_cohorts
from voxel_study import LESIONS, write_study

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, UsageError
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.schemes import BY_NAME, StudyCohorts
from connectome_tl.training.stages import chain
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.images.grids import made_grids, with_grids
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import StudyRun

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("volumes"), without=(3, 8))


@pytest.fixture(scope="module")
def run(study: Path) -> StudyRun:
    return run_study(study, study.parent / "run")


def contents(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file() and "log" not in file.relative_to(folder).parts]
    files = [file for file in files if file.name != "audit.json"]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(files)}


def prepared(study: Path, changed: dict[str, Any] | None = None) -> tuple[StudySettings, StudyCohorts]:
    settings = load_settings(study, StudySettings)
    cohorts = read_cohorts(settings, study.parent)
    for role, cohort in (changed or {}).items():
        cohorts = cohorts.with_role(role, cohort)
    return settings, with_grids(settings, cohorts, study.parent / "grids")


def test_a_study_of_volumes_runs_to_a_report_that_says_what_was_done(run: StudyRun) -> None:
    models = set(run.predictions["model"])
    assert {"full", "core", "network", "no_pretrain", "volumes_quantiles", "prevalence"} <= models
    assert np.isfinite(run.predictions["y_score"]).all()
    assert set(run.predictions.groupby("model")["subject"].nunique()) == {20}
    page = run.report.read_text("utf-8")
    for said in (
        "Volumes of 20 infants",
        "a 3D ResNet-10 on volumes",
        "The contrast of the volumes was ADC in the target cohort",
        "T1w in the source cohort",
        "resampled to 13 mm",
        "Training volumes were augmented at random by flips",
        "reconstruction of coarse volumes",
        "2 subjects have no image",
    ):
        assert said in page, said


@pytest.mark.slow
def test_the_audit_of_a_study_of_volumes_finds_nothing(run: StudyRun) -> None:
    assert audit_run(run.folder).accused is False


def test_a_finished_fit_predicts_the_same_again(study: Path, tmp_path: Path) -> None:
    settings, cohorts = prepared(study)
    fold = Fold(cohorts.target.ids[:12], cohorts.target.ids[12:])
    plan = chain(settings, cohorts, BY_NAME["full"], fold, ("injury",), seed=0)
    store = FitStore(tmp_path)
    result = fit([plan], cohorts.by_name(), store=store)[plan.key]
    found = stored_model(store, plan.key).predict(cohorts.target, fold.test)
    assert found.tobytes() == np.array([result.predictions[i] for i in fold.test]).tobytes()
    # Without the cache grids are computed when needed, and are the same.
    bare = replace(cohorts.target, volume_cache="")
    assert stored_model(store, plan.key).predict(bare, fold.test).tobytes() == found.tobytes()


def _poisoned(cohort: Cohort, ids: tuple[str, ...], folder: Path) -> Cohort:
    """Other images for these subjects, with noise only."""
    files = list(cohort.volumes)
    rng = np.random.default_rng(0)
    for i in cohort.positions(ids):
        if files[i]:
            volume = read_volume(files[i])
            noise = volume.data + 50 * rng.random(volume.shape).astype(np.float32) * (volume.data > 0.1)
            files[i] = str(write_volume(folder / f"poisoned{i}_ADC.nii.gz", noise, volume.affine))
    return replace(cohort, volumes=tuple(files))


def test_a_poisoned_test_volume_moves_nothing_that_is_fitted(study: Path, tmp_path: Path) -> None:
    settings, cohorts = prepared(study)
    fold = Fold(cohorts.target.ids[:12], cohorts.target.ids[12:])
    other = prepared(study, {"target": _poisoned(cohorts.target, fold.test, tmp_path)})[1]
    found = []
    for given in (cohorts, other):
        plan = chain(settings, given, BY_NAME["full"], fold, ("injury",), seed=0)
        found.append((plan, fit([plan], given.by_name())))
    (plan, clean), (again, spoiled) = found
    assert plan.key == again.key
    moved = 0
    for key, result in clean.items():
        assert fitted_bytes(result) == fitted_bytes(spoiled[key]), result.stage
        moved += all_bytes(result) != all_bytes(spoiled[key])
    assert moved  # their predictions do change
    # A corrupted training volume gives another fit.
    train = prepared(study, {"target": _poisoned(cohorts.target, fold.train[:1], tmp_path)})[1]
    assert chain(settings, train, BY_NAME["full"], fold, ("injury",), seed=0).key != plan.key


@pytest.mark.slow
def test_a_run_that_was_killed_resumes_to_the_same_bytes(run: StudyRun, study: Path) -> None:
    folder = study.parent / "killed"
    command = [sys.executable, "-m", "connectome_tl.cli", "run", str(study), "--out", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ) as process:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            if len(list((folder / "models").glob("*.json"))) >= 2:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "results.json").is_file()
    run_study(study, folder)
    assert contents(folder) == contents(run.folder)


@pytest.fixture
def fused(tmp_path: Path) -> Iterator[Path]:
    """Connectomes, covariates and volumes of the same infants, each missing in some."""
    made = small_cohorts(n_source=16, n_pool=12, n_target=20)
    images = write_volumes(20, VolumeSettings(size=16, lesions=LESIONS), tmp_path / "target", name="x", seed=4)
    files = tuple("" if i % 3 == 0 else file for i, file in enumerate(images.volumes))
    mask = made.target.node_mask.copy()
    mask[1::3] = False
    covariates = made.target.covariates.copy()
    covariates.iloc[2::3] = np.nan
    target = replace(made.target, volumes=files, node_mask=mask, covariates=covariates)
    for role, cohort in (("older", made.source), ("pool", made.pool), ("target", target)):
        assert cohort is not None
        write_cohort(cohort, tmp_path / role)
    steps = {"training": {"steps": 2}}
    settings = {
        "source": {"cohort": "older/cohort.yaml", "tasks": ["age"]},
        "pool": {"cohort": "pool/cohort.yaml"},
        "target": {"cohort": "target/cohort.yaml", "tasks": ["cognitive"]},
        "image": {"size": 12, "voxel": 13.0},
        "model": {"others": [{"kind": "sfcn", "widths": [4, 4]}], "fused_width": 5},
        "stages": {"pretrain": steps, "adapt": steps, "finetune": {**steps, "ensemble": {"networks": 2}}},
        "splits": {"repeats": 1, "outer": 2, "stratum": "cognitive"},
        "controls": ["no_image", "no_connectome", "no_clinical"],
        "baselines": ["prevalence", "quantiles", "linear_all"],
        "refits": {"linear": 0},
        "n_jobs": 1,
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_three_modalities_of_which_any_may_be_missing_are_fused(fused: Path) -> None:
    found = run_study(fused, fused.parent / "run")
    assert {"full", "no_image", "no_connectome", "no_clinical", "quantiles"} <= set(found.predictions["model"])
    assert np.isfinite(found.predictions["y_score"]).all()
    assert "and volumes" in found.report.read_text("utf-8")


def test_every_image_that_cannot_be_used_is_named_in_one_error(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    images = sorted((tmp_path / "target" / "images").glob("*.nii.gz"))
    volume = read_volume(images[0])
    write_volume(images[0], np.zeros_like(volume.data), volume.affine)
    write_volume(images[1], np.stack([volume.data] * 2, axis=-1), volume.affine)
    with pytest.raises(DataError) as caught:
        run_study(study, tmp_path / "run")
    problems = caught.value.problems
    assert [p.subject for p in problems] == ["target0001", "target0002"]
    assert all(p.file for p in problems)
    assert not (tmp_path / "run" / "models").exists()


def test_an_error_says_if_the_image_settings_cannot_be_changed(tmp_path: Path) -> None:
    cohort = write_volumes(1, VolumeSettings(size=16), tmp_path, name="x", seed=4)
    volume = read_volume(cohort.volumes[0])
    volume.data[8, 8, 8] = np.nan
    write_volume(cohort.volumes[0], volume.data, volume.affine)
    settings = ImageSettings(size=12, voxel=13.0)
    for fixed_by in ("", "the bundle"):
        with pytest.raises(DataError, match="voxels are not numbers") as refused:
            made_grids([cohort], settings, tmp_path / "grids", fixed_by=fixed_by)
        said = "the image settings are those of the bundle and cannot be changed" in str(refused.value)
        assert said == bool(fixed_by)


def test_native_voxels_of_very_different_size_are_refused_as_they_are(tmp_path: Path) -> None:
    study = write_study(tmp_path, image={"grid": "raw", "size": 12, "spread": 1.5})
    image = sorted((tmp_path / "target" / "images").glob("*.nii.gz"))[0]
    volume = read_volume(image)
    affine = volume.affine.copy()
    affine[:3, :3] /= 2
    write_volume(image, volume.data, affine)
    with pytest.raises(DataError, match="grid: isotropic") as caught:
        run_study(study, tmp_path / "run")
    assert caught.value.problems[0].file is not None


def test_images_of_a_table_that_are_not_there_and_of_another_contrast_are_refused(tmp_path: Path) -> None:
    write_study(tmp_path)
    folder = tmp_path / "target"
    declared = yaml.safe_load((folder / "cohort.yaml").read_text())
    declared["volumes"] = {"column": "volume", "contrast": "T1w"}
    (folder / "t1w.yaml").write_text(yaml.safe_dump(declared))
    with pytest.raises(DataError, match="another contrast"):
        read_cohort(folder / "t1w.yaml")
    next(iter(sorted((folder / "images").glob("*")))).unlink()
    with pytest.raises(DataError, match="was not found") as caught:
        read_cohort(folder / "cohort.yaml")
    assert caught.value.problems[0].subject == "target0001"


def test_a_stage_whose_objective_needs_what_the_pool_lacks_is_refused(tmp_path: Path) -> None:
    stages = {"adapt": {"objective": {"kind": "masked_edges"}}}
    with pytest.raises(UsageError, match="masked_volume"):
        run_study(write_study(tmp_path, stages=stages), tmp_path / "run")


def test_weights_of_a_file_are_where_the_network_starts(tmp_path: Path) -> None:
    torch.manual_seed(9)
    net = VoxelResNet(10, width=0.0625, stem_stride=1)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "start.pth")
    encoder = {"kind": "resnet", "width": 0.0625, "stem_stride": 1, "weights": "start.pth"}
    stages = {"finetune": {"training": {"steps": 0}, "ensemble": {"networks": 2, "checkpoints": [0.0]}}}
    study = write_study(
        tmp_path,
        source=None,
        pool=None,
        stages=stages,
        model={"encoder": encoder},
        controls=[],
        baselines=["prevalence"],
    )
    run_study(study, tmp_path / "run")
    (report,) = (tmp_path / "run" / "weights").glob("*.json")
    assert yaml.safe_load(report.read_text())["share"] == 1.0
    store = FitStore(tmp_path / "run" / "models")
    kept = [store.load(file.stem, state=True) for file in store.folder.glob("*.json")]
    arrays = [one.arrays for one in kept if one is not None and one.stage == "finetune"]
    assert arrays
    for one in arrays:
        np.testing.assert_array_equal(
            one["state/0/0/branches.image.net.conv1.weight"], net.conv1.weight.detach().numpy()
        )
    encoder["width"] = 0.125
    study.write_text(yaml.safe_dump({**yaml.safe_load(study.read_text()), "model": {"encoder": encoder}}))
    with pytest.raises(DataError, match="of the encoder's weights are in the file"):
        run_study(study, tmp_path / "other")
