"""Does the leakage guard catch every leak, and whom does it accuse wrongly? Procedures and run folders.

    python benchmarks/detector.py [--seed 1000] [--runs 60] [--leaky 3] [--procedures 60]

Procedures are audited by their behaviour (`audit_procedure`), run folders by `connectome-tl audit`. The leaky
ones, in tests/audit, have metadata that look honest. A run chosen among several by its test scores has nothing
wrong in its folder: there the ledger's warning counts as caught. One thread; about five minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from connectome_tl.audit.procedure import audit_procedure
from connectome_tl.settings.audit import AuditRecord, Finding
from connectome_tl.settings.features import HarmoniseSettings
from connectome_tl.settings.study import Confounds, SplitSettings
from connectome_tl.workflows.audit import audit_run
from tests.audit.leaky_procedures import HONEST, KNOWN, LEAKY, study
from tests.audit.leaky_runs import LEAKY_RUNS, honest_run, the_best_of_several_runs
from tests.small_study import FLAT, small_cohorts

LEDGER = "ledger of test scores"
# What honest studies differ in: each run takes the next.
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("as it comes", {}),
    ("flat encoder", {"model": FLAT}),
    ("confounds", {"confounds": Confounds(columns=("age",))}),
    ("ComBat", {"harmonise": HarmoniseSettings(method="combat")}),
    ("inner folds", {"splits": SplitSettings(repeats=1, outer=2, inner=2, stratum="cognitive"), "controls": ()}),
    ("infants in the pool", {"infants in the pool": True}),
)


def accusations(findings: tuple[Finding, ...] | list[Finding]) -> list[str]:
    return [finding.check for finding in findings if finding.status == "failed"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1000, help="the first of the seeds")
    parser.add_argument("--runs", type=int, default=60, help="honest run folders")
    parser.add_argument("--procedures", type=int, default=60, help="honest procedures")
    parser.add_argument("--leaky", type=int, default=3, help="seeds per leaky variant")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    begun = time.process_time()
    seeds = range(asked.seed, asked.seed + asked.leaky)
    print(f"{'leaky':12}{'variant':34}{'caught':8}by", flush=True)
    caught = tried = 0
    for procedure in LEAKY:
        by, hits = [], 0
        for seed in seeds:
            rows, folds = study(seed)
            KNOWN.clear()
            KNOWN.update({name: 3.0 * y for name, y in zip(rows.ids, rows.y, strict=True)})
            found = accusations(audit_procedure(procedure, rows, folds, n_null=6))
            by += found
            hits += bool(found)
        caught, tried = caught + hits, tried + len(seeds)
        print(
            f"{'procedure':12}{procedure.__name__:34}{hits}/{len(seeds):<6}{', '.join(dict.fromkeys(by))}", flush=True
        )
    KNOWN.clear()
    for variant in LEAKY_RUNS:
        by, hits = [], 0
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder)
                variant(home, seed)
                record: AuditRecord = audit_run(home / "run", base=home / "cohorts")
            found = accusations(record.findings)
            if variant is the_best_of_several_runs:
                found += [f"{LEDGER} (warning)" for f in record.findings if f.check == LEDGER and f.status == "warning"]
            by += found
            hits += bool(found)
        caught, tried = caught + hits, tried + len(seeds)
        print(f"{'run folder':12}{variant.__name__:34}{hits}/{len(seeds):<6}{', '.join(dict.fromkeys(by))}", flush=True)
    print(f"\ncaught {caught} of {tried} leaky ones\n\n{'honest':12}{'kind':34}accused", flush=True)
    for procedure in HONEST:
        n = asked.procedures // len(HONEST)
        wrong = 0
        for k in range(n):
            rows, folds = study(asked.seed + k, signal=0.0 if k % 2 else 0.6)
            wrong += bool(accusations(audit_procedure(procedure, rows, folds, seed=asked.seed + k, n_null=5)))
        print(f"{'procedure':12}{procedure.__name__:34}{wrong} of {n}", flush=True)
    accused: list[str] = []
    for k in range(asked.runs):
        name, settings = KINDS[k % len(KINDS)]
        settings = dict(settings)
        cohorts = small_cohorts(seed=asked.seed + k, effect=float(k % 2))
        if settings.pop("infants in the pool", False):
            cohorts = replace(cohorts, pool=replace(cohorts.target, name="pool"))
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            honest_run(home, asked.seed + k, cohorts, **settings)
            found = accusations(audit_run(home / "run", base=home / "cohorts").findings)
        accused += [f"{name}, seed {asked.seed + k}: {', '.join(found)}"] if found else []
    print(f"{'run folder':12}{'all kinds':34}{len(accused)} of {asked.runs}", *accused, sep="\n  ")
    print(f"\n{time.process_time() - begun:.0f} s of CPU time")


if __name__ == "__main__":
    main()
