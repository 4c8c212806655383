"""Scores equal scikit-learn's within folds; intervals have their stated properties."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from prediction_tables import LANGUAGE, MOTOR, table
from scipy import stats
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    mean_absolute_error,
    r2_score,
    recall_score,
    roc_auc_score,
)

from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals.calls import (
    HALF_SELDOM,
    RARE_OFTEN,
    RARE_SELDOM,
    STEADY,
    SWINGING,
    call_intervals,
)
from connectome_tl.evaluation.intervals.out_of_fold import (
    TEST_ONLY,
    averaged_interval,
    between_folds,
    mean_interval,
    positive_mean_interval,
    proportion_interval,
    r2_interval,
    taught,
)
from connectome_tl.evaluation.intervals.pairs import auc_interval, auc_variance, within_fold_pairs
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.settings.metrics import METRICS


def by_metric(found):
    return {score.metric: score for score in found}


@pytest.mark.parametrize("tie", [False, True])
def test_auc_is_scikit_learns_within_each_fold_weighted_by_pairs(tie):
    predictions = table(np.random.default_rng(1), tie=tie)
    value, pairs = 0.0, 0
    for _, rows in predictions.groupby(["repeat", "fold"]):
        n = int(rows["y_true"].sum()) * int((1 - rows["y_true"]).sum())
        if n:
            value += n * roc_auc_score(rows["y_true"], rows["y_score"])
            pairs += n
    assert by_metric(scores(predictions, [MOTOR]))["auc"].value == pytest.approx(value / pairs)


def test_auc_does_not_compare_scores_of_different_models():
    predictions = table(np.random.default_rng(2))
    shifted = predictions.assign(y_score=predictions["y_score"] + 7 * predictions["fold"] + 100 * predictions["repeat"])
    one, two = (by_metric(scores(t, [MOTOR]))["auc"] for t in (predictions, shifted))
    assert (one.value, one.low, one.high) == (two.value, two.low, two.high)


def test_folds_of_one_class_add_no_pairs_and_no_pairs_give_nan():
    predictions = table(np.random.default_rng(3), n_repeats=1)
    predictions["fold"] = predictions["y_true"].astype(int)
    auc = by_metric(scores(predictions, [MOTOR]))["auc"]
    assert all(math.isnan(v) for v in (auc.value, auc.low, auc.high))
    one_class = predictions.assign(y_true=1.0)
    found = by_metric(scores(one_class, [MOTOR]))
    assert math.isnan(found["auc"].value)
    assert math.isnan(found["specificity"].value)
    assert math.isnan(found["balanced_accuracy"].low)
    assert found["sensitivity"].value >= 0


def test_threshold_metrics_and_brier_are_the_mean_of_scikit_learns_over_repeats():
    predictions = table(np.random.default_rng(4))
    found = by_metric(scores(predictions, [MOTOR]))
    by_repeat = [rows for _, rows in predictions.groupby("repeat")]
    oracles = {
        "balanced_accuracy": lambda t: balanced_accuracy_score(t.y_true, t.y_pred),
        "sensitivity": lambda t: recall_score(t.y_true, t.y_pred),
        "specificity": lambda t: recall_score(1 - t.y_true, 1 - t.y_pred),
        "brier": lambda t: brier_score_loss(t.y_true, t.y_score),
    }
    for metric, oracle in oracles.items():
        score = found[metric]
        assert score.value == pytest.approx(np.mean([oracle(t) for t in by_repeat]))
        assert 0 <= score.low < score.value < score.high <= 1
        assert "this procedure on a new cohort" in score.method


def test_r2_and_mae_equal_scikit_learn_and_r2_of_the_base_is_exactly_zero():
    rng = np.random.default_rng(5)
    predictions = table(rng, task="language", kind="regression", n_repeats=2)
    found = by_metric(scores(predictions, [LANGUAGE]))
    by_repeat = [rows for _, rows in predictions.groupby("repeat")]
    assert found["r2"].value == pytest.approx(np.mean([r2_score(t.y_true, t.y_pred) for t in by_repeat]))
    assert found["mae"].value == pytest.approx(np.mean([mean_absolute_error(t.y_true, t.y_pred) for t in by_repeat]))
    base = predictions.copy()
    for _, rows in base.groupby(["repeat", "fold"]):
        train = base[(base["repeat"] == rows["repeat"].iloc[0]) & (base["fold"] != rows["fold"].iloc[0])]
        base.loc[rows.index, "y_pred"] = train["y_true"].mean()
    both = pd.concat([predictions, base.assign(model="prevalence")], ignore_index=True)
    full, prevalence = (by_metric(s for s in scores(both, [LANGUAGE]) if s.model == m) for m in ("full", "prevalence"))
    assert (prevalence["r2"].value, prevalence["r2"].low, prevalence["r2"].high) == (0, 0, 0)
    expected = 1 - ((predictions.y_pred - predictions.y_true) ** 2).sum() / ((base.y_pred - base.y_true) ** 2).sum()
    assert full["r2"].value == pytest.approx(expected)
    assert full["r2"].value > found["r2"].value  # the training mean is a weaker reference than the test mean


def test_subjects_without_an_outcome_are_predicted_but_not_scored():
    predictions = table(np.random.default_rng(6))
    lost = predictions["subject"].isin(["s003", "s017"])
    with_nan = predictions.assign(y_true=predictions["y_true"].mask(lost))
    assert scores(with_nan, [MOTOR]) == scores(predictions[~lost], [MOTOR])
    assert by_metric(scores(with_nan, [MOTOR]))["auc"].n == 38


def test_a_repeat_may_leave_subjects_untested():
    """Few-label splits test only those they did not train on."""
    predictions = table(np.random.default_rng(12))
    some = predictions.drop(predictions.index[[1, 5, 60, 100]])
    value, pairs = 0.0, 0
    for _, rows in some.groupby(["repeat", "fold"]):
        n = int(rows["y_true"].sum()) * int((1 - rows["y_true"]).sum())
        value, pairs = value + (n * roc_auc_score(rows["y_true"], rows["y_score"]) if n else 0), pairs + n
    found = by_metric(scores(some, [MOTOR]))
    assert found["auc"].value == pytest.approx(value / pairs)
    assert found["brier"].value == pytest.approx(
        ((some["y_true"] - some["y_score"]) ** 2).groupby(some["subject"]).mean().mean()
    )


def test_constant_predictions_have_an_auc_of_one_half_by_definition():
    predictions = table(np.random.default_rng(7)).assign(y_score=0.4, model="prevalence")
    auc = by_metric(scores(predictions, [MOTOR]))["auc"]
    assert (auc.value, auc.low, auc.high) == (0.5, 0.5, 0.5)


def test_relatives_do_not_narrow_an_interval():
    """Twins with equal data are one draw: the interval must be about that of the single children."""
    rng = np.random.default_rng(8)
    single = table(rng, n=40)
    twin = single.assign(subject=single["subject"] + "b")
    both = pd.concat([single, twin], ignore_index=True)
    family = {s: s[:4] for s in both["subject"].unique()}
    for estimand in ("fitted", "procedure"):
        alone, related, ignored = (
            scores(rows, [MOTOR], relatives, estimand)
            for rows, relatives in ((single, None), (both, family), (both, None))
        )
        for one, two, three in zip(alone, related, ignored):
            assert two.value == pytest.approx(one.value)
            assert two.high - two.low > 0.9 * (one.high - one.low)
            # With an AUC that may be 0.5, more infants do not determine the classes that a procedure predicts.
            if estimand == "fitted" or one.metric not in ("sensitivity", "specificity"):
                assert three.high - three.low < 0.85 * (one.high - one.low)


def test_a_score_carries_the_intervals_of_both_estimands():
    predictions = table(np.random.default_rng(9))
    both, fitted = scores(predictions, [MOTOR]), scores(predictions, [MOTOR], estimand="fitted")
    assert [s.metric for s in both] == [s.metric for s in fitted]
    for score, other in zip(both, fitted):
        assert (score.fitted_low, score.fitted_high) == pytest.approx((other.low, other.high), nan_ok=True)
        if "training sets" in score.method:
            assert "this procedure on a new cohort" in score.method
            assert "this fitted model on new subjects" in score.fitted_method


def test_what_a_model_that_may_know_nothing_calls_is_an_accident_of_its_cohort():
    called, positive = np.tile([0.0, 0.0, 1.0], 400), np.arange(1200) % 20 < 9
    alone, wide = np.arange(1200), TEST_ONLY._replace(factor=SWINGING)
    usual = proportion_interval(called[positive], alone[positive], TEST_ONLY._replace(factor=HALF_SELDOM))
    tested = proportion_interval(called[positive], alone[positive], METRICS["sensitivity"].widening["fitted"])
    telling, little, nothing, fitted = (
        call_intervals(called, positive, alone, auc, estimand)
        for auc, estimand in (
            ((0.7, 0.8), "procedure"),
            ((0.55, 0.65), "procedure"),
            ((0.48, 0.55), "procedure"),
            ((0.48, 0.55), "fitted"),
        )
    )
    assert telling.sensitivity[1:] == pytest.approx(usual)
    assert fitted.sensitivity[1:] == pytest.approx(tested)
    assert little.sensitivity[1:] == pytest.approx(proportion_interval(called[positive], alone[positive], wide, 6.0))
    assert nothing.sensitivity[1:] == (0.0, pytest.approx(little.sensitivity[2]))
    assert nothing.specificity[1:] == (pytest.approx(little.specificity[1]), 1.0)
    assert nothing.balanced_accuracy == pytest.approx(telling.balanced_accuracy)
    everybody = call_intervals(1 - called, positive, alone, (0.48, 0.55))
    assert everybody.sensitivity[2] == 1
    assert everybody.specificity[1] == 0


def test_calls_of_a_rare_class_hang_less_on_the_cohort():
    called, positive, alone = np.tile([0.0, 0.0, 0.0, 0.1], 300), np.arange(1200) % 5 == 0, np.arange(1200)
    nothing, little = (call_intervals(called, positive, alone, auc) for auc in ((0.48, 0.55), (0.55, 0.65)))
    # Few are predicted positive: the specificity is stable; a sensitivity above 0 may hold in this cohort only.
    low, high = (TEST_ONLY._replace(factor=f) for f in RARE_SELDOM)
    right, caught = 1 - called[~positive], called[positive]
    assert little.specificity[1:] == pytest.approx(averaged_interval(right, alone[~positive], RARE_OFTEN[0]))
    assert nothing.specificity[1:] == (pytest.approx(little.specificity[1]), 1.0)
    assert little.sensitivity[1] == pytest.approx(proportion_interval(caught, alone[positive], low)[0])
    assert little.sensitivity[2] == pytest.approx(proportion_interval(caught, alone[positive], high)[1])
    assert nothing.sensitivity[1:] == (0.0, pytest.approx(little.sensitivity[2]))
    # Their mean has no open end, and is that of the two recalls.
    parts = [(one[0], *one[1:]) for one in (little.sensitivity, little.specificity)]
    assert nothing.balanced_accuracy == pytest.approx((np.mean([p[0] for p in parts]), *mean_interval(*parts)))


@pytest.mark.parametrize("n_positive", [6, 12, 24])
def test_after_no_detection_a_model_that_may_be_worse_than_chance_has_a_shorter_interval(n_positive):
    positive = np.arange(5 * n_positive) < n_positive
    called, alone = np.zeros(positive.size), np.arange(positive.size)
    tops = [call_intervals(called, positive, alone, (low, 0.8)).sensitivity[2] for low in (0.2, 0.3, 0.35, 0.4, 0.6)]
    other = proportion_interval(called[positive], alone[positive], TEST_ONLY._replace(factor=RARE_SELDOM[1]))[1]
    assert tops[0] == tops[1] < tops[2] < tops[3] == tops[4] == pytest.approx(other)
    # A fixed model with this sensitivity detects none in 0.08 of the cohorts; in some of them its AUC is not that low.
    assert (1 - tops[0]) ** n_positive < 0.081
    often = np.where(positive, 0.0, np.arange(positive.size) % 10 == 9)
    top = call_intervals(often, positive, alone, (0.2, 0.8)).sensitivity[2]
    assert tops[0] < top < other
    assert (1 - top) ** n_positive < 0.073  # where negatives are called, its AUC can be low
    unknown = call_intervals(called, positive, alone, (float("nan"), float("nan")))
    assert unknown.sensitivity[2] == pytest.approx(other)


@pytest.mark.parametrize("auc", [0.4, 0.5, 0.6, 0.75, 0.85])
@pytest.mark.parametrize("sensitivity", [0.195, 0.21])
def test_fixed_models_with_a_sensitivity_above_the_end_after_no_detection_are_covered(auc, sensitivity):
    """Normal scores of 12 positives and 48 negatives; the sensitivity is outside the interval if none is detected."""
    rng, positive, alone = np.random.default_rng(6), np.arange(60) < 12, np.arange(60)
    gap = np.sqrt(2) * stats.norm.ppf(auc)
    threshold, covered = gap + stats.norm.isf(sensitivity), []
    wide = METRICS["auc"].widening["procedure"].of_learner(0.8)
    for _ in range(200):
        score, fold = rng.standard_normal(60) + gap * positive, (rng.permutation(60) % 5)[None]
        seen = auc_interval(within_fold_pairs(positive * 1.0, score[None], fold), alone, wide)
        low, high = call_intervals((score > threshold) * 1.0, positive, alone, seen).sensitivity[1:]
        covered.append(low <= sensitivity <= high)
    assert np.mean(covered) > 0.93


def test_where_half_are_called_an_auc_that_may_be_chance_opens_no_end():
    called, positive, alone = np.tile([0.0, 1.0, 1.0, 0.0], 30), np.arange(120) % 2 == 0, np.arange(120)
    nothing, telling = (call_intervals(called, positive, alone, auc) for auc in ((0.42, 0.6), (0.7, 0.9)))
    assert nothing.sensitivity == pytest.approx(telling.sensitivity)
    assert 0.2 < nothing.sensitivity[1] < nothing.sensitivity[2] < 0.8
    called = called * (np.arange(120) < 60)
    even, uneven = (call_intervals(called, p, alone, (0.42, 0.6)) for p in (positive, np.arange(120) % 20 < 9))
    assert even.sensitivity[1] == uneven.sensitivity[1] == 0.0
    assert uneven.specificity[2] == 1.0
    assert even.specificity[2] < 0.95  # if the classes are equal, models of other cohorts do not call nobody


def test_a_loss_has_a_longer_end_towards_the_smaller_losses_of_other_cohorts():
    rng = np.random.default_rng(3)
    loss, y = rng.gamma(4.0, 0.06, 40), np.arange(40) % 2 * 1.0
    wide = METRICS["brier"].widening["procedure"]
    low, high = positive_mean_interval(loss, np.arange(40), wide, y, between=0.002)
    same = positive_mean_interval(loss, np.arange(40), wide._replace(larger=None), y, between=0.002)
    other = positive_mean_interval(loss, np.arange(40), wide.larger, y, between=0.002)
    assert low == pytest.approx(same[0])
    assert high == pytest.approx(other[1])
    assert np.log(loss.mean() / low) > np.log(high / loss.mean())
    assert wide.taught(0.4) == wide
    assert wide.taught(1.5).larger.factor == pytest.approx(wide.larger.factor + 0.5 * wide.larger.coefficient)
    assert wide.taught(50.0).factor == pytest.approx(wide.factor + 1.6)


def test_predictions_that_hang_on_who_trained_count_their_coefficients():
    """Ordinary least squares on p columns has about p free coefficients; a mean has one; ridge has fewer."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 6)), rng.standard_normal(60)
    fold = np.array([rng.permutation(60) % 5 for _ in range(20)])

    def found(columns, penalty=0.0):
        design = np.column_stack([np.ones(60), x[:, :columns]])
        score = np.empty((20, 60))
        for r, k in ((r, k) for r in range(20) for k in range(5)):
            train, test = fold[r] != k, fold[r] == k
            gram = design[train].T @ design[train] + penalty * np.eye(columns + 1)
            score[r, test] = design[test] @ np.linalg.solve(gram, design[train].T @ y[train])
        return taught(score, fold, float(((score - y) ** 2).mean()))

    mean, few, many = found(0), found(2), found(6)
    assert mean < few < many
    assert many > 3 * mean
    assert found(6, penalty=200.0) < 0.2 * many
    assert taught(y[None], fold[:1], 1.0) == 0.0


