"""A small finished study of connectomes, covariates and volumes on disk, and infants for applying its bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from small_study import small_cohorts
from voxel_study import LESIONS

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.workflows.study.run import run_study

N, N_OTHERS = 28, 16
IMAGES = VolumeSettings(size=16, contrast="ADC", lesions=LESIONS)


def infants(folder: Path, first: int, n: int, name: str, settings: VolumeSettings = IMAGES) -> Cohort:
    """Simulated infants with connectomes, covariates and volumes; every fourth lacks a volume."""
    made = small_cohorts(n_source=12, n_pool=12, n_target=N + N_OTHERS).target
    cohort = made.drawn(np.arange(first, first + n), [f"{name}{i + 100}" for i in range(n)])
    images = write_volumes(n, settings, folder / name, name=f"{name}scan", seed=first + 1)
    files = tuple("" if i % 4 == 3 else file for i, file in enumerate(images.volumes))
    site = np.full(n, f"clinic of {name}s", dtype=object)
    return replace(cohort, name=name, volumes=files, volume_contrast=settings.contrast, site=site)


SMALL = {"kind": "sfcn", "widths": [4, 4]}


def fused_run(folder: Path, *, size: int = 12, encoder: dict[str, Any] = SMALL) -> tuple[Path, Path]:
    """The run folder, and the cohort.yaml of infants of another site.

    Args:
        size: voxels along each axis of the grid. encoder: settings of the network on volumes.
    """
    write_cohort(infants(folder, 0, N, "target"), folder / "target")
    others = write_cohort(infants(folder, N, N_OTHERS, "others"), folder / "others")
    settings = {
        "target": {"cohort": "target/cohort.yaml", "tasks": ["cognitive"]},
        "image": {"size": size, "voxel": 156.0 / size},
        "model": {"others": [encoder], "fused_width": 5},
        "stages": {"finetune": {"training": {"steps": 2}, "ensemble": {"networks": 2}}},
        "splits": {"repeats": 1, "outer": 2, "stratum": "cognitive"},
        "controls": [],
        "baselines": ["prevalence", "clinical_only"],
        "refits": {"linear": 0},
        "n_jobs": 1,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    return run_study(folder / "study.yaml", folder / "run").folder, others
