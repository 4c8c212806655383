"""Coverage of the intervals of calibration, scaled Brier score and net benefit.

Studies as in coverage.py. The true values follow from the Gaussian scores of the fold models: recalibration is
solved on quadrature nodes of all folds of a repeat together, as it is estimated from data.

    python benchmarks/calibration.py            # confirmation, the table of docs/coverage.md
    python benchmarks/calibration.py --tune     # other cells, other seeds: required variance factors
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from coverage import ALPHAS, HERMITE, HERMITE_WEIGHT, Cell, Population, binary_truth, fit, folds_of
from scipy import stats
from threadpoolctl import threadpool_limits

from connectome_tl.evaluation.baselines.engines.linear import probability_from_ridge
from connectome_tl.evaluation.clinical import net_benefit as clinical
from connectome_tl.evaluation.clinical.calibration import calibration_scores, logit
from connectome_tl.evaluation.clinical.net_benefit import decision_curve
from connectome_tl.evaluation.scores.predictions import OutOfFold
from connectome_tl.settings.metrics import METRICS, Widening
from connectome_tl.tasks import Task

TASK = Task(name="class", kind="binary", column="class")

THRESHOLDS = (0.1, 0.3)
GRID = np.linspace(-3, 3, 2001)
Found = dict[str, tuple[float, float, float, float]]  # metric: estimate, low, high, true value of the study's models


def study(rng: np.random.Generator, cell: Cell, population: Population) -> Found:
    x = population.draw(rng, cell.n)
    y = np.where(np.arange(cell.n) < cell.n_positive, 1.0, -1.0)
    x += np.outer(y, population.beta / 2)
    gram = x @ x.T
    alphas = np.array([1e-3]) if cell.learner == "clinical" else ALPHAS
    decision, fold = np.empty((cell.repeats, cell.n)), np.empty((cell.repeats, cell.n), dtype=int)
    truths = []
    for r in range(cell.repeats):
        fold[r] = folds_of(rng, y, cell.folds, True)
        models = []
        for k in range(cell.folds):
            train, test = np.flatnonzero(fold[r] != k), np.flatnonzero(fold[r] == k)
            dual, intercept = fit(gram[np.ix_(train, train)], y[train], alphas)
            decision[r, test] = gram[np.ix_(test, train)] @ dual + intercept
            models.append((x[train].T @ dual, intercept))
        truths.append(truth(cell, population, models))
    own = np.mean(truths, axis=0)
    alone = np.arange(cell.n)
    score = probability_from_ridge(decision)
    rows = OutOfFold(alone.astype(str), (y > 0) * 1.0, score, (score > 0.5) * 1.0, fold, alone)
    found = {s.metric: (s.value, s.low, s.high) for s in calibration_scores(rows, TASK, "m")}
    curve = decision_curve(rows, "t", "m", THRESHOLDS)
    for k, threshold in enumerate(THRESHOLDS):
        found[f"net_benefit at {threshold:g}"] = (curve.net_benefit[k], curve.low[k], curve.high[k])
    return {metric: (*values, own[k]) for k, (metric, values) in enumerate(found.items())}


def truth(cell: Cell, population: Population, models: list[tuple[np.ndarray, float]]) -> list[float]:
    """Intercept, slope, scaled Brier and net benefits of the fold models of one repeat."""
    share = cell.n_positive / cell.n
    nodes, weights, labels, brier, benefit = [], [], [], [], np.zeros(len(THRESHOLDS))
    for coefficients, intercept in models:
        sd = float(np.sqrt(coefficients @ population.sigma @ coefficients)) + 1e-300
        shift = float(coefficients @ population.beta / 2)
        brier.append(binary_truth(cell, population, coefficients, intercept)[3])
        for sign, part in ((1.0, share), (-1.0, 1 - share)):
            nodes.append(logit(probability_from_ridge(intercept + sign * shift + sd * HERMITE)))
            weights.append(part * HERMITE_WEIGHT / len(models))
            labels.append(np.full(HERMITE.size, float(sign > 0)))
        for k, threshold in enumerate(THRESHOLDS):
            cut = float(np.interp(threshold, probability_from_ridge(GRID), GRID))
            hit, false = (stats.norm.sf((cut - intercept - sign * shift) / sd) for sign in (1, -1))
            benefit[k] += (share * hit - (1 - share) * false * threshold / (1 - threshold)) / len(models)
    z, w, y = np.concatenate(nodes), np.concatenate(weights), np.concatenate(labels)
    return [
        recalibrate(z, w, y, False),
        recalibrate(z, w, y, True),
        1 - np.mean(brier) / (share * (1 - share)),
        *benefit,
    ]


def recalibrate(z: np.ndarray, w: np.ndarray, y: np.ndarray, slope: bool) -> float:
    """Weighted logistic fit on nodes: the intercept with offset z, or the slope on z."""
    design = np.column_stack([np.ones(z.size), z]) if slope else np.ones((z.size, 1))
    offset = np.zeros(z.size) if slope else z
    theta = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(offset + design @ theta, -50, 50)))
        information = (design * (w * p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(theta.size)
        step = np.linalg.solve(information, design.T @ (w * (y - p)))
        theta = theta + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return float(theta[-1])


CLINICAL = {"learner": "clinical", "n_features": 4, "n_signal": 2, "n_factors": 1, "repeats": 2}
EDGES = {"n_features": 200, "n_signal": 10, "repeats": 2}
TUNE = [
    Cell(n, m, s, **kind)
    for n, m in ((33, 16), (33, 7), (90, 30))
    for kind, strengths in ((EDGES, (0.9, 0.99)), (CLINICAL, (0.65, 0.85)))
    for s in strengths
]
OTHER = {"n_features": 300, "n_signal": 60, "n_factors": 3, "repeats": 2}
CONFIRM = [
    Cell(n, m, s, **kind)
    for n, m in ((33, 16), (60, 12), (120, 60))
    for kind, strengths in ((OTHER, (0.85, 0.99)), (CLINICAL, (0.6, 0.8)))
    for s in strengths
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--studies", type=int, default=None, help="per cell (2000; 500 when tuning)")
    given = parser.parse_args()
    n_studies = given.studies or (500 if given.tune else 2000)
    if given.tune:  # intervals without widening, to compute the required factors
        plain = dict.fromkeys(("procedure", "fitted"), Widening(1.0))
        for name in ("calibration_intercept", "calibration_slope"):
            METRICS[name] = replace(METRICS[name], widening=plain)
        clinical.NET_BENEFIT_WIDENING = Widening(1.0)
    start = time.process_time()
    print(f"{n_studies} simulated studies per cell; undefined slopes (separated classes) are excluded and counted\n")
    last = "factor asked" if given.tune else "covered, fitted"
    print(f"| n | learner | signal | metric | truth | covered, procedure | width | undefined | {last} |")
    print("|---" * 9 + "|")
    lowest: dict[str, float] = {}
    for cell in TUNE if given.tune else CONFIRM:
        population = Population(cell)
        seed = 5 if given.tune else 6
        runs = [study(np.random.default_rng([seed, cell.n, k]), cell, population) for k in range(n_studies)]
        for metric in runs[0]:
            value, low, high, own = np.array([run[metric] for run in runs]).T
            known = np.isfinite(value)
            value, low, high, own = (part[known] for part in (value, low, high, own))
            # The median: the slope has no mean if a model learns almost nothing in some cohorts.
            true = float(np.median(own)) if metric.startswith("calibration") else float(own.mean())
            covered = float(((low <= true) & (true <= high)).mean())
            asked = float(np.quantile(((value - true) / np.maximum((high - low) / 2, 1e-9)) ** 2, 0.95))
            fitted = float(((low <= own) & (own <= high)).mean())
            lowest[metric] = min(lowest.get(metric, 1.0), covered)
            end = f"{asked:.2f}" if given.tune else f"{fitted:.3f}"
            print(
                f"| {cell.name} | {metric} | {true:+.3f} | {covered:.3f} | {np.median(high - low):.2f} "
                f"| {1 - known.mean():.3f} | {end} |",
                flush=True,
            )
    print("\nlowest coverage: " + ", ".join(f"{m} {c:.3f}" for m, c in lowest.items()))
    print(f"{(time.process_time() - start) / 60:.1f} CPU minutes, one thread")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
