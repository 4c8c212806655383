"""Coverage of the interval of a paired difference of two procedures.

Each study draws a cohort with clinical covariates and edges, cross-validates two models on the same folds, and
computes the interval with `evaluation.compare`. The true difference is known in closed form (see coverage.py). The
error rate of the verdict for equally good procedures is printed as well.

    python benchmarks/comparisons.py            # confirmation cells, the table of docs/coverage.md
    python benchmarks/comparisons.py --tune     # other cells, other seeds: required variance factors
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from coverage import binary_truth, fit, folds_of, regression_truth
from scipy import stats
from threadpoolctl import threadpool_limits

from connectome_tl.evaluation.baselines.engines.linear import probability_from_ridge
from connectome_tl.evaluation.intervals.out_of_fold import TEST_ONLY
from connectome_tl.evaluation.scores.compare import Difference, paired_difference, verdict
from connectome_tl.evaluation.scores.predictions import OutOfFold
from connectome_tl.settings.metrics import METRICS
from connectome_tl.tasks import Task

CLASSES = Task(name="class", kind="binary", column="class")
VALUES = Task(name="value", kind="regression", column="value")
Outcome = tuple[Difference, Difference, float]  # the package's interval, test-only interval, true difference
ALPHAS = np.logspace(0, 5, 9)
N_CLINICAL = 4
NAMES = {
    "clinical": "clinical covariates",
    "edges": "ridge on edges",
    "both": "ridge on edges and covariates",
    "half": "ridge on half of the edges",
    "other": "ridge on the other half",
    "tuned": "edges and a pretrained score",
    "fixed": "pretrained score, not refitted",
}


@dataclass(frozen=True)
class Cell:
    """Two models and the location of the signal: AUC (or R2) of the best covariate score and the best edge score."""

    n: int
    n_positive: int | None
    models: tuple[str, str]
    clinical: float
    edges: float
    n_edges: int = 200
    repeats: int = 3
    folds: int = 5

    @property
    def name(self) -> str:
        ratio = "" if self.n_positive is None else f" 1:{round((self.n - self.n_positive) / self.n_positive)}"
        one, two = (NAMES[m] for m in self.models)
        return f"{self.n}{ratio} | {one} - {two} | {self.clinical:g}, {self.edges:g}"


class Population:
    """Covariates and edges with a shared factor; `beta` is the class shift or the true weights."""

    def __init__(self, cell: Cell) -> None:
        rng = np.random.default_rng(cell.n_edges)
        p = N_CLINICAL + cell.n_edges
        self.loading = rng.standard_normal((p, 2)) * 0.5
        self.loading[:N_CLINICAL] *= 0.5
        self.sigma = np.eye(p) + self.loading @ self.loading.T
        parts = []
        for strength, size, used in ((cell.clinical, N_CLINICAL, 2), (cell.edges, cell.n_edges, cell.n_edges // 4)):
            direction = np.zeros(size)
            direction[:: max(1, size // used)] = 1.0
            length = np.linalg.norm(direction)
            amount = stats.norm.ppf(strength) * np.sqrt(2) if cell.n_positive is not None else np.sqrt(strength)
            parts.append(direction / length * amount)
        self.beta = np.concatenate(parts)
        # As learnt from a large older cohort: the true direction with as much noise.
        noise = rng.standard_normal(cell.n_edges)
        shape = np.zeros(cell.n_edges)
        shape[::4] = 1.0
        taught = shape / np.linalg.norm(shape) + noise / np.linalg.norm(noise)
        self.pretrained = np.concatenate([np.zeros(N_CLINICAL), taught])

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.standard_normal((n, len(self.beta))) + rng.standard_normal((n, 2)) @ self.loading.T


def columns_of(model: str, n_edges: int) -> np.ndarray:
    edges = np.arange(N_CLINICAL, N_CLINICAL + n_edges)
    return {
        "clinical": np.arange(N_CLINICAL),
        "edges": edges,
        "tuned": edges,
        "fixed": edges,
        "both": np.arange(N_CLINICAL + n_edges),
        "half": edges[(edges - N_CLINICAL) % 8 < 4],
        "other": edges[(edges - N_CLINICAL) % 8 >= 4],
    }[model]


def predict(
    model: str, cell: Cell, population: Population, x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Decision values of the test rows, the weights (all columns) and the intercept."""
    use = columns_of(model, cell.n_edges)
    weights = np.zeros(x.shape[1])
    start = np.zeros(x.shape[0])
    if model in ("tuned", "fixed"):
        score = x @ population.pretrained
        slope = np.cov(score[train], y[train])[0, 1] / score[train].var(ddof=1)
        slope = slope if model == "tuned" else 0.3
        weights += slope * population.pretrained
        start = x @ weights
    intercept = float((y[train] - start[train]).mean())
    if model != "fixed":
        rows = x[np.ix_(train, use)]
        alphas = np.array([1e-3]) if model == "clinical" else ALPHAS
        dual, intercept = fit(rows @ rows.T, y[train] - start[train], alphas)
        weights[use] += rows.T @ dual
    return x[test] @ weights + intercept, weights, intercept


