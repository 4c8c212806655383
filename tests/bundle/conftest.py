"""A finished small study and its bundle; copies for changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run
from tests.bundle.bundle_study import infants_elsewhere, run_of


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the cohorts, `run/`, `bundle/` (mean), `refit/` and another cohort, `elsewhere/`."""
    folder = tmp_path_factory.mktemp("bundles")
    run = run_of(folder)
    bundle_run(run, folder / "bundle")
    bundle_run(run, folder / "refit", BundleOptions(fit="refit"))
    write_cohort(infants_elsewhere(), folder / "elsewhere")
    return folder


@pytest.fixture
def bundle_copy(home: Path, tmp_path: Path) -> Path:
    shutil.copytree(home / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"
