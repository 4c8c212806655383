"""Smallest mean width that an interval can have in the cells of `coverage.py` that are wider than allowed.

An interval that contains a value b in 0.93 of the studies of every design with the true value b is a family of tests
of level 0.07. Its mean width in a cell is the integral over b of the probability of containing b (Pratt 1961,
doi:10.1080/01621459.1961.10480644), at least the integral of 1 - power of the most powerful test of b against the cell.
The power is computed from simulated studies (histograms of a statistic, of the cell and of designs with the same
numbers of subjects, positives, repeats and folds and another signal or learner; interpolated between designs). It is
not corrected for being chosen on the same studies, which makes the bound smaller. The bound is valid for intervals
computed from this statistic only: the observed score; or score, AUC (R2: correlation) and number of positive calls
(R2: spread of the predictions), rounded to 40 quantiles, or to 5, 3 and 3. Intervals that use more of the data may be
narrower.

A second bound is valid for intervals that are computed from all data, for a cell in which nobody is detected in nearly
all studies. It adds to the designs those in which a fraction s of the positives (of the negatives) has a mark that the
model recognises with certainty, and that are the cell in all else. A study without a marked subject, of which there are
(1 - s)^m, is one of the cell, so that no test of the level 0.07 has a power in the cell of more than 0.07 / (1 - s)^m,
whatever it is computed from.

    python benchmarks/least_width.py                 # the table of docs/coverage.md
    python benchmarks/least_width.py --cells 33      # cells whose name holds this text
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import coverage
import numpy as np
from coverage import CONFIRM, EDGES, FEW, PENALISED, WANTED, Cell

from connectome_tl.evaluation.intervals.pairs import within_fold_pairs
from connectome_tl.evaluation.scores.losses import r2_losses, squared_errors
from connectome_tl.evaluation.scores.predictions import OutOfFold

# Cells and metrics of docs/coverage.md that are wider than allowed.
WIDE = (("33 1:4 | edges 400, 3x5 | 0.88", ("sensitivity", "balanced_accuracy")),)
SIGNALS = (0.5, 0.88, 0.96, 0.985, 0.995, 0.999, 0.9999)
SCORE_BINS, JOINT_BINS = 40, (5, 3, 3)
Studies = dict[str, np.ndarray]  # (n_studies,) of each score; "own ..." are the true values of the fitted models


def designs(cell: Cell) -> list[list[Cell]]:
    """Families of designs of the same size as the cell, each in order of signal; the cell is in one of them."""
    if cell.learner == "confident":
        signals: tuple[tuple[dict[str, Any], Sequence[float]], ...] = (
            ({}, (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2)),
        )
    elif cell.n_positive is None:
        signals = ((EDGES, (0.15, 0.6, 0.75, 0.87, 0.95)),)
    else:
        signals = ((EDGES, SIGNALS), (FEW, (0.5, 0.62, 0.78, 0.9)), (PENALISED, (0.5, 0.64, 0.85)))
    shape = {"learner": "edges"} if cell.learner != "confident" else {}
    families = [[replace(cell, **{**shape, **kind}, signal=s) for s in each] for kind, each in signals]
    if not any(cell in family for family in families):
        near = next(family for family in families if replace(family[0], signal=cell.signal) == cell)
        near.append(cell)
    return families


def simulated(cell: Cell, n_studies: int, seed: int) -> Studies:
    """Observed scores of studies, without intervals."""
    rows: list[dict[str, float]] = []

    def keep(_: object, own: dict[str, float], _share: float, asked: Any) -> None:
        there = dict(zip(asked.__code__.co_freevars, (one.cell_contents for one in asked.__closure__), strict=True))
        seen = _regression(there["rows"], there["mean"]) if cell.n_positive is None else _binary(there["rows"])
        rows.append({**seen, **{f"own {name}": value for name, value in own.items()}})

    usual = coverage.record
    coverage.record = keep  # type: ignore[assignment]
    try:
        coverage.run(cell, n_studies, seed)
    finally:
        coverage.record = usual
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _binary(rows: OutOfFold) -> dict[str, float]:
    called, positive = np.nanmean(rows.predicted, axis=0), rows.y_true == 1
    recalls = float(called[positive].mean()), 1.0 - float(called[~positive].mean())
    return {
        "auc": within_fold_pairs(rows.y_true, rows.score, rows.fold).auc,
        "sensitivity": recalls[0],
        "balanced_accuracy": sum(recalls) / 2,
        "brier": float(squared_errors(rows).mean()),
        "calls": float(called.mean()),
    }


def _regression(rows: OutOfFold, base: OutOfFold) -> dict[str, float]:
    loss, reference = r2_losses(rows, base)
    score = rows.score.mean(axis=0)
    return {
        "r2": 1.0 - float(loss.mean() / reference.mean()),
        "auc": float(np.corrcoef(score, rows.y_true)[0, 1]),
        "calls": float(score.std() / rows.y_true.std()),
    }


def power(of_cell: np.ndarray, of_other: np.ndarray) -> float:
    """Probability in the cell of the most powerful region of probability 1 - `WANTED` in another design.

    Args: frequencies of the statistic, (n_bins,).
    """
    ratio = np.where(of_other > 0, of_cell / np.where(of_other > 0, of_other, 1.0), np.inf)
    order = np.argsort(-ratio, kind="stable")
    spent, gained = (np.concatenate([[0.0], np.cumsum(one[order])]) for one in (of_other, of_cell))
    return float(np.interp(1.0 - WANTED, spent, gained))


def frequencies(one: Studies, two: Studies, names: Sequence[str], n_bins: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Frequencies (n_bins,) of a statistic in two designs, in quantiles of both together."""
    code = np.zeros(one[names[0]].size + two[names[0]].size, dtype=int)
    for name, most in zip(names, n_bins, strict=True):
        values = np.round(np.concatenate([one[name], two[name]]), 9)
        edges = np.unique(values)
        if edges.size > most:
            edges = np.unique(np.quantile(values, np.arange(1, most) / most))
        place = np.searchsorted(edges, values)
        code = code * (int(place.max()) + 1) + place
    n = one[names[0]].size
    return tuple(np.bincount(part, minlength=int(code.max()) + 1) / part.size for part in (code[:n], code[n:]))


