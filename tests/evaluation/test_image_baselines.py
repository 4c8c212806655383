"""The five controls of an image study: their inputs, subjects without a volume, and studies without volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import r2_score

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Design
from connectome_tl.evaluation.baselines.engines.learners import predict_baseline
from connectome_tl.evaluation.baselines.fixed import BASELINES
from connectome_tl.evaluation.baselines.images import gaussian_process
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.settings.images.volumes import ImageSettings, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.schemes import StudyCohorts

CONTROLS = ("random_encoder", "volumes", "quantiles", "volumes_quantiles", "pca_gpr")
STUDY = StudySettings(
    target=CohortUse(cohort="x"),
    image=ImageSettings(size=24, voxel=6.7),
    model=ModelSettings(encoder=ResNetEncoder()),
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    home = tmp_path_factory.mktemp("volumes")
    made = write_volumes(70, VolumeSettings(size=24, site_effect=0.3), home, name="a", seed=3)
    return replace(made, volume_cache=str(home / "cache"))


def data(cohort: Cohort, study: StudySettings = STUDY) -> BaselineData:
    return BaselineData(study, StudyCohorts({"target": cohort}), cohort.tasks)


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_tells_age(cohort: Cohort, name: str) -> None:
    fold = Fold(cohort.ids[:50], cohort.ids[50:])
    (baseline,) = BASELINES[name](data(cohort))
    design = baseline.design(fold)
    assert design.fitted_on == fold.train
    age = cohort.targets["age"].to_numpy(float)
    found = predict_baseline(cohort.tasks[0], design, age[:50], baseline.learner)
    assert r2_score(age[50:], found[:, 0]) > 0.2, name


@pytest.mark.parametrize("name", CONTROLS)
def test_a_subject_without_a_volume_is_predicted(cohort: Cohort, name: str) -> None:
    lacking = replace(cohort, volumes=("", *cohort.volumes[1:-1], ""))
    fold = Fold(cohort.ids[:50], cohort.ids[50:])
    (baseline,) = BASELINES[name](data(lacking))
    age = cohort.targets["age"].to_numpy(float)
    found = predict_baseline(cohort.tasks[0], baseline.design(fold), age[:50], baseline.learner)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", CONTROLS)
def test_without_volumes_or_an_encoder_of_them_there_is_none(cohort: Cohort, name: str) -> None:
    assert BASELINES[name](data(replace(cohort, volumes=()))) == []
    assert BASELINES[name](data(cohort, STUDY.model_copy(update={"model": ModelSettings()}))) == []


@pytest.mark.parametrize("name", CONTROLS)
def test_a_poisoned_test_volume_changes_no_bit_of_the_other_predictions(
    cohort: Cohort, name: str, tmp_path: Path
) -> None:
    """Principal components, scales, penalties and kernels are those of the training rows."""
    cohort = cohort.take(cohort.ids[:20])
    fold, age = Fold(cohort.ids[:16], cohort.ids[16:]), cohort.targets["age"].to_numpy(float)[:16]

    def predicted(spoiled: int | None) -> tuple[np.ndarray, np.ndarray]:
        volumes = list(cohort.volumes)
        if spoiled is not None:
            volume = read_volume(volumes[spoiled])
            noise = np.random.default_rng(0).uniform(0, 5, volume.shape).astype(np.float32)
            volumes[spoiled] = str(write_volume(tmp_path / f"{spoiled}_T1w.nii.gz", volume.data * noise, volume.affine))
        (baseline,) = BASELINES[name](data(replace(cohort, volumes=tuple(volumes))))
        design = baseline.design(fold)
        return design.train, predict_baseline(cohort.tasks[0], design, age, baseline.learner)[:, 0]

    (train, clean), (same, tested), (_, trained) = (predicted(which) for which in (None, 19, 3))
    assert same.tobytes() == train.tobytes()
    assert tested[:-1].tobytes() == clean[:-1].tobytes()
    assert tested[-1] != clean[-1]
    assert not np.array_equal(trained[:-1], clean[:-1])


def test_a_gaussian_process_finds_a_planted_class_and_a_value() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 30))
    x[:, 0] *= 6
    design = Design(x[:60], x[60:], tuple(map(str, range(60))))
    value = x[:, 0] + 0.1 * rng.normal(size=80)
    assert r2_score(value[60:], gaussian_process(design, value[:60], False)) > 0.8
    risk = gaussian_process(design, (value[:60] > 0).astype(float), True)
    assert ((risk > 0.5) == (value[60:] > 0)).mean() > 0.85
