"""Refit linear baselines on bootstrap samples of the training rows.

A sample is a count per row, used as a weight. Leaving out a row leaves out all its copies, so that no subject is both
in the training and the held-out part when a penalty is chosen. For ridge and logistic regression, scaling, inner
products and kernels are computed once per fold; other learners get the sample as rows. Kernels have one row for all
copies of a subject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from connectome_tl.evaluation.baselines.design import Design, Learner, Scored
from connectome_tl.evaluation.baselines.engines.gram import Kernel, best_kernel, linear_kernel
from connectome_tl.evaluation.baselines.engines.learners import risks_of
from connectome_tl.evaluation.baselines.engines.linear import DEFAULT_ALPHAS, fit_edge_scaler, probability_from_ridge
from connectome_tl.evaluation.baselines.engines.logistic import fit_logistic


def ridge_refits(
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    counts: np.ndarray,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
) -> np.ndarray:
    """Refit `fit_ridge` with targets -1 and 1; the penalty is chosen by leave-one-subject-out."""
    del families
    scaler = fit_edge_scaler(train)
    z_train, z_test = scaler.transform(np.asarray(train, dtype=float)), scaler.transform(np.asarray(test, dtype=float))
    kernel, cross = z_train @ z_train.T, z_test @ z_train.T
    target, grid = np.nan_to_num(2.0 * y - 1.0), np.asarray(alphas, dtype=float)
    decisions = np.empty((len(counts), len(test)))
    for b, count in enumerate(counts):
        rows = np.flatnonzero(count)
        decisions[b] = _weighted_ridge(kernel[np.ix_(rows, rows)], cross[:, rows], target[rows], count[rows], grid)
    return probability_from_ridge(decisions)


def logistic_refits(
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    counts: np.ndarray,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
) -> np.ndarray:
    """Refit `fit_logistic` on all samples at once; the penalty is chosen by leave-one-subject-out."""
    del families
    labels = np.repeat(y[:, None], len(counts), axis=1)
    return fit_logistic(train, labels, alphas, counts=counts).predict_probability(test).T


def kernel_refits(
    kernels: Callable[[np.ndarray, np.ndarray], Sequence[Kernel]],
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """Ridge on the best kernel; kernel, penalty and risks by leave-one-family-out, all copies of a row together.

    Args:
        kernels: function of training and test rows that returns pairs (n_train, n_train) and (n_test, n_train).
    """
    made = kernels(train, test)

    def solve(rows: np.ndarray, copies: np.ndarray) -> Scored:
        drawn = [(gram[np.ix_(rows, rows)], cross[:, rows]) for gram, cross in made]
        return best_kernel(drawn, y[rows, None], families[rows], counts=copies)

    return weighted_refits(solve, y, families, counts)


def weighted_refits(
    solve: Callable[[np.ndarray, np.ndarray], Scored], y: np.ndarray, families: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Risks (n_samples, n_test) from the scores of each sample.

    Args:
        solve: function of the numbers of the drawn rows, each once, and their counts that returns their scores.
    """
    found = []
    for count in counts:
        rows = np.flatnonzero(count)
        scored = solve(rows, count[rows])
        known = np.repeat(np.arange(len(rows)), np.where(np.isfinite(y[rows]), count[rows], 0))
        risks = risks_of(Scored(scored.test, scored.left_out[known]), y[rows][known], families[rows][known])
        found.append(risks)
    return np.array(found)


def gram_refits(
    train: np.ndarray, test: np.ndarray, y: np.ndarray, families: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Refits of the learner `GRAM`."""
    return kernel_refits(lambda one, two: [linear_kernel(one, two)], train, test, y, families, counts)


def rows_refits(
    learner: Learner, train: np.ndarray, test: np.ndarray, y: np.ndarray, families: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Refits of any learner; copies are rows of one family, so that inner folds keep them together.

    Rows without an outcome are kept, since they contribute to the scaling of features.
    """
    every, known = np.arange(len(train)), np.isfinite(y)
    found = np.empty((len(counts), len(test)))
    for b, count in enumerate(counts):
        rows = np.repeat(every, np.where(known, count, 1))
        found[b] = learner.predict(Design(train[rows], test, (), families[rows]), y[rows], True)
    return found


def _weighted_ridge(
    kernel: np.ndarray, cross: np.ndarray, y: np.ndarray, count: np.ndarray, alphas: np.ndarray
) -> np.ndarray:
    """Decision values (n_test,) of ridge regression with an unpenalised intercept on weighted rows.

    This is ordinary ridge regression on rows scaled by the square root of their counts, with that root as the
    intercept column.
    """
    root = np.sqrt(count.astype(float))
    unit = root / np.linalg.norm(root)
    scaled = root[:, None] * kernel * root
    scaled -= np.outer(unit, unit @ scaled)
    scaled -= np.outer(scaled @ unit, unit)
    # Adding a large multiple of the intercept's direction makes it the last eigenvector.
    values, vectors = np.linalg.eigh((scaled + scaled.T) / 2 + (np.trace(scaled) + 1.0) * np.outer(unit, unit))
    values, vectors = np.maximum(values[:-1], 0.0), vectors[:, :-1]
    rotated = vectors.T @ (root * y)
    shrunk = 1.0 / (values[:, None] + alphas)
    left_out = (vectors @ (shrunk * rotated[:, None])) / (vectors**2 @ shrunk)
    alpha = alphas[(left_out**2).sum(axis=0).argmin()]
    dual = root * (vectors @ (rotated / (values + alpha)))
    intercept = float(count @ (y - kernel @ dual)) / float(count.sum())
    return np.asarray(cross @ dual + intercept)
