"""A small finished study on disk for bundles, and cohorts to apply them to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from small_study import figures_left_out, small_cohorts, small_settings

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.provenance import write_text
from connectome_tl.settings.study import Refits, SplitSettings
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.run import run_study

N_TARGET, N_ELSEWHERE = 40, 60


def study_cohorts(**sizes: int) -> StudyCohorts:
    """The cohorts of the study; the target consists of the first simulated infants."""
    wanted = {"n_source": 24, "n_pool": 14, "n_target": N_TARGET + N_ELSEWHERE, "n_regions": 12, **sizes}
    every = small_cohorts(**wanted)
    return every.with_role("target", every.target.take(every.target.ids[:N_TARGET]))


def infants_elsewhere(name: str = "elsewhere", **changed: Any) -> Cohort:
    """The other simulated infants, of another site, some arrays replaced."""
    every = small_cohorts(n_source=24, n_pool=14, n_target=N_TARGET + N_ELSEWHERE, n_regions=12).target
    rows = np.arange(N_TARGET, N_TARGET + N_ELSEWHERE)
    cohort = every.drawn(rows, tuple(f"{name}{i + 1}" for i in range(len(rows))))
    site = np.full(cohort.n_subjects, name, dtype=object)
    return replace(cohort, **{"name": name, "site": site, **changed})


def run_of(folder: Path, cohorts: StudyCohorts | None = None, **changed: Any) -> Path:
    """The run folder of a small finished study; its cohorts are in the same folder."""
    made = cohorts or study_cohorts()
    for name, cohort in (("older", made.source), ("pool", made.pool), ("target", made.target)):
        if cohort is not None:
            write_cohort(cohort, folder / name)
    settings = small_settings(
        **{
            "steps": 4,
            "splits": SplitSettings(repeats=2, outer=2, stratum="cognitive"),
            "controls": (),
            "baselines": ("prevalence", "clinical_only"),
            "refits": Refits(linear=0),
            "title": "A small study",
            **changed,
        }
    )
    write_text(folder / "study.yaml", dump_settings(settings))
    with figures_left_out():
        return run_study(folder / "study.yaml", folder / "run").folder
