"""Where a network that was pretrained on a related source gains and loses: scores on 400 new infants after each stage.

    python benchmarks/new_infants.py [--cohorts 10] [--first 0] [--out new_infants.tsv] [--quick] [--report]

The cohorts of `controls.py` with a related source, and further infants: models are trained on 48 of 60 infants (the
first training fold) and tested on 400 others, so that the error of an AUC is small. Rows:

  zero-shot core, zero-shot network  the score of the source's core, or of the network after stage 1, without any label
  best head     the head after stage 1 that correlates most with the outcome of the 48 infants, with its sign
  network       the package's network: the average of `transferred` and as many networks from random weights, weighted
                by held-out rows; `network_scratch` is averaged with the same ones
  transferred   networks from the source's weights alone, whose connectome branch is trained at a tenth of the rate
  scratch alone the networks of `network_scratch` without those with which they are averaged
  start         `transferred` with its new head (a combination of all heads), before stage 3 (0 steps)
  full rate     `transferred` with all weights at the full rate; `frozen`: only the head is trained

Prints the mean AUC over cohorts, the mean differences to `network_scratch` and `network` with 95 % t intervals, and the
share of gains above 0 that a study of 60 infants would see, as counted by `controls.py`: over draws of 60 of the new
infants in five test parts. Design seeds are 9000 and above; a killed run resumes.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from controls import N_TARGET, cohorts_of, settings_of
from scipy import stats
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.evaluation.nested_cv import plan_folds
from connectome_tl.tasks import Task
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import fitted_model
from connectome_tl.training.interface import FittedModel
from connectome_tl.training.plans import RANDOM, FitPlan
from connectome_tl.training.schemes import StudyCohorts

N_NEW, N_DRAWS, N_PARTS = 400, 300, 5
CONTROL = "network_scratch"
COLUMNS = ("seed", "model", "auc", "share", "cpu")
Row = tuple[int, str, float, float, float]


def trained(plan: FitPlan, **changed: object) -> FitPlan:
    """The plan with other settings of its last stage."""
    assert plan.training is not None
    return replace(plan, training=plan.training.model_copy(update=changed))


def without_random(plan: FitPlan) -> FitPlan:
    """The plan without the average with networks from random weights."""
    return replace(plan, parents=tuple(parent for parent in plan.parents if parent[0] != RANDOM))


def run(seed: int) -> list[Row]:
    start = time.process_time()
    every = cohorts_of(seed, "related", n_target=N_TARGET + N_NEW)
    ids = every.target.ids
    cohorts = StudyCohorts({**every.roles, "target": every.target.take(ids[:N_TARGET])})
    settings, task = settings_of(seed), every.target.task("cognitive")
    planned = plan_folds(settings, cohorts, make_split_plan(cohorts.target, settings.splits), (task,))
    plans = {
        name: next(item.plans[0] for item in planned if item.model == name) for name in ("network", "core", CONTROL)
    }
    network = plans["network"]
    alone = without_random(network)
    plans["transferred"], plans["scratch alone"] = alone, without_random(plans[CONTROL])
    plans["start"] = trained(alone, steps=0)
    plans["full rate"] = trained(alone, part_learning_rates={})
    plans["frozen"] = trained(alone, freeze=("connectome", "fusion"))
    plans["zero-shot network"] = dict(network.parents)["stage"]
    plans["zero-shot core"] = dict(plans["core"].parents)["source"]
    results = fit(plans.values(), cohorts.by_name(), n_jobs=1)
    truth = every.target.targets[task.name].to_numpy(float)[N_TARGET:]
    known = np.isfinite(truth)
    scores = {}
    for name, plan in plans.items():
        model = fitted_model(results[plan.key], results.__getitem__)
        found = model.predict(every.target, ids[N_TARGET:])[known]
        if name.startswith("zero-shot"):  # a low score is an adverse outcome
            scores[name] = -found[:, [one.name for one in model.tasks].index("score")]
        else:
            scores[name] = logit(np.clip(found[:, 0], 1e-6, 1 - 1e-6))
    stage_1 = fitted_model(results[plans["zero-shot network"].key])
    scores["best head"] = best_head(stage_1, every.target, network.train.ids, ids[N_TARGET:], task)[known]
    cpu = (time.process_time() - start) / len(scores)
    shares = shares_above(truth[known] == 1, scores, np.random.default_rng([seed, 3]))
    return [
        (seed, name, float(roc_auc_score(truth[known], score)), shares[name], cpu) for name, score in scores.items()
    ]


def best_head(model: FittedModel, cohort: Cohort, train: Sequence[str], test: Sequence[str], task: Task) -> np.ndarray:
    """Predictions of test rows by the output that correlates most with the outcome of the training rows."""
    truth = cohort.targets[task.name].to_numpy(float)[cohort.positions(train)]
    known = np.isfinite(truth)
    outputs = model.predict(cohort, train)[known]
    r = np.array([np.corrcoef(column, truth[known])[0, 1] for column in outputs.T])
    best = int(np.abs(r).argmax())
    return np.sign(r[best]) * model.predict(cohort, test)[:, best]


def shares_above(positive: np.ndarray, scores: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, float]:
    """Share of draws of 60 infants whose AUC within five test parts is above that of the control."""
    values = np.array([*scores.values()])
    control = list(scores).index(CONTROL)
    n_positive = round(N_TARGET * float(positive.mean()))
    above = np.zeros(len(values))
    for _ in range(N_DRAWS):
        drawn = [
            rng.choice(np.flatnonzero(positive == kind), n, replace=False)
            for kind, n in ((True, n_positive), (False, N_TARGET - n_positive))
        ]
        won = np.zeros(len(values))
        for part in range(N_PARTS):
            one, other = (values[:, rows[part::N_PARTS]] for rows in drawn)
            gap = one[:, :, None] - other[:, None, :]
            won += ((gap > 0) + 0.5 * (gap == 0)).sum(axis=(1, 2))
        above += won > won[control]
    return dict(zip(scores, above / N_DRAWS, strict=True))


def difference(wide: pd.DataFrame, model: str, other: str) -> str:
    """Mean difference over cohorts with its 95 % t interval."""
    if model == other:
        return ""
    gain = (wide[model] - wide[other]).dropna()
    half = stats.t.ppf(0.975, max(len(gain) - 1, 1)) * gain.std(ddof=1) / np.sqrt(len(gain))
    return f"{gain.mean():+.3f} [{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}]"


def report(rows: list[Row]) -> None:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    wide = table.pivot_table(index="seed", columns="model", values="auc")
    shares = table.groupby("model")["share"].mean()
    print(f"{len(wide)} cohorts\n")
    print(f"| model | AUC | minus {CONTROL} | minus network | above 0 with 60 infants |")
    print("|---|---|---|---|---|")
    for model in dict.fromkeys(table["model"]):
        cells = [f"{wide[model].mean():.3f}", *(difference(wide, model, other) for other in (CONTROL, "network"))]
        cells.append("" if model == CONTROL else f"{shares[model]:.0%}")
        print(f"| {model} | {' | '.join(cells)} |")
    print(f"\nCPU time {table['cpu'].sum() / 60:.1f} min")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("new_infants.tsv"))
    parser.add_argument("--quick", action="store_true", help="two cohorts, not stored")
    parser.add_argument("--report", action="store_true", help="only print stored results")
    arguments = parser.parse_args()
    n, out = (2, None) if arguments.quick else (arguments.cohorts, arguments.out)
    rows: list[Row] = []
    if out is not None and out.is_file():
        with out.open() as stream:
            for seed, model, *values in csv.reader(stream, delimiter="\t"):
                rows.append((int(seed), model, *map(float, values)))  # type: ignore[arg-type]
    done = {row[0] for row in rows}
    for seed in range(arguments.first, arguments.first + n):
        if arguments.report or seed in done:
            continue
        made = run(seed)
        rows += made
        if out is not None:
            with out.open("a") as stream:
                csv.writer(stream, delimiter="\t").writerows(made)
        print(f"seed {seed}: {sum(row[-1] for row in made):.0f} CPU s", file=sys.stderr)
    report(rows)


if __name__ == "__main__":
    main()
