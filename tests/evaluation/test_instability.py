"""Learners that depend more on their training subjects have wider intervals."""

from __future__ import annotations

import numpy as np
import pytest
from prediction_tables import MOTOR, table

from connectome_tl.evaluation.intervals.calls import call_intervals
from connectome_tl.evaluation.intervals.out_of_fold import UNKNOWN_INSTABILITY, instability, ranking_instability
from connectome_tl.evaluation.intervals.pairs import auc_interval, within_fold_pairs
from connectome_tl.evaluation.scores.losses import balance, brier_interval
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold
from connectome_tl.settings.metrics import METRICS


def learner_scores(noise, n_repeats=4):
    """Scores of 60 subjects: a fixed part, and one that changes with the training subjects of each fold."""
    rng = np.random.default_rng(5)
    fold = np.array([rng.permutation(60) % 5 for _ in range(n_repeats)])
    return rng.standard_normal(60) + noise * rng.standard_normal((n_repeats, 60)), fold


@pytest.mark.parametrize("measure", [instability, ranking_instability])
def test_instability_is_zero_for_equal_predictions_and_grows_to_one_with_their_spread_over_repeats(measure):
    found = [measure(*learner_scores(noise)) for noise in (0.0, 0.2, 0.5, 5.0)]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] < 0.3
    assert found[3] > 0.98
    score, fold = learner_scores(0.5)
    assert measure(7 * score, fold) == pytest.approx(found[2])
    assert measure(score[:, :, None], fold) == pytest.approx(found[2])
    assert measure(score[:1], fold[:1]) == UNKNOWN_INSTABILITY


def test_the_ranking_does_not_depend_on_the_level_of_each_fold_and_the_loss_does():
    score, fold = learner_scores(0.5)
    shifted = score + 3 * fold + 10 * np.arange(4)[:, None]
    assert ranking_instability(shifted, fold) == pytest.approx(ranking_instability(score, fold))
    assert instability(shifted, fold) > instability(score, fold)


@pytest.mark.parametrize("metric", ["auc", "brier", "r2"])
def test_the_widening_of_a_learner_lies_between_those_of_stable_and_unstable_ones(metric):
    wide = METRICS[metric].widening["procedure"]
    assert wide.of_learner(0.0) == wide._replace(unstable=None, larger=wide.larger and wide.larger.of_learner(0.0))
    for one in (wide, wide.larger):
        if one is not None:
            middle, most = one.of_learner(0.5), one.of_learner(1.0)
            assert most[:5] == pytest.approx(one.unstable[:5])
            assert middle[:5] == pytest.approx(np.mean([one[:5], most[:5]], axis=0))
    assert METRICS[metric].widening["fitted"].of_learner(0.7) == METRICS[metric].widening["fitted"]


def binary_rows(share, n_repeats=3, noise=0.1, **given):
    """Risks of 60 subjects that change with the training subjects and hardly differ between the classes."""
    rng = np.random.default_rng(2)
    fold = np.array([rng.permutation(60) % 5 for _ in range(n_repeats)])
    risk = np.clip(share + noise * rng.standard_normal((n_repeats, 60)), 0.01, 0.99)
    y = (np.arange(60) < round(60 * share)) * 1.0
    return OutOfFold(np.arange(60).astype(str), y, risk, (risk > 0.5) * 1.0, fold, np.arange(60), **given)


def test_balance_is_1_for_classes_of_one_size_and_0_from_a_quarter_or_with_an_unknown_instability():
    shares = [balance(binary_rows(share)) for share in (0.5, 0.4, 1 / 3, 0.25, 0.1)]
    assert shares == pytest.approx([1.0, 0.84, 5 / 9, 0.0, 0.0])
    assert balance(binary_rows(0.5, n_repeats=1)) == balance(binary_rows(0.5, n_labelled=33)) == 0.0


def test_brier_intervals_of_unstable_learners_are_shorter_for_balanced_classes_and_known_instability():
    wide = METRICS["brier"].widening["procedure"]
    for one in (wide, wide.larger):
        assert one.of_learner(1.0, 1.0)[:5] == pytest.approx(one.unstable.even[:5])
        assert one.of_learner(0.0, 1.0) == one.of_learner(0.0)
        assert one.of_learner(1.0, 0.5).floor == pytest.approx((one.unstable.floor + one.unstable.even.floor) / 2)
    even, uneven = (brier_interval("brier", binary_rows(share), "procedure") for share in (0.5, 0.25))
    assert np.log(even[2] / even[1]) < 0.85 * np.log(uneven[2] / uneven[1])


def test_the_r2_of_many_effective_coefficients_has_a_shorter_upper_end_of_the_loss():
    wide = METRICS["r2"].widening["procedure"]
    assert wide.taught(50.0).larger.factor == pytest.approx(wide.larger.factor + 1.0)
    assert METRICS["brier"].widening["procedure"].taught(50.0).larger.factor == pytest.approx(0.7 + 1.6)


def test_rankings_that_hardly_depend_on_the_training_subjects_and_nearly_perfect_ones_have_shorter_intervals():
    predictions, alone = table(np.random.default_rng(3), n=120), np.arange(120)
    rows = out_of_fold(predictions, MOTOR, predictions["model"].iloc[0])
    y, fold = rows.y_true, rows.fold
    wide = METRICS["auc"].widening["procedure"]

    def width(gap, widening):
        score = y * gap + np.random.default_rng(0).standard_normal(fold.shape)
        low, high = auc_interval(within_fold_pairs(y, score, fold), alone, widening)
        return high - low

    stable, unstable = wide.of_learner(0.0), wide.of_learner(1.0)
    assert width(0.3, stable) < 0.75 * width(0.3, unstable)
    flat = unstable._replace(perfect=None)
    assert width(0.0, unstable) == pytest.approx(width(0.0, flat), rel=0.06)
    assert width(3.0, unstable) < 0.8 * width(3.0, flat)


def test_repeats_with_other_labelled_subjects_average_their_errors():
    rng = np.random.default_rng(8)
    y, fold = np.arange(200) % 2 * 1.0, np.zeros((6, 200), dtype=int)
    wide = METRICS["auc"].widening["procedure"].of_learner(UNKNOWN_INSTABILITY)
    pairs = within_fold_pairs(y, rng.standard_normal((6, 200)), fold)
    together, apart = (auc_interval(pairs, np.arange(200), wide, n_labelled=n) for n in (None, 33))
    assert apart[1] - apart[0] < 0.6 * (together[1] - together[0])
    calls = rng.random((6, 200)) < 0.5
    one, many = (
        call_intervals(calls.mean(axis=0), y == 1, np.arange(200), (0.4, 0.6), draws=draws).balanced_accuracy
        for draws in (1, 6)
    )
    assert many[2] - many[1] < 0.8 * (one[2] - one[1])