def test_the_widening_falls_with_the_recall_and_never_jumps():
    positive, alone = np.arange(200) < 100, np.arange(200)
    widths = []
    for caught in np.arange(101):
        called = np.where(positive, np.arange(200) < caught, np.arange(200) >= 150)
        low, high = call_intervals(called.astype(float), positive, alone, (0.7, 0.8)).sensitivity[1:]
        widths.append(high - low)
    assert np.abs(np.diff(widths)).max() < 0.021  # Jeffreys' interval of 99 and of 100 in 100
    ratio = widths[80] / widths[20]  # of binomials with as much variance
    assert ratio == pytest.approx(np.sqrt(STEADY / HALF_SELDOM), rel=0.02)


def test_few_labels_set_the_floor_of_a_loss():
    """More tested subjects do not reduce the uncertainty due to 33 training subjects; more draws do."""
    rows = table(np.random.default_rng(14), n=300, n_repeats=4)
    wide = [by_metric(scores(rows, [MOTOR], n_labelled=k))["brier"] for k in (300, 33)]
    one = by_metric(scores(rows[rows["repeat"] == 0], [MOTOR], n_labelled=33))["brier"]
    alone, few, single = (np.log(s.high / s.low) for s in (*wide, one))
    assert few > 1.1 * alone
    assert single > 1.3 * few


