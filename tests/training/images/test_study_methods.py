"""The methods on volumes as parts of a study: baselines, an objective, maps of its networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.schemes import StudyCohorts

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


def test_both_methods_are_baselines_that_a_study_can_ask_for(cohort: Cohort) -> None:
    study = settings(
        baselines=["prevalence", "two_stage", "synthetic_volumes"],
        baseline_settings={
            "two_stage": {"folds": 2, "first": BRIEF, "second": BRIEF},
            "synthetic_volumes": {
                "synthesis": {"width": 4, "depth": 1, "latent": 4, "bin_width": 12.0, "descent": BRIEF},
                "training": BRIEF,
            },
        },
    )
    cohorts, splits = StudyCohorts({"target": cohort}), make_split_plan(cohort, study.splits)
    found = baseline_predictions(study, cohorts, splits, tasks_of(study, cohorts))
    for model in ("two_stage", "synthetic_volumes"):
        rows = found[found["model"] == model]
        assert sorted(rows["subject"]) == sorted(cohort.ids)
        assert np.isfinite(rows["y_score"]).all()
        assert rows["y_score"].nunique() == len(cohort.ids)


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
