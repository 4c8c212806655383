"""Learners: logistic regression on few columns, ridge on many, and risks from left-out scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.design import Design, Learner, Refit, Scored
from connectome_tl.evaluation.baselines.engines.gram import solve_gram
from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.baselines.engines.logistic import fit_logistic
from connectome_tl.tasks import Task
from connectome_tl.training.closed_form.risks import fit_risks
from connectome_tl.training.networks.outputs import level_probabilities

COVARIATE_ALPHAS = tuple(float(a) for a in np.logspace(-1, 3, 9))
MIN_PER_CLASS = 2  # with fewer training rows of a class, a baseline predicts the prevalence
_RISKS_FROM, _LEAST_SLOPE = 100, 0.05
Solver = Callable[[Design, np.ndarray], Scored]


def calibrated(solve: Solver, *, shares_work: bool = True, refits: Refit | None = None) -> Learner:
    """A learner from a solver; risks by logistic regression of the label on leave-one-family-out scores.

    Args:
        shares_work: whether many labellings cost little more than one.
        refits: see `Learner`.
    """

    def predict(design: Design, y: np.ndarray, binary: bool) -> np.ndarray:
        found = solve(design, y[:, None])
        if not binary:
            return found.test[:, 0]
        known = np.isfinite(y)
        return risks_of(Scored(found.test, found.left_out[known]), y[known], design.families[known])

    return Learner(predict, (lambda design, y: solve(design, y).test) if shares_work else None, refits)


def risks_of(found: Scored, y: np.ndarray, families: np.ndarray) -> np.ndarray:
    """Risks (n_test,) by logistic regression of labels (n_train,), 0 and 1, on the left-out scores of one labelling."""
    sizes = np.array([len(np.unique(families))])
    risks = fit_risks(found.left_out, y[:, None], sizes, _RISKS_FROM, _LEAST_SLOPE)
    return np.asarray(risks.apply(found.test)[:, 0])


def _logistic(design: Design, y: np.ndarray, binary: bool) -> np.ndarray:
    if binary:
        fitted = fit_logistic(design.train, y, COVARIATE_ALPHAS, design.fitted_on)
        return fitted.predict_probability(design.test)[:, 0]
    return fit_ridge(design.train, y, COVARIATE_ALPHAS, design.fitted_on).predict(design.test)[:, 0]


def _ridge(design: Design, y: np.ndarray, binary: bool) -> np.ndarray:
    if binary:
        return fit_ridge(design.train, 2 * y - 1, train_ids=design.fitted_on).predict_probability(design.test)[:, 0]
    return fit_ridge(design.train, y, train_ids=design.fitted_on).predict(design.test)[:, 0]


LOGISTIC = Learner(_logistic)
RIDGE = Learner(_ridge, lambda design, y: fit_ridge(design.train, y, train_ids=design.fitted_on).predict(design.test))
GRAM = calibrated(solve_gram)


def predict_baseline(task: Task, design: Design, y_train: np.ndarray, learner: Learner) -> np.ndarray:
    """Probabilities or values of one task, (n_test, n_columns), fitted on the training rows with a known outcome.

    An ordinal task is split into binary tasks "above level k", a multiclass task into one class against the rest.

    Raises:
        DataError: no training row has the outcome.
    """
    seen = np.isfinite(y_train)
    if not seen.any():
        raise DataError(
            f"no training row of a fold has outcome {task.name!r}",
            remedy="Leave the task out (target.tasks), or use fewer folds.",
        )
    if task.form in ("risk", "value"):
        return _predict(design, y_train, task.is_binary, learner)[:, None]
    codes = np.arange(task.n_levels)
    labels = [y_train > k for k in codes[:-1]] if task.form == "levels" else [y_train == k for k in codes]
    each = [_predict(design, np.where(seen, label, np.nan), True, learner) for label in labels]
    risks = np.stack(each, axis=1)
    return level_probabilities(risks) if task.form == "levels" else risks / risks.sum(axis=1, keepdims=True)


def _predict(design: Design, y_train: np.ndarray, binary: bool, learner: Learner) -> np.ndarray:
    """Probability of class 1, or value, (n_test,)."""
    seen = np.isfinite(y_train)
    x_train = design.train
    # Unlike nanstd, these do not warn of a column without any value.
    varies = x_train.shape[1] > 0 and bool((np.fmax.reduce(x_train, axis=0) > np.fmin.reduce(x_train, axis=0)).any())
    enough = seen.sum() >= 2 * MIN_PER_CLASS and (
        not binary or min(y_train[seen].sum(), (1 - y_train[seen]).sum()) >= MIN_PER_CLASS
    )
    if not varies or not enough:
        return np.full(len(design.test), y_train[seen].mean())
    return learner.predict(design, y_train, binary)
