"""Would other infants of the same kind have taught another risk? Bootstrap refits of a linear model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.evaluation.linear import LinearFit, fit_ridge
from connectome_tl.evaluation.permutation import FoldRows


@dataclass(frozen=True, eq=False)
class Instability:
    """Risks of each subject over bootstrap refits of the models that did not see it.

    Attributes:
        original: (n_subjects,) risk by the model of all training rows.
        low, high: (n_subjects,) 2.5 and 97.5 % of the refitted risks.
        mean_absolute_error: mean distance of a refitted risk from the original (Riley & Collins 2023,
            doi:10.1002/bimj.202200302).
        classification: mean share of refits that call a subject otherwise than the original does.
    """

    original: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean_absolute_error: float
    classification: float


def bootstrap_instability(
    folds: Sequence[FoldRows],
    y: np.ndarray,
    cluster: np.ndarray,
    n_bootstrap: int = 200,
    seed: int = 0,
    threshold: float = 0.5,
    fit: Callable[[np.ndarray, np.ndarray], LinearFit] = fit_ridge,
) -> Instability:
    """Refit each fold's model on families drawn with replacement; predict the fold's test rows.

    Args:
        folds: the folds of one repeat; together they test every subject once.
        y: (n_subjects,) 0, 1, NaN missing. cluster: (n_subjects,) family codes.
        fit: rows and labels (-1 and 1) to a fit that predicts probabilities.

    Raises:
        DataError: a subject is tested twice or never, or a fold trains on one class.
    """
    tested = np.concatenate([fold.test for fold in folds])
    if np.sort(tested).tolist() != list(range(y.size)):
        raise DataError("instability needs the folds of one repeat", expected="every subject tested once")
    rng = np.random.default_rng(seed)
    original, risks = np.empty(y.size), np.empty((n_bootstrap, y.size))
    for fold in folds:
        known = np.flatnonzero(np.isfinite(y[fold.train]))
        labels, family = 2 * y[fold.train][known] - 1, cluster[fold.train][known]
        if np.unique(labels).size < 2:
            raise DataError("a fold trains on one class only", remedy="Use fewer folds.")
        x = fold.x_train[known]
        original[fold.test] = fit(x, labels).predict_probability(fold.x_test)[:, 0]
        members = [np.flatnonzero(family == f) for f in np.unique(family)]
        for b in range(n_bootstrap):
            drawn = _both_classes(rng, members, labels)
            risks[b, fold.test] = fit(x[drawn], labels[drawn]).predict_probability(fold.x_test)[:, 0]
    low, high = np.quantile(risks, [0.025, 0.975], axis=0)
    turned = (risks >= threshold) != (original >= threshold)
    return Instability(original, low, high, float(np.abs(risks - original).mean()), float(turned.mean()))


def _both_classes(rng: np.random.Generator, members: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """A bootstrap draw of families that holds both classes (others cannot be fitted and are drawn again)."""
    while True:
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if np.unique(labels[drawn]).size == 2:
            return drawn
