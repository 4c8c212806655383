"""Intervals of an AUC near 1, of balanced accuracy and of the Brier score are as long as their evidence requires."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from connectome_tl.evaluation.intervals.calls import call_intervals
from connectome_tl.evaluation.intervals.pairs import auc_interval, within_fold_pairs
from connectome_tl.evaluation.scores.losses import better_than_chance, brier_interval
from connectome_tl.evaluation.scores.predictions import OutOfFold
from connectome_tl.settings.metrics import METRICS, Widening

ONE = Widening(1.0)
N_STUDIES = 400
ENOUGH = stats.binom.ppf(0.01, N_STUDIES, 0.93) / N_STUDIES  # below it a coverage is significantly below 0.93


def auc_ends(y, score, widening=ONE):
    pairs = within_fold_pairs(y, np.atleast_2d(score), np.zeros((1, y.size), dtype=int))
    return auc_interval(pairs, np.arange(y.size), widening)


def hanley_mcneil(a, m, n):
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    one = (a * (1 - a) + (m - 1) * (q1 - a**2) + (n - 1) * (q2 - a**2)) / (m * n)
    other = (a * (1 - a) + (m - 1) * (q2 - a**2) + (n - 1) * (q1 - a**2)) / (m * n)
    return (one + other) / 2


@pytest.mark.parametrize(("m", "n"), [(14, 19), (7, 26), (60, 60)])
def test_the_interval_of_an_auc_of_1_is_jeffreys_with_as_many_subjects_as_its_variance(m, n):
    low, high = auc_ends(np.r_[np.ones(m), np.zeros(n)], np.r_[np.ones(m) + np.arange(m), np.zeros(n)])
    size = low * (1 - low) / hanley_mcneil(low, m, n)
    assert high == 1
    assert special.betainc(size + 0.5, 0.5, low) == pytest.approx(0.025, rel=0.05)


def test_an_auc_interval_mirrors_and_moves_with_the_auc():
    y, ends = np.r_[np.ones(20), np.zeros(20)], []
    for wrong in range(0, 200, 4):  # pairs that the score orders wrongly
        score = np.r_[np.full(20, 10.0), np.arange(20.0) / 20]
        score[: wrong // 20] = -1
        if wrong % 20:
            score[wrong // 20] = (20 - wrong % 20) / 20 - 0.025
        ends.append(auc_ends(y, score))
        low, high = auc_ends(1 - y, score)
        assert (1 - high, 1 - low) == pytest.approx(ends[-1], abs=1e-9)
    assert (np.diff(np.array(ends), axis=0) <= 1e-9).all()


@pytest.mark.parametrize(("m", "n", "wrong"), [(14, 19, 0.03), (30, 30, 0.02), (16, 17, 0.1), (12, 48, 0.05)])
def test_a_sure_model_is_covered(m, n, wrong):
    """Two values apart from noise, wrong for a fraction of the subjects: AUC and balanced accuracy are 1 - wrong."""
    rng, y, alone = np.random.default_rng(31), np.r_[np.ones(m), np.zeros(n)], np.arange(m + n)
    wide, covered = METRICS["auc"].widening["procedure"].of_learner(0.0), []
    for _ in range(N_STUDIES):
        called = np.where(rng.random(m + n) < wrong, 1 - y, y)
        auc = auc_ends(y, called + rng.normal(0, 1e-4, m + n), wide)
        balanced = call_intervals(called, y == 1, alone, auc).balanced_accuracy[1:]
        covered.append([low <= 1 - wrong <= high for low, high in (auc, balanced)])
    assert np.mean(covered, axis=0).min() >= ENOUGH


@pytest.mark.parametrize(("m", "n"), [(6, 27), (12, 48), (24, 96)])
def test_a_model_that_detects_some_and_ranks_the_others_at_random_is_covered(m, n):
    """The least favourable model known after no detection, with sensitivities near the upper end."""
    rng, positive, alone = np.random.default_rng(7), np.arange(m + n) < m, np.arange(m + n)
    auc = METRICS["auc"].widening["procedure"].of_learner(0.8)
    for sensitivity in 1 - np.array([0.05, 0.09, 0.14, 0.3]) ** (1 / m):
        covered = []
        for _ in range(N_STUDIES):
            detected = positive & (rng.random(m + n) < sensitivity)
            ends = auc_ends(positive * 1.0, rng.random(m + n) + detected, auc)
            low, high = call_intervals(detected * 1.0, positive, alone, ends).balanced_accuracy[1:]
            covered.append(low <= (1 + sensitivity) / 2 <= high)
        assert np.mean(covered) >= ENOUGH


def test_a_low_auc_shortens_the_balanced_accuracy_of_a_rare_class_and_no_sensitivity():
    positive, called, alone = np.arange(60) < 12, np.zeros(60), np.arange(60)
    found = [call_intervals(called, positive, alone, (mid - 0.25, mid + 0.25)) for mid in (0.35, 0.5, 0.55)]
    tops = [one.balanced_accuracy[2] for one in found]
    assert tops[0] == tops[1] < tops[2]
    assert len({one.sensitivity for one in found}) == 1


def test_only_a_model_that_ranks_well_may_have_a_small_loss_by_luck():
    rng = np.random.default_rng(5)
    y, alone = (np.arange(60) < 12) * 1.0, np.arange(60)
    fold = np.array([rng.permutation(60) % 5 for _ in range(2)])
    noise = rng.normal(0, 0.07, (2, 60))

    def rows(signal):
        risk = np.clip(0.2 + signal * (y - 0.2) + noise, 0.01, 0.99)
        return OutOfFold(alone.astype(str), y, risk, (risk > 0.5) * 1.0, fold, alone)

    weak, strong = rows(0.0), rows(0.15)
    pairs = within_fold_pairs(weak.y_true, weak.score, weak.fold)
    z = (pairs.auc - 0.5) / np.sqrt(pairs.variance(0.5))
    assert better_than_chance(weak) == pytest.approx(max(0.0, 2 * stats.norm.cdf(z) - 1))
    assert better_than_chance(strong) > 0.99
    assert better_than_chance(replace(weak, score=1 - strong.score)) == 0.0
    wide = METRICS["brier"].widening["procedure"].of_learner(1.0)
    assert wide.taught(3.0, 0.0).larger.factor == wide.larger.factor
    assert wide.taught(3.0, 0.0).factor == wide.taught(3.0).factor
    value, low, high = brier_interval("brier", weak, "procedure")
    assert low < value < high
