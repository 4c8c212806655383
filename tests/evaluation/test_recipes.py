"""The published models in configs/ are valid, have their published settings, and run on a small simulated cohort."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_study import small_cohorts

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.evaluation.baselines.fixed import BASELINES, baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checks import check_names
from connectome_tl.training.schemes import StudyCohorts

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = [
    "splits.repeats=1",
    "splits.outer=2",
    "n_jobs=1",
    "stages.finetune.training.steps=2",
    "stages.finetune.ensemble.networks=2",
]
STAGED = ["stages.pretrain.training.steps=2", "stages.adapt.training.steps=2"]
RECIPES = {
    "he2020": STAGED,
    "kawahara2017": [],
    "structural": STAGED,
    "morphometric": STAGED,
    "meta_matching": ["stages.pretrain.training.steps=2"],
}


def with_measures(cohort: Cohort) -> Cohort:
    measures = np.random.default_rng(1).normal(size=(cohort.n_subjects, cohort.n_regions, 3))
    return replace(cohort, region_features=measures, region_feature_names=("thickness", "area", "volume"))


OF_IMAGES = ("random_encoder", "volumes", "quantiles", "volumes_quantiles", "pca_gpr")  # the cohorts have none


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_on_a_small_cohort(name: str) -> None:
    study = load_settings(CONFIGS / f"{name}.yaml", StudySettings, overrides=[*SMALL, *RECIPES[name]])
    roles = {role: with_measures(cohort) for role, cohort in small_cohorts().roles.items() if role in study.uses}
    cohorts = StudyCohorts(roles)
    check_names(study, cohorts)
    splits = make_split_plan(cohorts.target, study.splits)
    tasks = tasks_of(study, cohorts)
    tables = [cross_validate(study, cohorts, splits).predictions, baseline_predictions(study, cohorts, splits, tasks)]
    found = pd.concat(tables)
    assert {"full", "core", "network"} | set(study.controls) - {"no_image"} <= set(found["model"])
    without = {"tangent_ridge", *OF_IMAGES} | (
        set() if "source" in study.uses else {"linear_transfer", "meta_matching"}
    )
    if all(task.kind == "regression" for task in tasks):
        without.add("pca_logistic")
    # These cohorts have no volumes.
    without |= {"random_encoder", "volumes", "quantiles", "volumes_quantiles", "pca_gpr"}
    assert set(found["model"]) & set(BASELINES) == set(study.baselines) - without
    assert np.isfinite(found["y_score"]).all()


def test_he2020_has_the_published_sizes_and_its_four_switches() -> None:
    study = load_settings(CONFIGS / "he2020.yaml", StudySettings)
    encoder, clinical = study.model.encoder, study.model.clinical
    assert (encoder.kind, encoder.widths, encoder.norm) == ("flat", (128, 32), "batch")  # type: ignore[union-attr]
    assert (clinical.width, clinical.norm, study.model.fused_width, study.model.norm) == (16, "batch", 8, "batch")
    assert study.stages.finetune.training.batch_size == 8
    assert {"no_pretrain", "no_adapt", "no_clinical", "single_task"} <= set(study.controls)
    assert study.stages.adapt is not None
    assert not study.stages.adapt.transductive


def test_kawahara2017_has_the_small_published_network_and_neighbours_in_label_space() -> None:
    study = load_settings(CONFIGS / "kawahara2017.yaml", StudySettings)
    encoder, training = study.model.encoder, study.stages.finetune.training
    assert (encoder.kind, encoder.filters, encoder.nodes, encoder.embedding) == ("brainnetcnn", 32, 64, 30)  # type: ignore[union-attr]
    assert (encoder.slope, encoder.dropout, training.batch_size) == (0.33, 0.5, 14)  # type: ignore[union-attr]
    assert training.mixup is not None
    assert training.mixup.neighbours == 5


def test_every_recipe_says_what_is_published_and_what_is_not() -> None:
    for name in RECIPES:
        text = (CONFIGS / f"{name}.yaml").read_text("utf-8")
        assert "OURS" in text, name
        assert name == "structural" or "PUBLISHED" in text, name
        assert f"connectome-tl run {name}.yaml" in text, name