def truth(cell: Cell, population: Population, weights: np.ndarray, intercept: float) -> tuple[float, float]:
    """AUC and Brier score, or mean squared and mean absolute error, of a linear model on the population."""
    if cell.n_positive is not None:
        auc, _, _, brier = binary_truth(cell, population, weights, intercept)
        return auc, brier
    return tuple(regression_truth(cell, population, weights, intercept))


def study(rng: np.random.Generator, cell: Cell, population: Population) -> dict[str, Outcome]:
    """Per metric: the package's interval, the test-only interval, the true difference for the models of this study."""
    binary = cell.n_positive is not None
    x = population.draw(rng, cell.n)
    if binary:
        y = np.where(np.arange(cell.n) < cell.n_positive, 1.0, -1.0)
        x += np.outer(y, population.beta / 2)
    else:
        y = x @ population.beta + rng.standard_normal(cell.n)
    decision, truths = np.empty((2, cell.repeats, cell.n)), np.zeros((2, cell.repeats * cell.folds, 2))
    fold, base = np.empty((cell.repeats, cell.n), dtype=int), np.empty((cell.repeats, cell.n))
    for r in range(cell.repeats):
        fold[r] = folds_of(rng, y, cell.folds, binary)
        for k in range(cell.folds):
            train, test = np.flatnonzero(fold[r] != k), np.flatnonzero(fold[r] == k)
            base[r, test] = y[train].mean()
            for m, model in enumerate(cell.models):
                decision[m, r, test], weights, intercept = predict(model, cell, population, x, y, train, test)
                truths[m, r * cell.folds + k] = truth(cell, population, weights, intercept)
    gap = np.subtract(*truths.mean(axis=1))
    alone = np.arange(cell.n)
    names = alone.astype(str)
    if binary:
        score = probability_from_ridge(decision)
        one, two = (OutOfFold(names, (y > 0) * 1.0, s, (s > 0.5) * 1.0, fold, alone) for s in score)
        return {m: (*both_intervals(one, two, CLASSES, m), float(g)) for m, g in zip(("auc", "brier"), gap)}
    one, two = (OutOfFold(names, y, d, d, fold, alone) for d in decision)
    mean = OutOfFold(names, y, base, base, fold, alone)
    total = (population.beta @ population.sigma @ population.beta + 1.0) * (1 + 1 / (cell.n * (1 - 1 / cell.folds)))
    return {
        "r2": (*both_intervals(one, two, VALUES, "r2", mean), -float(gap[0]) / total),
        "mae": (*both_intervals(one, two, VALUES, "mae"), float(gap[1])),
    }


