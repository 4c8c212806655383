"""Choose a setting on inner folds of the training rows, with families kept together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from connectome_tl.evaluation.baselines.design import Design, Scored
from connectome_tl.evaluation.baselines.engines.linear import missing_patterns

N_PARTS = 5
# Takes training rows, labels (n_rows, n_labellings) and other rows; returns (n_settings, n_others, n_labellings).
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
# Takes left-out scores (n_settings, n_rows, n_labellings) and labels; returns losses (n_settings, n_labellings).
Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]


def squared_error(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean squared error (n_settings, n_labellings) of scores (n_settings, n_rows, n_labellings)."""
    return np.asarray(((scores - y) ** 2).mean(axis=1))


def inner_parts(families: np.ndarray, n_parts: int = N_PARTS) -> np.ndarray:
    """Inner fold of each row, (n_rows,); at most as many folds as families."""
    names, code = np.unique(families, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    return np.asarray(order[code] % min(n_parts, len(names)))


def chosen_by_inner_folds(fit: Fit, design: Design, y: np.ndarray, loss: Loss = squared_error) -> Scored:
    """Test scores, and held-out scores, of the setting with the smallest loss on inner folds.

    With a single family, the first setting is used and its scores are in-sample.
    """
    test, left_out = np.empty((len(design.test), y.shape[1])), np.full(y.shape, np.nan)
    for rows, columns in missing_patterns(y):
        x, labels = design.train[rows], y[np.ix_(rows, columns)]
        parts = inner_parts(design.families[rows])
        found = []
        for part in range(int(parts.max()) + 1):
            out = parts == part
            kept = ~out if (~out).any() else out
            found.append((out, fit(x[kept], labels[kept], x[out])))
        left = np.empty((len(found[0][1]), *labels.shape))
        for out, scores in found:
            left[:, out] = scores
        chosen = loss(left, labels).argmin(axis=0)
        at = np.arange(columns.size)
        test[:, columns] = fit(x, labels, design.test)[chosen, :, at].T
        left_out[np.ix_(rows, columns)] = left[chosen, :, at].T
    return Scored(test, left_out)
