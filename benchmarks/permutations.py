"""Batched linear models against scikit-learn's loop: CPU time of a permutation test, same scores.

    python benchmarks/permutations.py [--permutations 1000] [--labellings 8]

Both scale, choose alpha (ridge) and predict in every outer fold. scikit-learn's time is measured on a few labellings
and extrapolated; medians over them, one thread, CPU time.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.baselines.engines.logistic import fit_logistic

ALPHAS = tuple(float(a) for a in np.logspace(0, 5, 11))
N_SUBJECTS, N_EDGES, N_REPEATS, N_FOLDS = 33, 4005, 5, 10
LOGISTIC_ALPHA = 1.0  # scikit-learn's own default, C = 1


def splits(rng: np.random.Generator) -> list[np.ndarray]:
    """Test masks (n_subjects,) of all folds of all repeats."""
    folds = [rng.permutation(np.arange(N_SUBJECTS) % N_FOLDS) for _ in range(N_REPEATS)]
    return [fold == k for fold in folds for k in range(N_FOLDS)]


def batched(kind: str, x: np.ndarray, labels: np.ndarray, tests: list[np.ndarray]) -> list[np.ndarray]:
    found = []
    for test in tests:
        if kind == "ridge":
            model = fit_ridge(x[~test], labels[~test], ALPHAS)
        else:
            model = fit_logistic(x[~test], (labels[~test] + 1) / 2, (LOGISTIC_ALPHA,))
        found.append(model.predict(x[test]))
    return found


def looped(kind: str, x: np.ndarray, y: np.ndarray, tests: list[np.ndarray], exact: bool) -> list[np.ndarray]:
    """A plain scikit-learn loop; with `exact` its optimiser stops later, for the comparison of scores."""
    found = []
    for test in tests:
        scaler = StandardScaler().fit(x[~test])
        model = RidgeClassifierCV(ALPHAS)
        if kind == "logistic":
            stop = {"tol": 1e-10, "max_iter": 10_000} if exact else {}
            model = LogisticRegression(C=1 / LOGISTIC_ALPHA, **stop)
        model.fit(scaler.transform(x[~test]), y[~test])
        found.append(model.decision_function(scaler.transform(x[test])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--labellings", type=int, default=8, help="number that scikit-learn runs")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    y = np.where(np.arange(N_SUBJECTS) < 14, 1.0, -1.0)
    x = rng.standard_normal((N_SUBJECTS, N_EDGES)) + 0.15 * y[:, None] * (rng.random(N_EDGES) < 0.1)
    labels = np.column_stack([y, *(rng.permutation(y) for _ in range(given.permutations))])
    tests = splits(rng)
    print(
        f"{N_SUBJECTS} subjects, {N_EDGES} edges, {N_REPEATS} x {N_FOLDS} folds, {given.permutations} permutations; "
        "one thread, CPU seconds"
    )
    for kind in ("ridge", "logistic"):
        times = []
        for _ in range(3):
            start = time.process_time()
            ours = batched(kind, x, labels, tests)
            times.append(time.process_time() - start)
        loop, difference = [], 0.0
        for k in range(given.labellings):
            start = time.process_time()
            looped(kind, x, labels[:, k], tests, exact=False)
            loop.append(time.process_time() - start)
            theirs = looped(kind, x, labels[:, k], tests, exact=True)
            difference = max(difference, *(np.abs(a[:, k] - b).max() for a, b in zip(ours, theirs)))
        total = np.median(loop) * labels.shape[1]
        print(
            f"{kind}: batched {np.median(times):.2f} s; scikit-learn {np.median(loop):.3f} s a labelling, "
            f"{total:.0f} s for all; largest difference of a score {difference:.1e}"
        )
        print(f"ratio_{kind}: {total / np.median(times):.0f}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
