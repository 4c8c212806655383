"""The image studies of the package are valid settings, and the demo takes minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectome_tl.config import load_settings
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.workflows.demos.volumes import image_demo_settings

CONFIGS = Path(__file__).parents[2] / "configs"
STUDIES = (
    "age2hie_same_site",
    "age2hie_pooled",
    "age2hie_held_out_site",
    "age2hie_from_scratch",
    "gloresnet",
    "raw_t1w_resnet",
)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_and_its_cohorts_are_valid_settings(name: str) -> None:
    study = load_settings(CONFIGS / f"{name}.yaml", StudySettings)
    assert study.model.reads_volumes
    for use in study.uses.values():
        cohort = load_settings(CONFIGS / use.cohort, CohortSettings)
        assert cohort.volumes is not None
        assert {outcome.name for outcome in cohort.outcomes} >= set(use.tasks or ())


def test_the_three_protocols_differ_in_cohort_and_splits_alone() -> None:
    studies = [
        load_settings(CONFIGS / f"age2hie_{n}.yaml", StudySettings) for n in ("same_site", "pooled", "held_out_site")
    ]
    rest = [
        s.model_copy(update={"title": "", "splits": studies[0].splits, "target": studies[0].target}) for s in studies
    ]
    assert rest[0] == rest[1] == rest[2]
    assert studies[2].splits.scheme == "site_out"


def test_the_twin_of_equal_budget_differs_in_its_stages_alone() -> None:
    twin, pooled = (load_settings(CONFIGS / f"age2hie_{n}.yaml", StudySettings) for n in ("from_scratch", "pooled"))
    first, last = pooled.stages.pretrain, pooled.stages.finetune.training
    assert first is not None
    assert twin.stages.pretrain is None
    assert twin.stages.adapt is None
    own = twin.stages.finetune.training
    assert own.steps == first.training.steps + last.steps
    assert own.model_copy(update={"steps": last.steps, "part_learning_rates": last.part_learning_rates}) == last
    differing = {"title": "", "source": None, "controls": (), "stages": twin.stages}
    assert twin.model_copy(update=differing) == pooled.model_copy(update=differing)


def test_the_demo_pretrains_on_age_and_has_the_twin_without() -> None:
    study = image_demo_settings()
    assert study.source is not None
    assert study.source.tasks == ("age",)
    assert "scratch" in study.controls
    assert study.model.reads_volumes
