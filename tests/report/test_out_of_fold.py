"""Figures agree with scores, scikit-learn and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from connectome_tl.report.figures.out_of_fold import (
    OutOfFold,
    fold_averaged_roc,
    group_predictions,
    roc_points,
    subject_scores,
)
from connectome_tl.settings.records.results import Prediction


def random_rows(seed: int, *, n_subjects: int = 33, n_repeats: int = 4, levels: int | None = None) -> OutOfFold:
    rng = np.random.default_rng(seed)
    truth = (rng.random(n_subjects) < 0.3).astype(float)
    truth[:2] = 0, 1
    subject = np.tile(np.arange(n_subjects), n_repeats)
    fold = np.concatenate([rng.permutation(n_subjects) % 5 for _ in range(n_repeats)])
    score = rng.normal(size=len(subject)) + truth[subject]
    if levels:
        score = np.round(score * levels) / levels
    return OutOfFold(subject, np.repeat(np.arange(n_repeats), n_subjects), fold, truth[subject], score)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [None, 1])
def test_the_area_under_the_drawn_curve_is_the_pair_weighted_auc(seed: int, levels: int | None) -> None:
    rows = random_rows(seed, levels=levels)
    rate, curves = fold_averaged_roc(rows)
    for i, repeat in enumerate(np.unique(rows.repeat)):
        total = pairs = 0.0
        for fold in np.unique(rows.fold):
            here = (rows.repeat == repeat) & (rows.fold == fold)
            truth = rows.y_true[here]
            n_pairs = truth.sum() * (1 - truth).sum()
            if n_pairs:
                total += n_pairs * roc_auc_score(truth, rows.y_score[here])
                pairs += n_pairs
        assert np.trapezoid(curves[i], rate) == pytest.approx(total / pairs, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_curves_rise_from_corner_to_corner(seed: int) -> None:
    rate, curves = fold_averaged_roc(random_rows(seed))
    assert rate[0] == 0
    assert rate[-1] == 1
    assert (np.diff(curves, axis=1) >= -1e-12).all()
    np.testing.assert_allclose(curves[:, -1], 1.0)


def test_scores_of_different_folds_are_not_ranked_against_each_other() -> None:
    """Folds with perfect ranking stay perfect for any difference between their levels."""
    fold = np.repeat([0, 1, 2], 4)
    truth = np.tile([0.0, 0.0, 1.0, 1.0], 3)
    score = np.tile([0.1, 0.2, 0.3, 0.4], 3) + 10 * fold
    rows = OutOfFold(np.arange(12), np.zeros(12, int), fold, truth, score)
    rate, curves = fold_averaged_roc(rows)
    assert np.trapezoid(curves[0], rate) == pytest.approx(1.0)
    assert roc_auc_score(truth, score) < 0.8  # result of pooling the folds


def test_no_fold_with_both_classes_gives_no_curve() -> None:
    rows = OutOfFold(np.arange(4), np.zeros(4, int), np.array([0, 0, 1, 1]), np.array([0.0, 0, 1, 1]), np.arange(4.0))
    rate, curves = fold_averaged_roc(rows)
    assert len(rate) == 0
    assert len(curves) == 0


@pytest.mark.parametrize("seed", range(4))
def test_roc_points_are_those_of_scikit_learn(seed: int) -> None:
    rows = random_rows(seed, n_repeats=1, levels=2)
    rate, sensitivity = roc_points(rows.y_true, rows.y_score)
    expected_rate, expected, _ = roc_curve(rows.y_true, rows.y_score, drop_intermediate=False)
    np.testing.assert_allclose(rate, expected_rate)
    np.testing.assert_allclose(sensitivity, expected)


def test_missing_truth_is_left_out_and_repeats_are_averaged() -> None:
    rows = [
        Prediction(subject=s, task="t", model="full", repeat=r, fold=0, y_true=y, y_score=p, y_pred=0)
        for s, y, scores in (("a", 1.0, (0.2, 0.6)), ("b", float("nan"), (0.9, 0.9)), ("c", 0.0, (0.1, 0.3)))
        for r, p in enumerate(scores)
    ]
    scores = subject_scores(group_predictions(rows)["t", "full"])
    np.testing.assert_allclose(scores.y_true, [1, 0])
    np.testing.assert_allclose(scores.mean, [0.4, 0.2])
    np.testing.assert_allclose(scores.low, [0.2, 0.1])
    np.testing.assert_allclose(scores.high, [0.6, 0.3])