def both_intervals(
    one: OutOfFold, two: OutOfFold, task: Task, metric: str, base: OutOfFold | None = None
) -> tuple[Difference, Difference]:
    """The package's interval, and that of the test sets only."""
    return tuple(paired_difference(one, two, task, metric, base, wide) for wide in (None, TEST_ONLY))


def run(cell: Cell, n_studies: int, seed: int) -> dict[str, list[Outcome]]:
    population = Population(cell)
    found: dict[str, list[Outcome]] = {}
    for k in range(n_studies):
        for metric, values in study(np.random.default_rng([seed, cell.n, k]), cell, population).items():
            found.setdefault(metric, []).append(values)
    return found


PAIRS = (("both", "clinical"), ("edges", "clinical"), ("tuned", "edges"), ("fixed", "edges"), ("half", "other"))
TUNE = [
    Cell(n, m, pair, c, e)
    for n, m in ((33, 10), (80, 32))
    for pair in PAIRS
    for c, e in ((0.5, 0.5), (0.75, 0.5), (0.6, 0.95))
]
TUNE += [Cell(n, None, pair, c, e) for n in (33, 80) for pair in PAIRS for c, e in ((0.0, 0.0), (0.3, 0.0), (0.1, 1.0))]
CONFIRM = [
    Cell(n, m, pair, c, e, n_edges=320, repeats=3 if n == 33 else 2)
    for n, m, c, e in (
        (33, 16, 0.5, 0.5),
        (33, 16, 0.7, 0.9),
        (33, 6, 0.7, 0.9),
        (60, 12, 0.5, 0.5),
        (60, 30, 0.7, 0.9),
        (120, 24, 0.7, 0.9),
    )
    for pair in PAIRS
]
CONFIRM += [Cell(n, None, pair, 0.2, 0.6, n_edges=320, repeats=3 if n == 33 else 2) for n in (33, 60) for pair in PAIRS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--studies", type=int, default=None, help="per cell (2000; 500 when tuning)")
    parser.add_argument("--only", default="", help="cells whose first columns contain this text: '33 1:4', '60 |'")
    given = parser.parse_args()
    n_studies = given.studies or (500 if given.tune else 2000)
    start = time.process_time()
    print(f"{n_studies} simulated studies per cell\n")
    print("| n | model - control | signal of covariates, edges | metric | true difference | covered | width | "
          "test-only covers | verdict helps | harms | required factor |\n" + "|---" * 11 + "|")  # fmt: skip
    lowest: dict[str, float] = {}
    for cell in (c for c in (TUNE if given.tune else CONFIRM) if given.only in c.name):
        for metric, values in run(cell, n_studies, seed=3 if given.tune else 4).items():
            true = float(np.mean([t for _, _, t in values]))
            shipped, plain = (np.array([(d.low, d.high, d.value) for d in ds]) for ds in list(zip(*values))[:2])
            covered = float(((shipped[:, 0] <= true) & (true <= shipped[:, 1])).mean())
            bare = float(((plain[:, 0] <= true) & (true <= plain[:, 1])).mean())
            half = np.maximum((plain[:, 1] - plain[:, 0]) / 2, 1e-12)
            asked = float(np.quantile(((plain[:, 2] - true) / half) ** 2, 0.95))
            sign, margin = METRICS[metric].sign, METRICS[metric].margin
            words = [verdict(d, sign, margin) for d, _, _ in values]
            lowest[metric] = min(lowest.get(metric, 1.0), covered)
            width = np.median(shipped[:, 1] - shipped[:, 0])
            shares = " | ".join(f"{words.count(word) / n_studies:.3f}" for word in ("helps", "harms"))
            row = f"{metric} | {true:+.3f} | {covered:.3f} | {width:.2f} | {bare:.3f} | {shares} | {asked:.2f} |"
            print(f"| {cell.name} | {row}", flush=True)
    print("\nlowest coverage: " + ", ".join(f"{m} {c:.3f}" for m, c in lowest.items()))
    print(f"{(time.process_time() - start) / 60:.1f} CPU minutes, one thread")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
