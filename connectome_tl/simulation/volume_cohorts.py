"""Write simulated volumes as cohorts on disk: NIfTI files, a table, a `cohort.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.settings.records.results import FlowStep
from connectome_tl.simulation.volumes import SimulatedVolume, VolumeSettings, affine_of, each_volume
from connectome_tl.tasks import Task

Outcome = Literal["age", "injury"]
AGE = Task(name="age", kind="regression", column="age_months", unit="months")
INJURY = Task(name="injury", kind="binary", column="injury")


def write_volumes(
    n_subjects: int,
    settings: VolumeSettings,
    folder: str | Path,
    *,
    name: str,
    outcomes: Sequence[Outcome] = ("age",),
    seed: int = 0,
    labels: bool = False,
    watch: Callable[[str, SimulatedVolume], None] | None = None,
) -> Cohort:
    """Simulate subjects and write one image of each below `folder`/images.

    Args:
        outcomes: outcomes in the cohort's table: age (months), injury by planted lesions, or none.
        labels: also write label maps.
        watch: called with the id of each subject and its truth.

    Returns:
        The cohort; `write_cohort` writes its table and `cohort.yaml`.
    """
    home, contrast = Path(folder), settings.contrast
    affine = affine_of(settings)
    rows, files, maps = [], [], []
    for i, one in enumerate(each_volume(n_subjects, settings, seed=seed)):
        subject = f"{name}{i + 1:04d}"
        files.append(str(write_volume(home / "images" / f"sub-{subject}_{contrast}.nii.gz", one.volume, affine)))
        if labels:
            maps.append(str(write_volume(home / "labels" / f"sub-{subject}_dseg.nii.gz", one.labels, affine)))
        rows.append((subject, one.age, one.outcome, one.site))
        if watch is not None:
            watch(subject, one)
    table = pd.DataFrame(rows, columns=["id", "age", "injury", "site"])
    ids = tuple(table["id"])
    tasks = tuple({"age": AGE, "injury": INJURY}[outcome] for outcome in outcomes)
    columns: dict[str, np.ndarray] = {"age": table["age"].to_numpy(), "injury": table["injury"].to_numpy()}
    targets = pd.DataFrame({task.name: columns[task.name] for task in tasks}, index=list(ids))
    return Cohort(
        name=name,
        ids=ids,
        regions=(),
        atlas="",
        measures=(),
        weights=np.zeros((n_subjects, 0, 0, 0), np.float32),
        node_mask=np.zeros((n_subjects, 0), dtype=bool),
        covariates=pd.DataFrame(index=list(ids)),
        covariate_specs=(),
        tasks=tasks,
        targets=targets,
        status=targets.notna().map(lambda seen: "observed" if seen else "unknown"),
        age=table["age"].to_numpy(),
        age_unit="months",
        site=table["site"].to_numpy(dtype=object),
        family=np.full(n_subjects, "", dtype=object),
        flow=(FlowStep(label="simulated", n_left=n_subjects),),
        volumes=tuple(files),
        volume_contrast=settings.contrast,
        volume_labels=tuple(maps),
        simulated=True,
    )


def write_volume_cohort(
    n_subjects: int,
    settings: VolumeSettings,
    folder: str | Path,
    *,
    name: str,
    outcomes: Sequence[Outcome] = ("age",),
    seed: int = 0,
    without: Sequence[int] = (),
) -> Path:
    """`write_volumes`, and the cohort's files; subjects with numbers in `without` have no image.

    Returns:
        Path of `cohort.yaml`.
    """
    cohort = write_volumes(n_subjects, settings, folder, name=name, outcomes=outcomes, seed=seed)
    kept = tuple("" if i in without else file for i, file in enumerate(cohort.volumes))
    return write_cohort(replace(cohort, volumes=kept), folder)