def test_a_proportion_of_none_or_all_reaches_its_end_exactly():
    for n in range(2, 60):
        for factor in (1.0, 2.2, 3.2):
            assert proportion_interval(np.zeros(n), np.arange(n), TEST_ONLY._replace(factor=factor))[0] == 0
            assert proportion_interval(np.ones(n), np.arange(n), TEST_ONLY._replace(factor=factor))[1] == 1


def test_a_recall_near_one_has_jeffreys_interval_of_as_many_single_calls_as_were_seen():
    """Oracle: statsmodels. A model that errs in one of three repeats is not known better than one that never errs."""
    from statsmodels.stats.proportion import proportion_confint

    alone = np.arange(26)
    for wrong in (0, 1, 5, 26):
        value = (alone >= wrong) * 1.0
        low, high = proportion_confint(26 - wrong, 26, method="jeffreys")
        expected = (0.0 if wrong == 26 else low, 1.0 if wrong == 0 else high)
        assert averaged_interval(value, alone, 1.0) == pytest.approx(expected)
    twins = averaged_interval(np.repeat(alone >= 5, 2) * 1.0, np.repeat(alone, 2), 1.0)
    assert twins == pytest.approx(proportion_confint(21, 26, method="jeffreys"))  # called alike, they count once
    lows = [averaged_interval(np.r_[np.ones(25), 1 - k / 3], alone, 1.1)[0] for k in range(4)]
    assert lows == sorted(lows, reverse=True)
    low, high = averaged_interval(np.r_[np.ones(16), np.full(10, 0.5)], alone, 1.0)  # half of the variance
    single = proportion_confint(21, 26, method="jeffreys")
    assert 0.68 < (high - low) / (single[1] - single[0]) < 0.78


