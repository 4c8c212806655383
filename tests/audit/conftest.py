"""A finished run of a small study, and copies of it for edits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.provenance import write_text
from connectome_tl.workflows.study.run import run_study
from tests.small_study import small_cohorts, small_settings

FEW = {"steps": 2, "controls": ("no_pretrain",), "baselines": ("prevalence", "clinical_only", "ridge")}


def write_run(home: Path, **changed: Any) -> Path:
    cohorts = small_cohorts()
    for name, cohort in (("older", cohorts.source), ("pool", cohorts.pool), ("target", cohorts.target)):
        write_cohort(cohort, home / "cohorts" / name)
    settings = small_settings(**changed)
    run_study(write_text(home / "cohorts" / "study.yaml", dump_settings(settings)), home / "run")
    return home


@pytest.fixture(scope="session")
def finished_run(made_once) -> Path:
    """Folder with `cohorts/` (older, pool, target) and `run/`, the finished run of a study of few models."""
    return made_once("audited", lambda home: write_run(home, **FEW))


@pytest.fixture
def run_of_all_models(tmp_path) -> Path:
    """The same with every control and baseline."""
    return write_run(tmp_path / "home")


@pytest.fixture
def run_copy(finished_run, tmp_path) -> Path:
    shutil.copytree(finished_run, tmp_path / "home")
    return tmp_path / "home"
