"""CPU time of each step of a study, and of the statistics relative to the fits.

    python benchmarks/cost.py [--subjects 33] [--regions 90 231] [--folds 5] [--tasks 6]
                              [--permutations 0] [--quick]

Infants with six outcomes, 60 older subjects and 40 infants without outcomes; one repeat (the bootstrap and the tests
use the first repeat only, so that more repeats need more fits only), the default models, controls, baselines and 100
linear refits. The printed share is the CPU time of all steps after the fits, including scores and report, relative to
that of the fits. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.report.render import render_report
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.fitting import fit_study
from connectome_tl.workflows.study.judge import judge

FITS = "fitting models"


class Clock(Steps):
    """Records the CPU time of each step."""

    def __init__(self) -> None:
        super().__init__(shown=False)
        self.spent: dict[str, float] = {}

    @contextmanager
    def counted(self, name: str) -> Iterator[Callable[[int, int], None]]:
        start = time.process_time()
        with super().counted(name) as update:
            yield update
        self.spent[name] = self.spent.get(name, 0.0) + time.process_time() - start


def with_regions(cohort: Cohort, n: int, seed: int) -> Cohort:
    """The cohort with dense random matrices of n regions; covariates and outcomes are unchanged."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.lognormal(size=(cohort.n_subjects, 1, n, n)), 1)
    weights = np.log1p(upper + upper.swapaxes(2, 3)).astype(np.float32)
    return replace(
        cohort,
        regions=tuple(f"region {k}" for k in range(n)),
        weights=weights,
        node_mask=np.ones((cohort.n_subjects, n), dtype=bool),
        region_features=None,
        region_feature_names=(),
    )


def measured(n_subjects: int, n_regions: int, permutations: int, n_folds: int, n_tasks: int) -> None:
    made = simulate_study(seed=1, n_source=60, n_pool=40, n_target=n_subjects)
    roles = {"target": made.target, "source": made.source, "pool": made.pool}
    cohorts = StudyCohorts({role: with_regions(one, n_regions, k) for k, (role, one) in enumerate(roles.items())})
    settings = StudySettings(
        source=CohortUse(cohort="source", tasks=("age", "sex")),
        pool=CohortUse(cohort="pool"),
        target=CohortUse(cohort="target", tasks=tuple(task.name for task in made.target.tasks[:n_tasks])),
        splits=SplitSettings(repeats=1, outer=n_folds),
        permutations=permutations,
        n_jobs=1,
    )
    tasks, splits = tasks_of(settings, cohorts), make_split_plan(cohorts.target, settings.splits)
    with tempfile.TemporaryDirectory() as folder, Clock() as clock:
        found = fit_study(Path(folder), settings, cohorts, splits, tasks, clock)
        with clock.step("scores, comparisons, verdicts"):
            record = judge(settings, cohorts, splits, found).record
        with clock.step("report"):
            render_report(record)
    fits = clock.spent[FITS]
    size = f"{n_subjects} infants, {n_regions} regions, {len(tasks)} outcomes"
    print(f"\n{size}, {permutations} permutations of the core, {n_folds} folds\n")
    print("| step | s of CPU time | share of the fits |\n|---|---|---|")
    for name, spent in clock.spent.items():
        print(f"| {name} | {spent:.1f} | {spent / fits:.0%} |")
    rest = sum(clock.spent.values()) - fits
    print(f"| all after the fits | {rest:.1f} | {rest / fits:.0%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=33)
    parser.add_argument("--regions", type=int, nargs="+", default=[90, 231])
    parser.add_argument("--permutations", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=6, help="the first of the six outcomes")
    parser.add_argument("--quick", action="store_true", help="two folds, 24 regions")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    start = time.process_time()
    for n in [24] if asked.quick else asked.regions:
        measured(asked.subjects, n, asked.permutations, 2 if asked.quick else asked.folds, asked.tasks)
    print(f"\n{time.process_time() - start:.0f} s of CPU time")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
