"""A finished run of a small study, and copies of it to tamper with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.provenance import write_text
from connectome_tl.settings.study import Refits
from connectome_tl.workflows.run import run_study
from tests.small_study import small_cohorts, small_settings


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """Folder with `cohorts/` (older, pool, target) and `run/`, the finished run."""
    home = tmp_path_factory.mktemp("audited")
    cohorts = small_cohorts()
    for name, cohort in (("older", cohorts.source), ("pool", cohorts.pool), ("target", cohorts.target)):
        write_cohort(cohort, home / "cohorts" / name)
    study = write_text(home / "cohorts" / "study.yaml", dump_settings(small_settings(refits=Refits(linear=5))))
    run_study(study, home / "run")
    return home


@pytest.fixture
def run_copy(finished_run, tmp_path) -> Path:
    shutil.copytree(finished_run, tmp_path / "home")
    return tmp_path / "home"
