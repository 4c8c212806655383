"""Choose a setting on inner folds of the training rows, with families kept together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from connectome_tl.evaluation.baselines.design import Design, Scored
from connectome_tl.evaluation.baselines.engines.linear import missing_patterns

N_PARTS = 5
# Training rows, labels (n_rows, n_labelings), other rows; gives (n_settings, n_others, n_labelings).
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
# (n_settings, n_rows, n_labelings) left-out scores, labels; gives (n_settings, n_labelings), the least is taken.
Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]


def squared_error(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(((scores - y) ** 2).mean(axis=1))


def inner_parts(families: np.ndarray, n_parts: int = N_PARTS) -> np.ndarray:
    """(n_rows,) number of the part that each row is held out in; fewer parts where families are fewer."""
    names, code = np.unique(families, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    return np.asarray(order[code] % min(n_parts, len(names)))


def chosen_by_inner_folds(fit: Fit, design: Design, y: np.ndarray, loss: Loss = squared_error) -> Scored:
    """Test scores of the setting with the least loss on inner folds, and those left-out scores.

    With one family nothing can be left out: the first setting is taken, and its scores are in-sample.
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