def test_a_brier_interval_counts_what_varies_within_the_classes():
    """With constant losses within each class only the minimum remains, for any proportion of positives."""
    value, y = np.where(np.arange(40) < 8, 0.64, 0.04), (np.arange(40) < 8) * 1.0
    wide = METRICS["brier"].widening["procedure"]
    apart = positive_mean_interval(value, np.arange(40), wide, y)
    assert np.log(apart[1] / apart[0]) == pytest.approx(2.0227 * (wide.floor + wide.larger.floor) / 40, rel=1e-3)
    assert positive_mean_interval(value, np.arange(40), TEST_ONLY, y) == pytest.approx((value.mean(),) * 2)
    whole = positive_mean_interval(value, np.arange(40), TEST_ONLY)
    assert whole[1] - whole[0] > 0.5 * value.mean()
    noisy = value + np.random.default_rng(0).normal(0, 0.02, 40)
    inside = sum(((noisy[y == c] - noisy[y == c].mean()) ** 2).sum() * n / (n - 1) for c, n in ((1, 8), (0, 32)))
    low, high = positive_mean_interval(noisy, np.arange(40), TEST_ONLY, y)
    groups = noisy[:8], noisy[8:]
    welch = stats.ttest_ind(groups[0] * 8, groups[1] * 32, equal_var=False).df  # of the sum over both classes
    quantile = stats.t.ppf(0.975, welch)
    assert np.log(high / low) / 2 == pytest.approx(quantile * np.sqrt(inside * 40 / 39) / 40 / noisy.mean(), rel=1e-3)


