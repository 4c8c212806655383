"""Conformal sets, sample sizes, missing outcomes, the corrected t test: worked examples and simulations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from prediction_tables import LANGUAGE, MOTOR, table
from scipy import stats
from small_study import small_cohorts, small_settings

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.clinical.adequacy import riley_binary, riley_continuous
from connectome_tl.evaluation.clinical.missing_outcomes import (
    missing_outcomes,
    missingness_predictions,
    observation_probability,
    returners_against_lost,
    weighted_auc,
)
from connectome_tl.evaluation.intervals.conformal import conformal_check, fit_conformal_interval, fit_conformal_sets
from connectome_tl.evaluation.intervals.pairs import within_fold_pairs
from connectome_tl.evaluation.intervals.resampled import corrected_resampled_t
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import out_of_fold
from connectome_tl.settings.study import SplitSettings


def test_conformal_interval_takes_the_rank_that_theory_asks():
    y = np.arange(1.0, 10.0)  # residuals 1 to 9: ceil(0.8 * 10) = 8th
    assert fit_conformal_interval(np.zeros(9), y, 0.8).half_width == 8
    assert fit_conformal_interval(np.zeros(9), y, 0.9).half_width == 9
    assert fit_conformal_interval(np.zeros(8), y[:8], 0.9).half_width == np.inf


def test_conformal_sets_never_exclude_a_class_with_too_few_subjects():
    sets = fit_conformal_sets(np.r_[np.full(8, 0.9), np.linspace(0, 0.3, 40)], np.r_[np.ones(8), np.zeros(40)], 0.9)
    held = sets.holds(np.array([0.0, 0.5, 1.0]))
    assert held[:, 1].all()  # 8 positives: 9 / 10 cannot be guaranteed
    assert held[:, 0].tolist() == [True, False, False]


@pytest.mark.parametrize("binary", [True, False])
def test_sets_from_cross_validated_models_cover_new_infants_as_often_as_they_say(binary):
    """Calibrated out of fold, applied to the mean of the fold models, on 400 fresh subjects each time."""
    level, covered = 0.8, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((460, 30))
        value = x[:, 0] + rng.standard_normal(460)
        y = np.where(value > 0.5, 1.0, -1.0) if binary else value
        fold = np.arange(60) % 5
        models = [fit_ridge(x[:60][fold != k], y[:60][fold != k], (1.0, 10.0, 100.0)) for k in range(5)]
        predict = [m.predict_probability if binary else m.predict for m in models]
        out = np.array([predict[fold[i]](x[i : i + 1])[0, 0] for i in range(60)])
        new = np.mean([p(x[60:])[:, 0] for p in predict], axis=0)
        if binary:
            inside = fit_conformal_sets(out, (y[:60] > 0) * 1, level).holds(new)
            covered.append([inside[y[60:] > 0, 1].mean(), inside[y[60:] < 0, 0].mean()])
        else:
            low, high = fit_conformal_interval(out, y[:60], level).bounds(new)
            covered.append([((low <= y[60:]) & (y[60:] <= high)).mean()])
    for share in np.mean(covered, axis=0):
        assert 0.78 < share < 0.9


def test_conformal_check_reports_out_of_fold_coverage():
    rng = np.random.default_rng(1)
    rows = out_of_fold(table(rng, n=120), MOTOR, "full")
    found = conformal_check(rows, "motor", "full", binary=True, level=0.8)
    assert found.coverage == pytest.approx(0.8, abs=0.06)
    assert found.coverage_positive == pytest.approx(0.8, abs=0.08)
    assert found.both + found.empty < 1
    values = out_of_fold(table(rng, n=60, task="language", kind="regression"), LANGUAGE, "full")
    interval = conformal_check(values, "language", "full", binary=False, level=0.9)
    assert interval.coverage == pytest.approx(0.9, abs=0.05)
    assert interval.half_width == pytest.approx(16.4, rel=0.3)  # 1.64 SD of an error of 10


def test_rileys_sizes_equal_the_worked_examples_of_pmsampsize():
    binary = riley_binary(24, 0.174, 33, r2_cox_snell=0.288)
    assert dict(binary.criteria)["shrinkage of at most 10 %"] == 623
    assert dict(binary.criteria)["overall risk within 0.05"] == 221
    assert binary.needed == 662
    assert not binary.enough
    assert riley_continuous(25, 1000, r2=0.2).needed == 918
    assert riley_continuous(25, 1000, r2=0.2).enough


def test_thousands_of_edges_ask_for_thousands_of_infants():
    assert riley_binary(4005, 0.3, 33).needed > 50_000
    with pytest.raises(DataError):
        riley_binary(5, 0.0, 33)
    with pytest.raises(DataError, match="Cox-Snell"):
        riley_binary(5, 0.3, 33, r2_cox_snell=0.9)


def lost_table(seed=2, n=90):
    """A covariate affects both whether the outcome is observed and the accuracy of the score."""
    rng = np.random.default_rng(seed)
    predictions = table(rng, n=n)
    sick = rng.random(n) < 0.5
    observed = rng.random(n) < np.where(sick, 0.35, 0.95)
    subjects = predictions["subject"].unique()
    lost = predictions["subject"].isin(subjects[~observed])
    return predictions, predictions.assign(y_true=predictions["y_true"].mask(lost)), sick, observed, subjects


def test_best_and_worst_case_bound_what_the_missing_would_have_shown():
    full, known, *_ = lost_table()
    found = missing_outcomes(known, MOTOR, "full")
    truth = next(s.value for s in scores(full, [MOTOR]) if s.metric == "auc")
    assert found.worst_case < truth < found.best_case
    assert found.worst_case < found.complete_cases < found.best_case
    assert found.n_observed + found.n_missing == 90
    assert found.weighted == pytest.approx(found.complete_cases)  # no probabilities given: equal weights
    nothing = missing_outcomes(full, MOTOR, "full")
    assert nothing.best_case == nothing.worst_case == pytest.approx(truth)


@pytest.mark.parametrize("seed", range(4))
def test_no_outcomes_of_the_missing_lie_outside_best_and_worst_case(seed):
    rng = np.random.default_rng(seed)
    predictions = table(rng, n=24)
    subjects = sorted(predictions["subject"].unique())
    gone = subjects[:7]
    known = predictions.assign(y_true=predictions["y_true"].mask(predictions["subject"].isin(gone)))
    found = missing_outcomes(known, MOTOR, "full")
    for code in range(2**7):
        outcome = dict(zip(gone, map(float, f"{code:07b}")))
        filled = known.assign(y_true=known["y_true"].fillna(known["subject"].map(outcome)))
        rows = out_of_fold(filled, MOTOR, "full")
        auc = within_fold_pairs(rows.y_true, rows.score, rows.fold).auc
        assert found.worst_case - 1e-9 <= auc <= found.best_case + 1e-9


def test_weights_stand_for_those_like_the_missing():
    """Weighting by 1 / P(observed) equals repeating infants: an infant of weight 2 counts as two."""
    rows = out_of_fold(table(np.random.default_rng(3), n_repeats=1), MOTOR, "full")
    weight = np.where(np.arange(40) % 3 == 0, 2.0, 1.0)
    again = np.r_[np.arange(40), np.flatnonzero(weight == 2)]
    repeated = pd.DataFrame(
        {
            "subject": [f"x{i}" for i in range(again.size)], "task": "motor", "model": "full", "repeat": 0,
            "fold": rows.fold[0, again], "y_true": rows.y_true[again], "y_score": rows.score[0, again],
            "y_pred": rows.predicted[0, again],
        }
    )  # fmt: skip
    expected = next(s.value for s in scores(repeated, [MOTOR]) if s.metric == "auc")
    assert weighted_auc(rows, weight) == pytest.approx(expected)


def test_observation_probability_finds_who_stays_away_and_the_table_shows_it():
    _, _, sick, observed, _ = lost_table(n=300)
    covariates = pd.DataFrame({"sick": sick.astype(float), "noise": np.random.default_rng(4).normal(size=300)})
    probability = observation_probability(covariates.to_numpy(), observed)
    assert probability[sick].mean() == pytest.approx(observed[sick].mean(), abs=0.03)
    assert probability[~sick].mean() == pytest.approx(observed[~sick].mean(), abs=0.03)
    differences = {d.variable: d for d in returners_against_lost(covariates, observed)}
    assert differences["sick"].standardised_difference < -0.5
    assert abs(differences["noise"].standardised_difference) < 0.35
    assert differences["sick"].n_returned == observed.sum()
    assert (observation_probability(covariates.to_numpy(), np.ones(300, dtype=bool)) == 1).all()


def test_a_model_of_what_is_missing_finds_an_outcome_that_hides_there_and_is_silent_without_gaps():
    target = small_cohorts(n_target=60).target
    splits = make_split_plan(target, SplitSettings(repeats=1, outer=3, stratum="cognitive"))
    tasks, study = (target.task("cognitive"),), small_settings()
    whole = replace(target, covariates=target.covariates.fillna(0), node_mask=np.ones_like(target.node_mask))
    assert missingness_predictions(study, whole, splits, tasks).empty
    gone = (target.targets["cognitive"] == 1) & (np.arange(60) % 4 > 0)
    told = replace(whole, covariates=whole.covariates.assign(birth_weight=whole.covariates["birth_weight"].mask(gone)))
    (auc,) = (s for s in scores(missingness_predictions(study, told, splits, tasks), tasks) if s.metric == "auc")
    assert auc.model == "missingness_only"
    assert auc.value > 0.75


def test_missing_outcomes_of_a_regression_are_refused_in_words():
    with pytest.raises(DataError, match="binary"):
        missing_outcomes(table(np.random.default_rng(5), task="language", kind="regression"), LANGUAGE, "full")


def test_corrected_t_of_a_case_worked_by_hand():
    """Mean 0.02, variance 2.5e-4, 5 folds of 20 in 100: t = 0.02 / sqrt((1/5 + 1/4) * 2.5e-4)."""
    gaps = np.array([0.0, 0.01, 0.02, 0.03, 0.04])
    found = corrected_resampled_t(gaps, 80, 20, widening=1.0)
    assert found.t == pytest.approx(0.02 / np.sqrt(0.45 * 2.5e-4))
    assert found.p_value == pytest.approx(2 * stats.t.sf(found.t, 4))
    assert found.low < 0 < found.difference < found.high
    assert corrected_resampled_t(gaps, 80, 20).p_value > found.p_value
    # Without the correction it is the ordinary t test.
    plain = stats.ttest_1samp(gaps, 0)
    assert corrected_resampled_t(gaps, 1e12, 1, widening=1.0).p_value == pytest.approx(plain.pvalue)
    with pytest.raises(DataError, match="paired difference"):
        corrected_resampled_t(np.ones(30), 33, 329)
