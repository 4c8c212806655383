"""The tables of the benchmarks on volumes: pairs by cohort, and controls that are the baselines of a study."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.fixed import BASELINES
from connectome_tl.settings.images.volumes import ImageSettings, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings, simulate_volumes
from connectome_tl.training.schemes import StudyCohorts

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "voxel_tables.py"
    spec = importlib.util.spec_from_file_location("voxel_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["voxel_tables"] = module
    spec.loader.exec_module(module)
    return module


def test_values_are_paired_by_cohort_and_not_by_position(tables: ModuleType, tmp_path: Path) -> None:
    """A killed run has a cohort that only some arms have."""
    table = tables.Table(tmp_path / "table.tsv")
    for cohort, arm, value in ((0, "a", 1.0), (1, "a", 2.0), (2, "a", 4.0), (0, "b", 3.0), (2, "b", 1.0)):
        table.fill(cohort, arm, lambda value=value: {"auc": value})
    again = tables.Table(tmp_path / "table.tsv")
    series = again.all(("a", "b"), "auc")
    assert tables.differences(series["a"], series["b"]).tolist() == [-2.0, 3.0]
    assert tables.differences(series["b"], series["a"], relative=True).tolist() == [2.0, -0.75]
    assert tables.best_of(series, higher=True) == {0: (3.0, "b"), 2: (4.0, "a")}
    assert tables.best_of(series, higher=False) == {0: (1.0, "a"), 2: (1.0, "b")}
    assert again.paired("a", "b", "auc").tolist() == [-2.0, 3.0]


def test_controls_of_a_benchmark_are_the_baselines_of_a_study(tables: ModuleType, tmp_path: Path) -> None:
    simulated = VolumeSettings(size=16)
    cohort = write_volumes(14, simulated, tmp_path, name="infant", seed=3)
    sim = simulate_volumes(14, simulated, seed=3)
    controls = tables.controls_of(sim, tables.rows_of(sim))
    study = StudySettings(
        target=CohortUse(cohort="infants"),
        image=ImageSettings(size=16, voxel=simulated.voxel, shape="note"),
        model=ModelSettings(encoder=ResNetEncoder(width=1 / 16)),
    )
    data = BaselineData(study, StudyCohorts({"target": cohort}), cohort.tasks)
    train, test = np.arange(10), np.arange(10, 14)
    fold = Fold(cohort.ids[:10], cohort.ids[10:])
    for name in tables.CONTROLS:
        (baseline,) = BASELINES[name](data)
        found = controls.predict(name, sim.age[train], train, test)
        # The voxels are those that the networks of the benchmark see, and not a study's grid.
        if name not in ("random_encoder", "pca_gpr"):
            want = baseline.learner.predict(baseline.design(fold), sim.age[train], False)
            np.testing.assert_allclose(found, want, rtol=1e-4)
        assert np.ptp(found) > 0
