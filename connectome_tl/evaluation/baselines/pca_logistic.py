"""Logistic regression on principal components of the edges."""

from __future__ import annotations

from functools import partial

import numpy as np

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.inner_folds import chosen_by_inner_folds
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.evaluation.baselines.engines.linear import decompose, fit_edge_scaler
from connectome_tl.settings.baselines import PcaLogisticSettings


def whitened(train: np.ndarray, test: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components of standardised edges, each with unit variance in the training rows."""
    scaler = fit_edge_scaler(train)
    rows, others = scaler.transform(train), scaler.transform(test)
    center = rows.mean(axis=0)
    rows, others = rows - center, others - center
    values, vectors = decompose(rows @ rows.T)
    kept = np.argsort(values)[::-1][:n_components]
    kept = kept[values[kept] > values.max(initial=0.0) * 1e-10]
    turn = vectors[:, kept] * np.sqrt(len(rows) - 1)
    return turn, (others @ rows.T) @ (turn / values[kept])


def fit_predict(settings: PcaLogisticSettings, train: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Decision values (n_settings, n_test, n_labellings); the base rate if one class is missing."""
    from sklearn.linear_model import LogisticRegression

    rows, others = whitened(train, test, max(settings.components))
    found = np.empty((len(settings.components), len(test), y.shape[1]))
    for column in range(y.shape[1]):
        labels = y[:, column]
        if labels.min() == labels.max():
            # as if half a subject of the other class were present
            found[:, :, column] = np.sign(labels[0] - 0.5) * np.log(2 * len(labels) + 1)
            continue
        for k, n in enumerate(settings.components):
            model = LogisticRegression(C=1.0 / settings.penalty, max_iter=1000).fit(rows[:, :n], labels)
            found[k, :, column] = model.decision_function(others[:, :n])
    return found


def log_loss(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n_settings, n_labellings) mean log loss of decision values."""
    return np.asarray((np.logaddexp(0.0, scores) - y * scores).mean(axis=1))


def solve(settings: PcaLogisticSettings, design: Design, y: np.ndarray) -> Scored:
    """Scores (n_test, n_labellings) and held-out scores of training rows, with the components chosen on inner folds."""
    return chosen_by_inner_folds(partial(fit_predict, settings), design, y, log_loss)


def pca_logistic(data: BaselineData) -> list[Baseline]:
    """Baselines of all tasks but regressions."""
    tasks = tuple(task for task in data.tasks if task.form != "value")
    learner = calibrated(partial(solve, data.study.baseline_settings.pca_logistic), shares_work=False)
    return [Baseline(data.edges, tasks, learner)] if data.target.regions else []