def least_mean_width(
    cell: Cell, studies: dict[Cell, Studies], metric: str, names: Sequence[str], n_bins: Sequence[int]
) -> float:
    """The bound for intervals of a metric that are computed from the scores `names`."""
    low, high = (-1.0, 1.0) if metric == "r2" else (0.0, 1.0)
    values = np.linspace(low, high, 4001)
    least = np.ones_like(values)
    for family in designs(cell):
        found = []
        for other in family:
            rejected = (
                1.0 - WANTED if other == cell else power(*frequencies(studies[cell], studies[other], names, n_bins))
            )
            found.append((_truth(studies[other], metric), rejected))
        truths, rejections = np.array(sorted(found)).T
        least = np.minimum(least, np.interp(values, truths, rejections, left=1.0, right=1.0))
    return float((1.0 - least).mean() * (high - low))


def unseen_bound(cell: Cell, metric: str) -> tuple[float, float]:
    """Least mean and least median width of any interval, of coverage `WANTED` also for models that detect a fraction.

    In half of the studies the interval is at most as long as the median one. The bound of the median assumes that only
    in these the interval is too short, so that they may exclude a value with twice the probability.
    """
    share = np.linspace(0.0, 1.0, 100_001)
    least = []
    for often in (1.0, 0.5):
        widths = [
            np.maximum(0.0, 1.0 - (1.0 - WANTED) / np.maximum(often * (1.0 - share) ** m, 1e-300)).mean()
            for m in (cell.n_positive, cell.n - cell.n_positive)
        ]
        least.append(float(widths[0] if metric == "sensitivity" else sum(widths) / 2.0))
    return least[0], least[1]


def _truth(studies: Studies, metric: str) -> float:
    return float(studies[f"own {metric}"].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200, help="per design")
    parser.add_argument("--seed", type=int, default=1610001)
    parser.add_argument("--cells", default="", help="only cells whose name holds this text")
    given = parser.parse_args()
    start = time.process_time()
    print(
        "| cell | metric | least mean width, from the score | least, from score, AUC and calls | least from all data, "
        "mean | median |\n" + "|---" * 6 + "|"
    )
    for name, metrics in WIDE:
        if given.cells not in name:
            continue
        cell = next(one for one in CONFIRM if one.name == name)
        studies = {one: simulated(one, given.studies, given.seed) for family in designs(cell) for one in family}
        for metric in metrics:
            bounds = [
                least_mean_width(cell, studies, metric, names, bins)
                for names, bins in (((metric,), (SCORE_BINS,)), ((metric, "auc", "calls"), JOINT_BINS))
            ]
            whole = unseen_bound(cell, metric)
            print(f"| {name} | {metric} | " + " | ".join(f"{one:.3f}" for one in (*bounds, *whole)) + " |", flush=True)
    print(f"\n{(time.process_time() - start) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
