"""Coverage of the intervals for a network, and type I error of its permutation test.

For networks the true value is not known in closed form. Each study draws a cohort of 24 regions, fits the whole model
(core, network and their mixture) in 1 x 5 folds with one seed and no inner folds, and predicts a large test set with
each fold's fitted models. The mean of their scores over the folds is the true value of the study's own models, the
mean over studies that of the procedure. Stages 1 and 2 are left out. The permutation test refits the mixture under
permuted outcomes, with short fits, so that two hundred cohorts take an acceptable time.

With --state a stopped benchmark resumes. One thread.

    python benchmarks/network.py --state network.jsonl             # 300 cohorts in one cell, 100 in two
    python benchmarks/network.py --state network.jsonl --null 200  # and the permutation test
    python benchmarks/network.py --quick
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from coverage import WANTED, Cell, Population, Tally
from null import ALLOWED
from scipy import stats

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.evaluation.nested_cv import fold_predictions, plan_model
from connectome_tl.evaluation.permutation.labels import network_statistics
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations, permutation_results
from connectome_tl.evaluation.scores.metrics import binary_metrics
from connectome_tl.evaluation.scores.predictions import out_of_fold
from connectome_tl.settings.encoders import FlatEncoder
from connectome_tl.settings.metrics import Estimand
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.settings.training import Ensemble, FineTune, Stages, Training
from connectome_tl.tasks import Task
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import fitted_model
from connectome_tl.training.schemes import BY_NAME, StudyCohorts

N_REGIONS, N_TEST, N_PERMUTATIONS = 24, 1000, 19
UPPER = np.triu_indices(N_REGIONS, 1)
TASK = Task(name="class", kind="binary", column="class")
MODELS = ("full", "network")
METRICS = ("auc", "sensitivity", "specificity", "brier", "balanced_accuracy")
EDGES = {"n_features": UPPER[0].size, "n_signal": 40, "n_factors": 3, "repeats": 1}
CELLS = ((Cell(33, 16, 0.99, **EDGES), 300), (Cell(33, 7, 0.99, **EDGES), 100), (Cell(60, 30, 0.9, **EDGES), 100))
NULL = Cell(33, 16, 0.5, **EDGES)
Numbers = dict[str, list[float]]


class Kept:
    """Results of each study, in a file from which a stopped benchmark resumes."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.found = path, {}
        if path is not None and path.is_file():
            self.found = dict(json.loads(line) for line in path.read_text("utf-8").splitlines() if line.endswith("]"))

    def of(self, key: str, make: Callable[[], Numbers]) -> Numbers:
        if key not in self.found:
            self.found[key] = make()
            if self.path is not None:
                with open(self.path, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps([key, self.found[key]]) + "\n")
        return self.found[key]


@dataclass(frozen=True)
class Drawn:
    """Subjects of one study: (n, n_features) edges and (n,) classes."""

    edges: np.ndarray
    y: np.ndarray

    def cohort(self) -> Cohort:
        n = len(self.y)
        weights = np.zeros((n, 1, N_REGIONS, N_REGIONS), dtype=np.float32)
        weights[:, 0, UPPER[0], UPPER[1]] = self.edges
        ids = tuple(f"s{k:04d}" for k in range(n))
        nothing = np.full(n, "", dtype=object)
        return Cohort(
            name="target",
            ids=ids,
            regions=tuple(f"r{k:02d}" for k in range(N_REGIONS)),
            atlas="simulated",
            measures=("count",),
            weights=weights + weights.swapaxes(2, 3),
            node_mask=np.ones((n, N_REGIONS), dtype=bool),
            covariates=pd.DataFrame(index=list(ids)),
            covariate_specs=(),
            tasks=(TASK,),
            targets=pd.DataFrame({TASK.name: self.y}, index=list(ids)),
            status=pd.DataFrame({TASK.name: "observed"}, index=list(ids)),
            age=np.full(n, np.nan),
            age_unit="weeks",
            site=nothing,
            family=nothing,
            simulated=True,
        )


def draw(rng: np.random.Generator, cell: Cell, n: int, n_positive: int) -> Drawn:
    population = Population(cell)
    y = (np.arange(n) < n_positive) * 1.0
    return Drawn(5.0 + population.draw(rng, n) + np.outer(y - 0.5, population.beta), y)


def settings(**stage: object) -> StudySettings:
    return StudySettings(
        target=CohortUse(cohort="target/cohort.yaml", tasks=(TASK.name,)),
        stages=Stages(pretrain=None, adapt=None, finetune=FineTune(**stage)),
        splits=SplitSettings(repeats=1, outer=5, stratum=TASK.name),
        controls=(),
        baselines=("prevalence",),
        n_seeds=1,
        n_jobs=1,
    )