def test_folds_whose_models_spread_alike_add_nothing_and_a_model_that_learns_by_chance_does():
    rng, fold = np.random.default_rng(1), np.repeat(np.arange(10), 20)[None]
    alike = [between_folds(rng.exponential(1.0, (1, 200)), fold) for _ in range(200)]
    assert np.mean(alike) < 0.6 / 20  # the variance of a mean of 20 is 1 / 20, and it is subtracted
    learnt = np.where(fold % 2 == 0, 1.0, 0.0) * rng.exponential(1.0, (1, 200))
    assert between_folds(learnt, fold) == pytest.approx(0.25, abs=0.15)
    assert between_folds(learnt[:, :20], fold[:, :20]) == 0  # not estimable from one fold


@pytest.mark.parametrize("mean", [1e-170, 1e-100, 1e-3])
def test_the_interval_of_a_loss_that_is_all_but_zero_is_that_of_any_other_in_its_own_unit(mean):
    """The square of 1e-170 underflows; the contribution of the training sets is then at its limit."""
    loss, strata, base = np.array([0.5, 1.0, 1.5, 0.8, 1.2, 1.0]), np.zeros(6), np.arange(1.0, 7.0)
    wide = METRICS["brier"].widening["procedure"]
    low, high = positive_mean_interval(loss * mean, np.arange(6), wide, strata, between=0.01)
    expected = positive_mean_interval(loss, np.arange(6), wide, strata, between=1e6)
    np.testing.assert_allclose([low / mean, high / mean], expected, rtol=1e-9)
    fit = METRICS["r2"].widening["procedure"]
    ends = r2_interval(loss * mean, base, np.arange(6), fit, between=0.01)
    assert 0 < ends[0] <= ends[1] <= 1


