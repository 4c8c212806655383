"""Detection rate and false alarms of the leakage guard, for procedures and run folders.

    python benchmarks/detector.py [--seed 1000] [--leaky 3] [--only NAME] [--procedures 60] [--runs 60] [--ridge 100]
                                  [--state detector.jsonl] [--quick]

Procedures are audited by their behaviour (`audit_procedure`), run folders by `connectome-tl audit`. The leaky ones, in
tests/audit, have metadata like those of honest ones. Leaks that leave a consistent folder (a run chosen among several
by its test scores, infants excluded after inspecting the results, an outcome among the covariates) count as detected if
the audit warns of them. Honest runs of ridge alone have 33 infants and 24 regions: unrelated subjects, two scanners
whose counts differ by a factor of five, twins, low-rank matrices, tiny values, rescans declared as family. With --state
a stopped benchmark resumes. One thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from connectome_tl.audit.procedure import audit_procedure
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.settings.features import HarmoniseSettings
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.study import Confounds, SplitSettings
from connectome_tl.workflows.audit.audit import audit_run
from tests.audit.leaky_folders import LEAKY_FOLDERS
from tests.audit.leaky_procedures import HONEST, KNOWN, LEAKY, study
from tests.audit.leaky_runs import (
    LEAKY_RUNS,
    RIDGE_ONLY,
    a_table_edited,
    caught,
    copies_times_1_2,
    dense_cohorts,
    honest_run,
)
from tests.small_study import FLAT, small_cohorts

# Variants of honest studies; each run uses the next.
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("as it comes", {}),
    ("flat encoder", {"model": FLAT}),
    ("confounds", {"confounds": Confounds(columns=("age",))}),
    ("ComBat", {"harmonise": HarmoniseSettings(method="combat")}),
    ("inner folds", {"splits": SplitSettings(repeats=1, outer=2, inner=2, stratum="cognitive"), "controls": ()}),
    ("infants in the pool", {"infants in the pool": True}),
)


NEXT_SEED = 100_000
QUICK_RUNS = (a_table_edited, copies_times_1_2, LEAKY_FOLDERS[0])  # for --quick: each needs one short run


class Kept:
    """Results for each variant and seed, in a file from which a stopped benchmark resumes."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.found = path, {}
        if path is not None and path.is_file():
            self.found = dict(json.loads(line) for line in path.read_text("utf-8").splitlines())

    def of(self, key: str, make: Callable[[], list[str]]) -> list[str]:
        if key not in self.found:
            self.found[key] = make()
            if self.path is not None:
                with open(self.path, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps([key, self.found[key]]) + "\n")
        return self.found[key]


def accusations(findings: list[Finding]) -> list[str]:
    return [finding.check for finding in findings if finding.status == "failed"]


def leaky_procedure(procedure: Any, seed: int) -> list[str]:
    rows, folds = study(seed)
    KNOWN.clear()
    KNOWN.update({name: 3.0 * y for name, y in zip(rows.ids, rows.y, strict=True)})
    found = accusations(audit_procedure(procedure, rows, folds, n_null=6))
    KNOWN.clear()
    return found


