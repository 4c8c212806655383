"""Ordered levels and classes, with connectomes alone: explained, bundled, applied and validated like other outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.folder import CARD
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.settings.records.bundles import RESEARCH_ONLY
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, Stages
from connectome_tl.settings.training import Ensemble, FineTune, Training
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run
from connectome_tl.workflows.release.predict import predict_cohort
from connectome_tl.workflows.release.validate import Validated, validate_on
from connectome_tl.workflows.study.explain import explain_run
from connectome_tl.workflows.study.study_run import read_run
from tests.bundle.bundle_study import infants_elsewhere, run_of, study_cohorts
from tests.training.kinds_of_study import with_every_kind

TASKS = ("severity", "pattern")


def bare(cohort: Cohort) -> Cohort:
    """The cohort with outcomes of levels and classes, no covariate, and sites that are not named like a class."""
    site = np.array([f"clinic {one}" for one in cohort.site], dtype=object)
    return replace(with_every_kind(cohort), covariates=cohort.covariates.iloc[:, :0], covariate_specs=(), site=site)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without other cohorts and covariates, `bundle/`, and infants of another site in `elsewhere/`."""
    made = tmp_path_factory.mktemp("kinds")
    fine = FineTune(training=Training(steps=4), ensemble=Ensemble(networks=2, checkpoints=(0.0, 0.5)))
    run_of(
        made,
        StudyCohorts({"target": bare(study_cohorts().target)}),
        source=None,
        pool=None,
        target=CohortUse(cohort="target/cohort.yaml", tasks=TASKS),
        stages=Stages(pretrain=None, adapt=None, finetune=fine),
        splits=SplitSettings(repeats=2, outer=2, stratum="severity"),
        baselines=("prevalence",),
        refits=Refits(linear=0),
    )
    bundle_run(made / "run", made / "bundle", BundleOptions(model="full"))
    write_cohort(bare(infants_elsewhere()), made / "elsewhere")
    return made


@pytest.fixture(scope="module")
def validated(folder: Path) -> Validated:
    return validate_on(folder / "bundle", folder / "elsewhere" / "cohort.yaml", folder / "v")


def test_each_fit_predicts_every_level_of_its_test_fold_as_the_run_says(folder: Path) -> None:
    bundle = open_bundle(folder / "bundle")
    cohort = read_cohort(folder / "target" / "cohort.yaml")
    told = read_run(folder / "run").predictions
    each = bundle.members.predict_each(cohort, cohort.ids)
    assert each.shape[2] == 6
    for number, task in enumerate(TASKS):
        own = told[(told["model"] == "full") & (told["task"] == task)]
        for _, fold in own.groupby(["repeat", "fold"]):
            at = cohort.positions(fold["subject"])
            wanted = fold[["p_0", "p_1", "p_2"]].to_numpy(float)
            distance = np.abs(each[:, at, 3 * number : 3 * number + 3] - wanted).max(axis=(1, 2))
            assert (distance < 1e-6).sum() == 1


def test_a_row_holds_a_level_or_class_and_says_research_only(folder: Path) -> None:
    path = folder / "elsewhere" / "cohort.yaml"
    hidden = predict_cohort(folder / "bundle", path, folder / "h.tsv").rows
    assert hidden["status"].str.startswith("withheld: ").all()
    shown = predict_cohort(folder / "bundle", path, folder / "p.tsv", research_individual=True).rows
    assert len(shown) == len(hidden)
    assert shown["value"].notna().all()
    assert shown["use"].str.startswith(RESEARCH_ONLY).all()
    sets = shown["conformal"].map(lambda said: {one.strip() for one in said.split(",")} - {""})
    assert set().union(*sets[shown["task"] == "severity"]) <= {"none", "mild", "severe"}
    assert set().union(*sets[shown["task"] == "pattern"]) <= {"a", "b", "c"}
    assert (sets.map(len) > 0).any()


def test_the_scores_of_another_cohort_are_on_a_page(folder: Path, validated: Validated) -> None:
    found = {one.task.name: {score.metric for score in one.scores} for one in validated.record.tasks}
    assert "c_index" in found["severity"]
    assert "macro_auc" in found["pattern"]
    assert "Research only, not for care" in validated.report.read_text()
    assert "severity" in (folder / "bundle" / CARD).read_text()


def test_maps_are_withheld_with_the_reason_or_written_for_each_level(folder: Path) -> None:
    found = explain_run(folder / "run", models=("full", "core"), n_permutations=19, n_refitted=0)
    by_task = {(one.task, one.model) for one in found.withheld} | {(one.task, one.model) for one in found.maps}
    assert by_task == {(task, model) for task in TASKS for model in ("full", "core")}
    assert all(one.reason for one in found.withheld)
