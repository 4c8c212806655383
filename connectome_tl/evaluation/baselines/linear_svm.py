"""Linear support vector machine on edges, by libsvm; support vector regression for scores."""

from __future__ import annotations

from functools import partial

import numpy as np

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.inner_folds import chosen_by_inner_folds, squared_error
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.evaluation.baselines.engines.linear import fit_edge_scaler
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.settings.baselines import LinearSvmSettings


def fit_predict(settings: LinearSvmSettings, train: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Decision values (n_costs, n_test, n_labellings), or predicted values if labels are not 0 and 1."""
    from sklearn.svm import SVC, SVR

    scaler = fit_edge_scaler(train)
    rows, others = scaler.transform(train), scaler.transform(test)
    size = max(float((rows**2).sum()) / len(rows), 1e-300)
    gram, cross = rows @ rows.T / size, others @ rows.T / size
    found = np.empty((len(settings.costs), len(test), y.shape[1]))
    for column in range(y.shape[1]):
        labels = y[:, column]
        if labels.min() == labels.max():
            found[:, :, column] = labels[0]
            continue
        center, spread = float(labels.mean()), float(labels.std())
        for k, cost in enumerate(settings.costs):
            if is_binary(labels):
                found[k, :, column] = SVC(C=cost, kernel="precomputed").fit(gram, labels).decision_function(cross)
            else:
                model = SVR(C=cost, kernel="precomputed").fit(gram, (labels - center) / spread)
                found[k, :, column] = center + spread * model.predict(cross)
    return found


def is_binary(labels: np.ndarray) -> bool:
    """Whether all labels are 0 or 1."""
    return bool(np.isin(labels, (0.0, 1.0)).all())


def ranking_loss(scores: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Loss (n_settings, n_labellings): 1 - AUC for labels 0 and 1, otherwise the squared error."""
    found = squared_error(scores, y)
    for column in range(y.shape[1]):
        if is_binary(y[:, column]):
            labels = np.repeat(y[:, [column]], len(scores), axis=1)
            won, met = within_fold_counts(labels, scores[:, :, column].T, np.zeros(len(y), dtype=int))
            found[:, column] = 1.0 - won / np.maximum(met, 1)
    return found


def solve(settings: LinearSvmSettings, design: Design, y: np.ndarray) -> Scored:
    """Scores (n_test, n_labellings) and held-out scores of training rows, with the cost chosen on inner folds."""
    return chosen_by_inner_folds(partial(fit_predict, settings), design, y, ranking_loss)


def linear_svm(data: BaselineData) -> list[Baseline]:
    """Linear support vector machines (doi:10.1007/BF00994018); none for a cohort without connectomes."""
    learner = calibrated(partial(solve, data.study.baseline_settings.linear_svm), shares_work=False)
    return [Baseline(data.edges, data.tasks, learner)] if data.target.regions else []