def study(cell: Cell, seed: int) -> Numbers:
    """By model and metric: estimate, both intervals, and the truth of the study's own models."""
    rng = np.random.default_rng([seed, cell.n, cell.n_positive])
    cohorts = StudyCohorts({"target": draw(rng, cell, cell.n, cell.n_positive).cohort()})
    test = draw(rng, cell, N_TEST, N_TEST // 2)
    other, asked = test.cohort(), settings()
    splits = make_split_plan(cohorts.target, asked.splits)
    planned = {name: plan_model(asked, cohorts, BY_NAME[name], splits, [TASK]) for name in MODELS}
    plans = [plan for items in planned.values() for item in items for plan in item.plans]
    results = fit(plans, cohorts.by_name(), n_jobs=1)
    every = {key: result for plan in plans for key, result in results.items() if plan}
    found: Numbers = {}
    for name, items in planned.items():
        table = pd.concat([fold_predictions(item, every, cohorts, 0.5) for item in items])
        rows = out_of_fold(table, TASK, name)
        made: dict[Estimand, dict] = {e: binary_metrics(rows, None, e) for e in ("procedure", "fitted")}
        truth = np.mean(
            [
                worth(fitted_model(every[plan.key], every.__getitem__).predict(other, other.ids)[:, 0], test.y, cell)
                for item in items
                for plan in item.plans
            ],
            axis=0,
        )
        for metric, true in zip(METRICS, truth, strict=True):
            found[f"{name} {metric}"] = [*made["procedure"][metric], *made["fitted"][metric][1:], float(true)]
    return found


def worth(risk: np.ndarray, y: np.ndarray, cell: Cell) -> np.ndarray:
    """AUC, sensitivity, specificity, Brier, balanced accuracy on the test set, classes weighted as in the cohort."""
    positive, negative = risk[y == 1], risk[y == 0]
    share = cell.n_positive / cell.n
    sensitivity, specificity = float((positive >= 0.5).mean()), float((negative < 0.5).mean())
    brier = share * float(((positive - 1) ** 2).mean()) + (1 - share) * float((negative**2).mean())
    auc = stats.mannwhitneyu(positive, negative).statistic / (positive.size * negative.size)
    return np.array([auc, sensitivity, specificity, brier, (sensitivity + specificity) / 2])


def null_study(seed: int) -> Numbers:
    """p value of the permutation test of the whole model with independent edges and outcome."""
    rng = np.random.default_rng([seed, 9])
    cohorts = StudyCohorts({"target": draw(rng, NULL, NULL.n, NULL.n_positive).cohort()})
    short = settings(training=Training(steps=30), ensemble=Ensemble(networks=2, checkpoints=(0.0, 0.5)))
    short = short.model_copy(update={"model": ModelSettings(encoder=FlatEncoder(widths=(16,)))})
    splits = make_split_plan(cohorts.target, short.splits)
    moves = exchangeable_permutations(cohorts.target.ids, N_PERMUTATIONS, seed)
    statistics = network_statistics(short, cohorts, splits, [TASK], moves)
    (result,) = permutation_results(statistics, [TASK], "full", "")
    return {"p": [result.p_value]}


def coverage_rows(cell: Cell, found: Sequence[Numbers]) -> list[str]:
    lines = []
    enough = stats.binom.ppf(0.01, len(found), WANTED) / len(found)
    for what in found[0] if found else ():
        tally = Tally()
        for value, low, high, fitted_low, fitted_high, true in (one[what] for one in found):
            tally.estimate.append(value)
            tally.own_truth.append(true)
            tally.share.append(0.0)
            tally.bounds.setdefault("procedure", []).append((low, high))
            tally.bounds.setdefault("fitted", []).append((fitted_low, fitted_high))
        covered = tally.coverage("procedure")
        model, metric = what.split()
        lines.append(
            f"| {cell.n}, {cell.n_positive} positive | {cell.signal:g} | {len(found)} | {model} | {metric} | "
            f"{np.mean(tally.own_truth):.3f} | {covered:.3f}{' (below)' if covered < enough else ''} | "
            f"{tally.width('procedure'):.2f} | {tally.ideal:.2f} | {tally.width('procedure') / tally.ideal:.1f} | "
            f"{tally.coverage('fitted'):.3f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, help="file of finished studies; a stopped benchmark resumes from it")
    parser.add_argument("--first", type=int, default=40_000, help="seed of the first cohort; the others count up")
    parser.add_argument("--share", type=float, default=1.0, help="of the cohorts of each cell")
    parser.add_argument("--null", type=int, default=0, help="cohorts of the permutation test")
    parser.add_argument("--done", action="store_true", help="only print the results in --state")
    parser.add_argument("--quick", action="store_true", help="one cohort of one cell, one of the permutation test")
    given = parser.parse_args()
    if given.quick:
        given.share, given.null = 0.0, 1
    warnings.simplefilter("ignore")
    begun, kept = time.process_time(), Kept(given.state)

    cells = CELLS[:1] if given.quick else CELLS
    jobs: list[tuple[float, str, Callable[[], Numbers]]] = []  # alternating between cells, in case the run is stopped
    for cell, asked in cells:
        n = max(1, round(given.share * asked))
        jobs += [(k / n, f"{cell.name} {given.first + k}", partial(study, cell, given.first + k)) for k in range(n)]
    n = given.null
    jobs += [(k / n, f"null {given.first + k}", partial(null_study, given.first + k)) for k in range(n)]
    if not given.done:
        for _, key, make in sorted(jobs, key=lambda job: job[0]):
            kept.of(key, make)
    known = {key: kept.found[key] for _, key, _ in jobs if key in kept.found}
    print(
        "| n | signal | cohorts | model | metric | truth | covered, procedure | width | ideal | ratio | "
        "covered, fitted |"
    )
    print("|" + "---|" * 11)
    for cell, _ in cells:
        print(*coverage_rows(cell, [one for key, one in known.items() if key.startswith(f"{cell.name} ")]), sep="\n")
    p = np.array([one["p"][0] for key, one in known.items() if key.startswith("null ")])
    if p.size:
        most = int(stats.binom.ppf(0.99, p.size, ALLOWED))
        print(
            f"\npermutation test of the whole model, n = {NULL.n}, {N_PERMUTATIONS} permutations: rejected "
            f"{int((p <= 0.05).sum())} of {p.size} true nulls at 0.05 (at most {most} for a share of {ALLOWED:g})"
        )
    print(f"\n{(time.process_time() - begun) / 60:.1f} CPU minutes, one thread")


if __name__ == "__main__":
    main()
