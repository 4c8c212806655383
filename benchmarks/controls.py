"""Fairness of controls: gain of stage 1 over the same model without it, for an unrelated and a related source.

    python benchmarks/controls.py [--cohorts 100] [--first 0] [--out controls.tsv] [--quick]

Simulated studies of 60 infants, 24 noisy regions and 400 older subjects, without covariates; 1 x 5 folds. Under
`noise` the outcomes of the older subjects are permuted, so that stage 1 cannot help; under `related` the score of the
older subjects depends on the same edges as that of the infants, with another name and the opposite sign. `zero-shot`
is the score of the source's core without any label of an infant: its gains over `core_scratch` and `network_scratch`
are the benefit that transfer could reach.

Prints, for `network` against `network_scratch`, `full` against `scratch` and `core` against `core_scratch`, the mean
difference of AUC over cohorts with its 95 % t interval, and the number of cohorts with a difference above 0. The bars:
under `noise` a mean within 0.02 of 0 and an interval within 0.04; under `related` a gain in at least 80 % of the
cohorts. Design seeds are 9000 and above; a killed run resumes.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.evaluation.nested_cv import cross_validate, plan_folds
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.tasks import Task
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import StudyCohorts

PAIRS = (
    ("network", "network_scratch"),
    ("full", "scratch"),
    ("core", "core_scratch"),
    ("zero-shot", "core_scratch"),
    ("zero-shot", "network_scratch"),
)
N_TARGET, N_SOURCE, N_REGIONS, EFFECT, EDGE_NOISE = 60, 400, 24, 1.2, 1.2
COLUMNS = ("scenario", "seed", "model", "auc", "cpu")


def cohorts_of(seed: int, scenario: str, n_target: int = N_TARGET) -> StudyCohorts:
    """The study's cohorts, restricted to the regions with most of the effect and others at random."""
    study = simulate_study(seed=seed, n_source=N_SOURCE, n_pool=4, n_target=n_target, effect=EFFECT)
    rng = np.random.default_rng([seed, 1])
    strong = np.argsort(-np.abs(study.pattern).sum(axis=0), kind="stable")
    names = [study.target.regions[i] for i in (*strong[:8], *rng.permutation(strong[8:])[: N_REGIONS - 8])]
    draw = np.random.default_rng([seed, 2])
    target = replace(noisy(cut(study.target, names), draw), covariate_specs=())
    source = noisy(cut(study.source.with_regions(study.target.regions), names), draw)
    if scenario == "noise":
        moved = source.targets.iloc[rng.permutation(source.n_subjects)].set_axis(list(source.ids), axis=0)
        source = replace(source, targets=moved)
    return StudyCohorts({"target": target, "source": source})


def cut(cohort: Cohort, names: list[str]) -> Cohort:
    at = [cohort.regions.index(name) for name in names]
    weights = np.ascontiguousarray(cohort.weights[:, :, at][:, :, :, at])
    return replace(cohort, regions=tuple(names), weights=weights, node_mask=cohort.node_mask[:, at])


def noisy(cohort: Cohort, rng: np.random.Generator) -> Cohort:
    """The same with noise on the existing edges."""
    noise = np.triu(rng.normal(0, EDGE_NOISE, cohort.weights.shape), 1)
    moved = cohort.weights + (noise + np.swapaxes(noise, 2, 3)) * (cohort.weights != 0)
    return replace(cohort, weights=moved.astype(np.float32))


def settings_of(seed: int) -> StudySettings:
    return StudySettings(
        source=CohortUse(cohort="older", tasks=("score", "age", "sex")),
        target=CohortUse(cohort="target", tasks=("cognitive",)),
        splits=SplitSettings(repeats=1, outer=5, seed=seed),
        controls=("scratch", "network_scratch", "core_scratch"),
        n_jobs=1,
        seed=seed,
    )


def run(seed: int, scenario: str) -> list[tuple[str, int, str, float, float]]:
    start = time.process_time()
    cohorts, settings = cohorts_of(seed, scenario), settings_of(seed)
    splits = make_split_plan(cohorts.target, settings.splits)
    task = cohorts.target.task("cognitive")
    found = [cross_validate(settings, cohorts, splits).predictions, zero_shot(cohorts, settings, splits, task)]
    cpu = time.process_time() - start
    return [(scenario, seed, s.model, s.value, cpu) for s in scores(pd.concat(found), [task]) if s.metric == "auc"]


def zero_shot(cohorts: StudyCohorts, settings: StudySettings, splits: SplitPlan, task: Task) -> pd.DataFrame:
    """Predictions of the older subjects' score with the sign reversed, since a low score is an adverse outcome."""
    planned = [item for item in plan_folds(settings, cohorts, splits, (task,)) if item.model == "core"]
    plan = next(parent for item in planned for made in item.plans for _, parent in made.parents)
    source = fit([plan], cohorts.by_name(), n_jobs=1)[plan.key]
    model = CoreModel.of(source.arrays, source.plain)
    place = [one.name for one in model.tasks].index("score")
    target, tables = cohorts.target, []
    for repeat, number, fold in splits.folds():
        truth = target.targets[task.name].to_numpy(float)[target.positions(fold.test)]
        risk = expit((100 - model.predict(target, fold.test)[:, place]) / 15)  # the scale of the simulated score
        tables.append(prediction_rows(task, "zero-shot", repeat, number, fold.test, truth, risk, settings.threshold))
    return pd.concat(tables, ignore_index=True)


def report(table: dict[tuple[str, int], dict[str, float]], cpu: float) -> None:
    for scenario in ("noise", "related"):
        rows = [models for (kind, _), models in table.items() if kind == scenario]
        if len(rows) < 2:
            continue
        print(f"{scenario}: {len(rows)} cohorts")
        for model, control in PAIRS:
            gain = np.array([models[model] - models[control] for models in rows])
            half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
            level = np.mean([models[control] for models in rows])
            print(
                f"  {model:8s} AUC {level + gain.mean():.3f}, {control:15s} {level:.3f}, gain {gain.mean():+.3f} "
                f"[{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}], above 0 in {np.mean(gain > 0):.0%}"
            )
    print(f"CPU time {cpu / 60:.1f} min")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("controls.tsv"))
    parser.add_argument("--quick", action="store_true", help="two cohorts of each kind, not stored")
    arguments = parser.parse_args()
    n, out = (2, None) if arguments.quick else (arguments.cohorts, arguments.out)
    table: dict[tuple[str, int], dict[str, float]] = {}
    spent: dict[tuple[str, int], float] = {}
    if out is not None and out.is_file():
        with out.open() as stream:
            for row in csv.DictReader(stream, fieldnames=COLUMNS, delimiter="\t"):
                key = (row["scenario"], int(row["seed"]))
                table.setdefault(key, {})[row["model"]] = float(row["auc"])
                spent[key] = float(row["cpu"])
    for seed in range(arguments.first, arguments.first + n):
        for scenario in ("noise", "related"):
            if (scenario, seed) in table:
                continue
            rows = run(seed, scenario)
            for row in rows:
                table.setdefault(row[:2], {})[row[2]] = row[3]
            spent[scenario, seed] = rows[0][4]
            if out is not None:
                with out.open("a") as stream:
                    csv.writer(stream, delimiter="\t").writerows(rows)
            print(f"\r{len(table)} of {2 * n}", end="", file=sys.stderr)
    print(file=sys.stderr)
    report(table, sum(spent.values()))


if __name__ == "__main__":
    main()