def test_one_family_alone_gives_scores_without_intervals_of_its_losses():
    predictions = table(np.random.default_rng(13), n=12, n_repeats=1, n_folds=2)
    family = dict.fromkeys(predictions["subject"].unique(), "one")
    found = by_metric(scores(predictions, [MOTOR], family))
    assert math.isfinite(found["brier"].value)
    assert math.isnan(found["brier"].low)
    assert all(not math.isinf(v) for s in found.values() for v in (s.value, s.low, s.high))


def test_rows_in_any_order_give_the_same_scores():
    predictions = table(np.random.default_rng(9))
    shuffled = predictions.sample(frac=1, random_state=0)
    assert scores(predictions, [MOTOR]) == scores(shuffled, [MOTOR])


def test_variance_of_the_complete_design_is_hanley_and_mcneils():
    auc, m, n = 0.8, 7, 26
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    average = (q1 + q2) / 2 - auc**2
    expected = (auc * (1 - auc) + (m - 1 + n - 1) * average) / (m * n)
    assert auc_variance(np.full((m, n), 3.0))(auc) == pytest.approx(expected)
    assert auc_variance(np.ones((m, n)))(1 - auc) == pytest.approx(expected)


def test_a_perfect_auc_of_few_subjects_still_has_an_interval():
    y = np.r_[np.ones(4), np.zeros(6)]
    pairs = within_fold_pairs(y, y[None], np.zeros((1, 10), dtype=int))
    low, high = auc_interval(pairs, np.arange(10), METRICS["auc"].widening["procedure"])
    assert 0.3 < low < 0.9
    assert high == 1


def test_wilson_interval_of_the_proportion_equals_statsmodels():
    from statsmodels.stats.proportion import proportion_confint

    value = np.r_[np.ones(5), np.zeros(14)]
    expected = proportion_confint(5, 19, method="wilson")
    assert proportion_interval(value, np.arange(19), TEST_ONLY) == pytest.approx(expected)


def test_pair_counts_of_many_labellings_agree_with_the_pairs_of_one():
    rng = np.random.default_rng(10)
    y = np.where(rng.random((33, 6)) < 0.4, 1.0, 0.0)
    y[rng.random(y.shape) < 0.15] = np.nan
    score = np.round(rng.normal(size=y.shape), 1)
    fold = np.arange(33) % 5
    won, met = within_fold_counts(y, score, fold)
    for k in range(6):
        seen = ~np.isnan(y[:, k])
        pairs = within_fold_pairs(y[seen, k], score[seen, k][None], fold[seen][None])
        assert (won[k], met[k]) == (pairs.won.sum(), pairs.met.sum())


@pytest.mark.parametrize(
    ("wreck", "message"),
    [
        (lambda t: t.drop(columns="fold"), "no fold"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "twice"),
        (lambda t: t.assign(y_score=t["y_score"].where(t.index != 5)), "not finite"),
        (lambda t: t.assign(y_true=t["y_true"].where(t.index != 5, 1 - t["y_true"])), "differs between repeats"),
    ],
)
def test_a_broken_table_is_refused_in_words(wreck, message):
    with pytest.raises(DataError, match=message):
        scores(wreck(table(np.random.default_rng(11))), [MOTOR])
