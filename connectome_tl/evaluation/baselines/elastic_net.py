"""Elastic net on standardised edges, by scikit-learn's coordinate descent."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.inner_folds import chosen_by_inner_folds
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.evaluation.baselines.engines.linear import fit_edge_scaler
from connectome_tl.settings.baselines import ElasticNetSettings


def fit_predict(settings: ElasticNetSettings, train: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions, (n_l1_ratios * n_penalties, n_test, n_labellings); penalties in descending order for each ratio.

    Penalties are fractions of the smallest penalty that removes all edges, so that a setting has the same meaning
    in every inner fold.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import enet_path

    scaler = fit_edge_scaler(train)
    rows, others = scaler.transform(train), scaler.transform(test)
    center = rows.mean(axis=0)  # not 0 if edges are absent
    rows, others = np.asfortranarray(rows - center), others - center
    shares = np.geomspace(1.0, settings.smallest, settings.n_penalties)
    found = np.empty((len(settings.l1_ratios) * len(shares), len(test), y.shape[1]))
    for column in range(y.shape[1]):
        mean = y[:, column].mean()
        target = y[:, column] - mean
        largest = max(float(np.abs(rows.T @ target).max()) / len(rows), 1e-12)
        for k, ratio in enumerate(settings.l1_ratios):
            with warnings.catch_warnings():
                # raised by the smallest penalties, which are rarely chosen
                warnings.simplefilter("ignore", ConvergenceWarning)
                _, weights, _ = enet_path(rows, target, l1_ratio=ratio, alphas=shares * largest / ratio)
            found[k * len(shares) : (k + 1) * len(shares), :, column] = (others @ weights).T + mean
    return found


def solve(settings: ElasticNetSettings, design: Design, y: np.ndarray) -> Scored:
    """Scores (n_test, n_labellings) and held-out scores of training rows, with the penalties chosen on inner folds."""
    return chosen_by_inner_folds(partial(fit_predict, settings), design, y)


def elastic_net(data: BaselineData) -> list[Baseline]:
    """Elastic nets (doi:10.1111/j.1467-9868.2005.00503.x); none for a cohort without connectomes."""
    learner = calibrated(partial(solve, data.study.baseline_settings.elastic_net), shares_work=False)
    return [Baseline(data.edges, data.tasks, learner)] if data.target.regions else []
