"""Predict neurodevelopmental outcome from infant MRI, with baselines, controls and intervals.

For research, not for care. Public names are imported on first access, so that importing the package does not import
torch or other slow packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from connectome_tl.atlas import Atlas, load_atlas
    from connectome_tl.cohort.cohort import Cohort
    from connectome_tl.cohort.reading import read_cohort
    from connectome_tl.cohort.splits import SplitPlan
    from connectome_tl.cohort.writing import write_cohort
    from connectome_tl.connectome.connectome import Connectome
    from connectome_tl.extension import extend
    from connectome_tl.settings.study import StudySettings
    from connectome_tl.simulation.cohorts import simulate_study
    from connectome_tl.tasks import Task
    from connectome_tl.workflows.audit.audit import audit_run
    from connectome_tl.workflows.data.convert import convert, read_connectome
    from connectome_tl.workflows.images.maps import map_volumes
    from connectome_tl.workflows.init.from_files import init_study
    from connectome_tl.workflows.release.bundle import bundle_run
    from connectome_tl.workflows.release.predict import predict_cohort
    from connectome_tl.workflows.release.validate import validate_on
    from connectome_tl.workflows.scans.connectomes import build_connectomes
    from connectome_tl.workflows.study.explain import explain_run
    from connectome_tl.workflows.study.run import run_study
    from connectome_tl.workflows.study.study_run import StudyRun, read_run
    from connectome_tl.workflows.study.tune import tune_study

_WHERE = {
    "map_volumes": "workflows.images.maps",
    "init_study": "workflows.init.from_files",
    "read_connectome": "workflows.data.convert",
    "convert": "workflows.data.convert",
    "write_cohort": "cohort.writing",
    "validate_on": "workflows.release.validate",
    "tune_study": "workflows.study.tune",
    "predict_cohort": "workflows.release.predict",
    "explain_run": "workflows.study.explain",
    "build_connectomes": "workflows.scans.connectomes",
    "bundle_run": "workflows.release.bundle",
    "audit_run": "workflows.audit.audit",
    "Atlas": "atlas",
    "load_atlas": "atlas",
    "Cohort": "cohort.cohort",
    "read_cohort": "cohort.reading",
    "SplitPlan": "cohort.splits",
    "Connectome": "connectome.connectome",
    "simulate_study": "simulation.cohorts",
    "Task": "tasks",
    "StudyRun": "workflows.study.study_run",
    "StudySettings": "settings.study",
    "extend": "extension",
    "read_run": "workflows.study.study_run",
    "run_study": "workflows.study.run",
}

__all__ = [
    "Atlas",
    "Cohort",
    "Connectome",
    "SplitPlan",
    "StudyRun",
    "StudySettings",
    "Task",
    "audit_run",
    "build_connectomes",
    "bundle_run",
    "convert",
    "explain_run",
    "extend",
    "init_study",
    "load_atlas",
    "map_volumes",
    "predict_cohort",
    "read_cohort",
    "read_connectome",
    "read_run",
    "run_study",
    "simulate_study",
    "tune_study",
    "validate_on",
    "write_cohort",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"connectome_tl.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
