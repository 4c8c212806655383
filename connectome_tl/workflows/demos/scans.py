"""`connectome-tl demo --scans`: run from raw scans of phantom infants to the report.

The study and the infants' cohort are those of `configs/images_to_report.yaml`; the data are simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from connectome_tl.provenance import write_text
from connectome_tl.simulation.phantom_study import write_phantom_study
from connectome_tl.workflows.init.examples import configs_folder
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import StudyRun

NAME = "images_to_report"


def write_scans_demo(out: Path, *, n_infants: int = 24, seed: int = 0) -> Path:
    """Write the study with its phantoms; returns the path of the study."""
    for name in (f"{NAME}.yaml", f"{NAME}/infants.yaml"):
        write_text(out / name, (configs_folder() / name).read_text("utf-8"))
    write_phantom_study(out / NAME, n_infants=n_infants, seed=seed)
    return out / f"{NAME}.yaml"


def run_scans_demo(
    out: Path, *, n_infants: int = 24, seed: int = 0, overrides: Sequence[str] = (), show_progress: bool = True
) -> StudyRun:
    """Simulate the data and run the study; existing phantoms are overwritten with the same content."""
    study = write_scans_demo(out, n_infants=n_infants, seed=seed)
    return run_study(study, out / "run", overrides=overrides, show_progress=show_progress)
