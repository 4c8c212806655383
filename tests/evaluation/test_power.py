"""Simulated studies have the requested AUC; power increases with it and with n, with errors as stated."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.evaluation.power import (
    AUCS,
    N_FEATURES,
    _power_at,
    auc_power,
    out_of_fold_scores,
    permuted_aucs,
    separation,
    stratified_folds,
)
from connectome_tl.evaluation.scores.counts import within_fold_counts


def test_a_model_fitted_in_training_folds_has_the_asked_auc_on_new_infants():
    rng = np.random.default_rng(0)
    gap = separation(0.8, 9, 21, 5, rng)
    found = []
    for _ in range(400):
        x = rng.standard_normal((30, N_FEATURES))
        x[:9, 0] += gap
        train = np.r_[rng.permutation(9)[:7], 9 + rng.permutation(21)[:17]]  # about 4 in 5 of each class
        weight = x[train[train < 9]].mean(axis=0) - x[train[train >= 9]].mean(axis=0)
        new = rng.standard_normal((400, N_FEATURES))
        new[:200, 0] += gap
        score = new @ weight
        found.append((score[:200, None] > score[None, 200:]).mean())
    assert np.mean(found) == pytest.approx(0.8, abs=0.015)


def test_out_of_fold_scores_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    x, fold = rng.standard_normal((12, N_FEATURES)), np.arange(12) % 3
    y = np.array([rng.permutation(np.repeat([1.0, 0.0], 6)) for _ in range(4)])
    for labels, scores in zip(y, out_of_fold_scores(x, y, fold)):
        for i in range(12):
            train = fold != fold[i]
            weight = x[train & (labels == 1)].mean(axis=0) - x[train & (labels == 0)].mean(axis=0)
            assert scores[i] == pytest.approx(x[i] @ weight)


def test_aucs_of_many_studies_are_those_of_one_at_a_time():
    rng = np.random.default_rng(2)
    y = np.repeat([1.0, 0.0], [5, 9])
    x = rng.standard_normal((6, 14, N_FEATURES))
    labels = rng.permuted(np.tile(y, (6, 8, 1)), axis=2)
    fold = np.array([stratified_folds(y, 4, rng) for _ in range(6)])
    found = permuted_aucs(x, labels, fold)
    for k in range(6):
        won, met = within_fold_counts(labels[k].T, out_of_fold_scores(x[k], labels[k], fold[k]).T, fold[k])
        np.testing.assert_allclose(found[k], np.where(met > 0, won / np.maximum(met, 1), np.inf))
    everybody = np.zeros((1, 14), dtype=int)
    assert np.isinf(permuted_aucs(x[:1], np.ones((1, 1, 14)), everybody)).all()  # no pair


@pytest.mark.slow
def test_power_grows_with_the_signal_and_the_infants_and_few_have_little():
    few, many = auc_power("motor", 9, 24), auc_power("motor", 24, 48)
    assert few is not None
    assert many is not None
    assert few.auc == AUCS
    for one in (few, many):
        assert list(one.interval) == sorted(one.interval)
        assert list(one.permutation) == sorted(one.permutation)
    assert all(a <= b for a, b in zip(few.permutation, many.permutation))
    assert few.interval[1] < 0.5 < many.permutation[2]  # an AUC of 0.7 cannot be shown with 33 infants
    assert auc_power("motor", 2, 30) is None
    assert auc_power("motor", 300, 400) is None


def test_without_any_signal_both_reject_no_more_often_than_they_say():
    interval, permutation, _ = _power_at(0.5 + 1e-4, 12, 21, 5, 3)
    assert interval <= 0.03  # one side of a 95 % interval
    assert permutation <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
