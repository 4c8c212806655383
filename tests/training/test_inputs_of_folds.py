"""Volumes that are missing at whole sites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.errors import UsageError
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checks import check_inputs
from connectome_tl.training.schemes import StudyCohorts


def test_a_fold_without_a_training_volume_is_named_before_anything_is_fitted(tmp_path: Path) -> None:
    cohort = write_volumes(12, VolumeSettings(size=8), tmp_path, name="a", seed=1)
    study = StudySettings.model_validate(
        {
            "target": {"cohort": "a.yaml"},
            "model": {"encoder": {"kind": "resnet"}},
            "splits": {"scheme": "site_out", "repeats": 1},
        }
    )
    splits = make_split_plan(cohort, study.splits)
    check_inputs(study, StudyCohorts({"target": cohort}), splits)
    here = cohort.site[0]
    kept = [volume if site == here else "" for volume, site in zip(cohort.volumes, cohort.site, strict=True)]
    with pytest.raises(UsageError, match="no training subject has a volume, the only input of full"):
        check_inputs(study, StudyCohorts({"target": replace(cohort, volumes=tuple(kept))}), splits)