def leaky_run(variant: Callable[[Path, int], None], seed: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        variant(Path(folder), seed)
        return caught(audit_run(Path(folder) / "run"), variant)


def honest_procedure(procedure: Any, seed: int, signal: float) -> list[str]:
    rows, folds = study(seed, signal=signal)
    return accusations(audit_procedure(procedure, rows, folds, seed=seed, n_null=5))


def honest_study(seed: int, effect: float, settings: dict[str, Any]) -> list[str]:
    """Failed checks of a correct run; of the cohort of another seed if an outcome of this one cannot be learned."""
    try:
        return honest_small_study(seed, effect, settings)
    except DataError as problem:
        if "cannot be learned" not in str(problem):
            raise
        return honest_study(seed + NEXT_SEED, effect, settings)


def honest_small_study(seed: int, effect: float, settings: dict[str, Any]) -> list[str]:
    cohorts, settings = small_cohorts(seed=seed, effect=effect), dict(settings)
    if settings.pop("infants in the pool", False):
        cohorts = cohorts.with_role("pool", replace(cohorts.target, name="pool"))
    with tempfile.TemporaryDirectory() as folder:
        honest_run(Path(folder), seed, cohorts, **settings)
        return caught(audit_run(Path(folder) / "run"))


def strangers(cohort: Cohort, _: np.random.Generator) -> Cohort:
    return cohort


def two_scanners(cohort: Cohort, rng: np.random.Generator) -> Cohort:
    """Counts of one scanner are five times those of the other, and each edge has its own scanner effect."""
    second = np.arange(cohort.n_subjects) % 2
    effect = np.triu(rng.normal(0, 0.4, cohort.weights.shape[1:]), 1)
    factor = np.where(second[:, None, None, None] == 1, 5 * np.exp(effect + effect.swapaxes(-1, -2)), 1.0)
    return replace(cohort, weights=(cohort.weights * factor).astype(np.float32))


def two_declared_scanners(cohort: Cohort, rng: np.random.Generator) -> Cohort:
    site = np.array(["A", "B"], dtype=object)[np.arange(cohort.n_subjects) % 2]
    return replace(two_scanners(cohort, rng), site=site)


def twins(cohort: Cohort, rng: np.random.Generator) -> Cohort:
    """Eight pairs who share half of their deviations, declared as families."""
    return _pairs(cohort, rng, 0.5)


def rescans(cohort: Cohort, rng: np.random.Generator) -> Cohort:
    """Eight infants scanned twice, declared as families."""
    return _pairs(cohort, rng, 0.9)


def low_rank(cohort: Cohort, rng: np.random.Generator) -> Cohort:
    """Every matrix of rank 3."""
    u = rng.normal(size=(cohort.n_subjects, cohort.n_regions, 3)) + 2 * rng.random((cohort.n_regions, 3))
    weights = np.abs(u @ u.swapaxes(1, 2)) * (1 - np.eye(cohort.n_regions))
    return replace(cohort, weights=weights[:, None].astype(np.float32))


def few_factors(cohort: Cohort, rng: np.random.Generator) -> Cohort:
    """Subjects differ in two parameters only."""
    factors = np.triu(rng.normal(size=(2, cohort.n_regions, cohort.n_regions)), 1)
    log = np.einsum("sk,kij->sij", rng.normal(size=(cohort.n_subjects, 2)), factors + factors.swapaxes(1, 2))
    weights = np.exp(0.5 * log) * (1 - np.eye(cohort.n_regions))
    return replace(cohort, weights=weights[:, None].astype(np.float32))


def tiny(cohort: Cohort, _: np.random.Generator) -> Cohort:
    return replace(cohort, weights=(cohort.weights * 1e-8).astype(np.float32))


def _pairs(cohort: Cohort, rng: np.random.Generator, shared: float) -> Cohort:
    log = np.log(np.where(cohort.weights > 0, cohort.weights, 1.0))
    mean, spread = log.mean(axis=0), log.std(axis=0)
    noise = np.triu(rng.standard_normal(log[:8].shape), 1)
    noise += noise.swapaxes(-1, -2)
    log[1:16:2] = mean + shared * (log[0:16:2] - mean) + np.sqrt(1 - shared**2) * spread * noise
    family = np.array(cohort.family, dtype=object)
    family[:16] = np.repeat([f"pair{k}" for k in range(8)], 2)
    return replace(cohort, weights=np.where(cohort.weights > 0, np.exp(log), 0.0).astype(np.float32), family=family)


RIDGE_KINDS = (strangers, two_scanners, two_declared_scanners, twins, rescans, low_rank, few_factors, tiny)


def ridge_study(kind: Callable[[Cohort, np.random.Generator], Cohort], seed: int) -> list[str]:
    cohorts = dense_cohorts(seed)
    cohorts = cohorts.with_role("target", kind(cohorts.target, np.random.default_rng([seed, 8])))
    with tempfile.TemporaryDirectory() as folder:
        honest_run(Path(folder), seed, cohorts, **RIDGE_ONLY)
        return caught(audit_run(Path(folder) / "run"))


def leaky_table(
    kept: Kept, seeds: range, procedures: Sequence[Any], runs: Sequence[Callable[[Path, int], None]]
) -> None:
    print(f"{'leaky':12}{'variant':38}{'caught':8}by", flush=True)
    hits = tried = 0
    for what, variants, make in (("procedure", procedures, leaky_procedure), ("run folder", runs, leaky_run)):
        for variant in variants:
            name = variant.__name__
            found = [kept.of(f"{what} {name} {seed}", lambda v=variant, s=seed, m=make: m(v, s)) for seed in seeds]
            by = ", ".join(dict.fromkeys(check for one in found for check in one))
            hits, tried = hits + sum(map(bool, found)), tried + len(seeds)
            print(f"{what:12}{name:38}{sum(map(bool, found))}/{len(seeds):<6}{by}", flush=True)
    print(f"\ndetected {hits} of {tried} leaky ones\n", flush=True)


def honest_table(kept: Kept, first: int, n_procedures: int, n_runs: int, n_ridge: int) -> None:
    print(f"{'honest':12}{'kind':38}accused", flush=True)
    for procedure in HONEST:
        n, name = n_procedures // len(HONEST), procedure.__name__
        found = []
        for k in range(n):
            make = lambda p=procedure, k=k: honest_procedure(p, first + k, 0.0 if k % 2 else 0.6)  # noqa: E731
            found.append(kept.of(f"honest {name} {first + k}", make))
        print(f"{'procedure':12}{name:38}{sum(map(bool, found))} of {n}", flush=True)
    accused = []
    for k in range(n_runs):
        name, settings = KINDS[k % len(KINDS)]
        make = lambda k=k, s=settings: honest_study(first + k, float(k % 2), s)  # noqa: E731
        found = kept.of(f"honest run {name} {first + k}", make)
        accused += [f"{name}, seed {first + k}: {', '.join(found)}"] if found else []
    print(f"{'run folder':12}{'all kinds':38}{len(accused)} of {n_runs}", *accused, sep="\n  ", flush=True)
    accused = []
    for k in range(n_ridge):
        kind = RIDGE_KINDS[k % len(RIDGE_KINDS)]
        found = kept.of(f"ridge {kind.__name__} {first + k}", lambda v=kind, k=k: ridge_study(v, first + k))
        accused += [f"{kind.__name__}, seed {first + k}: {', '.join(found)}"] if found else []
    print(f"{'ridge only':12}{'33 x 24 regions, all kinds':38}{len(accused)} of {n_ridge}", *accused, sep="\n  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1000, help="the first of the seeds")
    parser.add_argument("--leaky", type=int, default=3, help="seeds per leaky variant")
    parser.add_argument("--procedures", type=int, default=60, help="honest procedures")
    parser.add_argument("--runs", type=int, default=60, help="honest run folders of all three stages")
    parser.add_argument("--ridge", type=int, default=100, help="honest run folders of ridge alone")
    parser.add_argument("--only", default="", help="leaky variants whose names contain this")
    parser.add_argument("--state", type=Path, help="file of finished parts; a stopped benchmark resumes from it")
    parser.add_argument("--quick", action="store_true", help="one seed of a few kinds")
    asked = parser.parse_args()
    if asked.quick:
        asked.leaky, asked.procedures, asked.runs, asked.ridge = 1, len(HONEST), 1, 1
    warnings.simplefilter("ignore")
    begun, kept = time.process_time(), Kept(asked.state)
    runs = [run for run in (QUICK_RUNS if asked.quick else (*LEAKY_RUNS, *LEAKY_FOLDERS)) if asked.only in run.__name__]
    procedures = [one for one in LEAKY if asked.only in one.__name__]
    leaky_table(kept, range(asked.seed, asked.seed + asked.leaky), procedures, runs)
    honest_table(kept, asked.seed, asked.procedures, asked.runs, asked.ridge)
    print(f"\n{time.process_time() - begun:.0f} s of CPU time")


if __name__ == "__main__":
    main()
