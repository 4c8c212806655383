"""Every YAML file of `configs/` has a line in the gallery and is valid; studies of the gallery run small."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from small_study import small_cohorts

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.settings.base import Settings
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.tasks import Task
from connectome_tl.training.checks import check_names
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.starting.init import configs_folder

ROOT = Path(__file__).parents[2]
CONFIGS = configs_folder()
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
NOT_OURS = ("babs/connectome_tl.yaml", "snakemake/slurm/config.yaml")  # other programs read these
KINDS: dict[str, type[Settings]] = {  # the kind of every other file follows from its keys
    "connectomes.yaml": ConnectomesSettings,
    "morphometry.yaml": MorphometrySettings,
    "tune/images.yaml": TuneSettings,
}
SMALL = (
    "splits.repeats=1",
    "splits.outer=2",
    "n_jobs=1",
    "controls=[scratch]",
    "stages.pretrain.training.steps=2",
    "stages.adapt.training.steps=2",
    "stages.finetune.training.steps=2",
    "stages.finetune.ensemble.networks=2",
)
RUN_HERE = {
    "example/study.yaml": (),
    "abide33.yaml": ("splits.n_labelled=12",),
    "dhcp33.yaml": ("splits.n_labelled=12",),
}


def patterns() -> Iterator[str]:
    for row in (ROOT / "docs" / "gallery.md").read_text("utf-8").splitlines():
        if row.startswith("| `"):
            yield from re.findall(r"`([^`]+\.yaml)`", row.split("|")[1])


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_a_line_in_the_gallery_and_is_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(fnmatch(name, pattern) for pattern in patterns()), f"docs/gallery.md has no line for {name}"
    text = (CONFIGS / name).read_text("utf-8")
    for other in FILES:  # cohorts of a study are read as well
        for variable in re.findall(r"\$\{(\w+)\}", (CONFIGS / other).read_text("utf-8")):
            monkeypatch.setenv(variable, "/data")
    if name in NOT_OURS:
        assert isinstance(yaml.safe_load(text), dict)
        return
    keys = set(yaml.safe_load(text))
    kinds: dict[str, type[Settings]] = {"target": StudySettings, "participants": CohortSettings}
    kind = KINDS.get(name) or next(kind for key, kind in kinds.items() if key in keys)
    settings = load_settings(CONFIGS / name, kind)
    if isinstance(settings, StudySettings):
        home = (CONFIGS / name).parent
        for use in settings.uses.values():
            if (home / use.cohort).is_file():
                known = {outcome.name for outcome in load_settings(home / use.cohort, CohortSettings).outcomes}
                assert set(use.tasks or ()) <= known, f"{name}: {use.cohort}"


def test_every_line_of_the_gallery_is_of_a_file() -> None:
    for pattern in patterns():
        assert any(fnmatch(name, pattern) for name in FILES), pattern


def with_outcomes(cohort: Cohort, names: tuple[str, ...]) -> Cohort:
    """The cohort with random outcomes of these names, the first one binary, and a measure of each region."""
    rng = np.random.default_rng(len(names))
    tasks = tuple(
        Task(name=name, kind="regression" if k else "binary", column=f"column_{name}") for k, name in enumerate(names)
    )
    values = rng.normal(size=(cohort.n_subjects, len(names)))
    values[:, :1] = (np.arange(cohort.n_subjects) % 2)[:, None][:, : len(names)]
    targets = pd.DataFrame(values, index=list(cohort.ids), columns=list(names))
    status = targets.notna().map(lambda seen: "observed" if seen else "unknown")
    measures = rng.normal(size=(cohort.n_subjects, cohort.n_regions, 2))
    return replace(
        cohort,
        tasks=tasks,
        targets=targets,
        status=status,
        scores=None,
        region_features=measures,
        region_feature_names=("thickness", "area"),
    )


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_study_of_the_gallery_runs_small(name: str) -> None:
    """The published models are run in tests/evaluation, images_to_report.yaml in tests/workflows."""
    study = load_settings(CONFIGS / name, StudySettings, overrides=[*SMALL, *RUN_HERE[name]])
    roles = small_cohorts().roles
    default = ("cognitive", "language")
    cohorts = StudyCohorts({role: with_outcomes(roles[role], use.tasks or default) for role, use in study.uses.items()})
    check_names(study, cohorts)
    splits = make_split_plan(cohorts.target, study.splits)
    found = cross_validate(study, cohorts, splits).predictions
    assert {"full", "core", "network", "scratch"} == set(found["model"])
    assert set(found["task"]) == {task.name for task in tasks_of(study, cohorts)}
    assert np.isfinite(found["y_score"]).all()
