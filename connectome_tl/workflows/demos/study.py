"""`connectome-tl demo`: run a study on simulated cohorts with known truth."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.provenance import write_text
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, StudySettings
from connectome_tl.settings.training import FineTune, Stages
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.workflows.study.run import run_study


def demo_settings(seed: int = 0) -> StudySettings:
    """The demo's study: all stages, controls and baselines, sized for a laptop."""
    return StudySettings(
        title="Demo: does learning from older subjects improve predictions for infants?",
        source=CohortUse(cohort="../cohorts/older/cohort.yaml"),
        pool=CohortUse(cohort="../cohorts/pool/cohort.yaml"),
        target=CohortUse(cohort="../cohorts/target/cohort.yaml", tasks=("cognitive", "language", "motor_score")),
        stages=Stages(finetune=FineTune(training=FineTune().training.model_copy(update={"steps": 160}))),
        splits=SplitSettings(repeats=2, outer=3, inner=3, seed=seed, stratum="cognitive"),
        refits=Refits(linear=100),
        permutations=99,
        seed=seed,
    )


def run_demo(out: Path, *, seed: int = 0, show_progress: bool = True) -> Path:
    """Simulate the cohorts and run the study; returns the path of the report."""
    study = simulate_study(seed=seed)
    for name, cohort in (("older", study.source), ("pool", study.pool), ("target", study.target)):
        write_cohort(cohort, out / "cohorts" / name)
    settings_file = write_text(out / "study" / "study.yaml", dump_settings(demo_settings(seed)))
    return run_study(settings_file, out / "run", show_progress=show_progress).report
