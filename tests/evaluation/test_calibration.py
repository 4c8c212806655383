"""Calibration, recalibration and net benefit compared with statsmodels, scikit-learn and worked examples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from prediction_tables import LANGUAGE, MOTOR, table
from sklearn.metrics import brier_score_loss

from connectome_tl.errors import DataError
from connectome_tl.evaluation.clinical.calibration import (
    calibration_curve,
    calibration_scores,
    fit_platt,
    logit,
    threshold_at_specificity,
)
from connectome_tl.evaluation.clinical.net_benefit import decision_curve, subgroup_scores
from connectome_tl.evaluation.scores.metrics import task_scores
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold
from connectome_tl.settings.metrics import METRICS, Widening


def rows_of(y, score, fold=None):
    y, score = np.asarray(y, dtype=float), np.atleast_2d(np.asarray(score, dtype=float))
    fold = np.zeros_like(score, dtype=int) if fold is None else fold
    return OutOfFold(
        np.array([f"s{i:03d}" for i in range(y.size)]), y, score, (score > 0.5) * 1.0, fold, np.arange(y.size)
    )


def by_metric(found):
    return {s.metric: s for s in found}


def simulated(n=300, slope=2.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.5, 1, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(float)
    return y, 1 / (1 + np.exp(-slope * x))


def test_intercept_and_slope_and_their_sandwich_errors_equal_statsmodels(monkeypatch):
    for name in ("calibration_intercept", "calibration_slope"):
        plain = replace(METRICS[name], widening=dict.fromkeys(("procedure", "fitted"), Widening(1.0)))
        monkeypatch.setitem(METRICS, name, plain)
    y, p = simulated()
    found = by_metric(calibration_scores(rows_of(y, p), MOTOR, "full"))
    family = sm.families.Binomial()
    offset = sm.GLM(y, np.ones((y.size, 1)), family=family, offset=logit(p)).fit(cov_type="HC0")
    slope = sm.GLM(y, sm.add_constant(logit(p)), family=family).fit(cov_type="HC0")
    for metric, value, error in (
        ("calibration_intercept", offset.params[0], offset.bse[0]),
        ("calibration_slope", slope.params[1], slope.bse[1]),
    ):
        assert found[metric].value == pytest.approx(value, abs=1e-6)
        half = (found[metric].high - found[metric].low) / 2
        # t quantile of 299 and n / (n - 1) against statsmodels' plain error
        assert half == pytest.approx(1.96793 * error * np.sqrt(300 / 299), rel=1e-4)


def test_risks_twice_too_extreme_have_a_slope_of_a_half_and_true_risks_of_one():
    for stretch, expected in ((2.0, 0.5), (1.0, 1.0)):
        y, p = simulated(n=5000, slope=stretch, seed=1)
        found = by_metric(calibration_scores(rows_of(y, p), MOTOR, "full"))
        assert found["calibration_slope"].low < expected < found["calibration_slope"].high
        assert found["calibration_slope"].value == pytest.approx(expected, rel=0.1)


def test_scaled_brier_is_relative_to_the_prevalence():
    y, p = simulated(seed=2)
    found = by_metric(calibration_scores(rows_of(y, p), MOTOR, "full"))
    expected = 1 - brier_score_loss(y, p) / (y.mean() * (1 - y.mean()))
    assert found["scaled_brier"].value == pytest.approx(expected)
    assert found["scaled_brier"].low < expected < found["scaled_brier"].high


@pytest.mark.parametrize("y", [[0, 0, 0, 1, 1, 1], [0] * 6])
def test_separated_or_single_classes_are_undefined_not_infinite(y):
    found = by_metric(calibration_scores(rows_of(y, np.linspace(0.1, 0.9, 6)), MOTOR, "full"))
    assert np.isnan(found["calibration_slope"].value)
    assert np.isnan(found["calibration_slope"].low)


def test_curve_groups_hold_everyone_and_average_the_risk():
    y, p = simulated(n=33, seed=3)
    curve = calibration_curve(rows_of(y, p), "motor", "full")
    assert sum(curve.n) == 33
    assert min(curve.n) >= 10
    assert np.average(curve.observed, weights=curve.n) == pytest.approx(y.mean())
    assert np.average(curve.predicted, weights=curve.n) == pytest.approx(p.mean())
    assert all(a <= b <= c for a, b, c in zip(curve.low, curve.observed, curve.high))


def test_platt_mends_stretched_risks_and_never_turns_their_order():
    y, p = simulated(n=4000, slope=3.0, seed=4)
    fixed = fit_platt(p, y).apply(p)
    found = by_metric(calibration_scores(rows_of(y, fixed), MOTOR, "full"))
    assert found["calibration_slope"].value == pytest.approx(1, abs=0.02)
    assert found["calibration_intercept"].value == pytest.approx(0, abs=0.02)
    turned = fit_platt(1 - p[:30], y[:30])
    assert turned.slope > 0
    separated = fit_platt(np.linspace(0.1, 0.9, 6), np.array([0, 0, 0, 1, 1, 1]))
    assert np.isfinite(separated.apply(np.array([0.0, 1.0]))).all()
    temperature = fit_platt(p, y, method="temperature")
    assert temperature.intercept == 0
    assert temperature.slope == pytest.approx(1 / 3, rel=0.05)  # the risks were three times too extreme
    with pytest.raises(DataError, match="labels"):
        fit_platt(p[:1], y[:1])


def test_platt_and_temperature_equal_statsmodels_on_softened_labels():
    import statsmodels.api as sm

    y, p = simulated(n=60, slope=2.0, seed=9)
    softened = np.where(y == 1, (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2))
    x = np.log(p / (1 - p))
    for method, design in (("platt", sm.add_constant(x)), ("temperature", x[:, None])):
        expected = sm.GLM(softened, design, family=sm.families.Binomial()).fit(tol=1e-12).params
        found = fit_platt(p, y, method=method)
        assert found.slope == pytest.approx(expected[-1], rel=1e-4)
        assert found.intercept == pytest.approx(expected[0] if method == "platt" else 0.0, abs=1e-4)


def test_threshold_keeps_the_asked_specificity_and_no_smaller_one_does():
    rng = np.random.default_rng(5)
    p, y = np.round(rng.random(40), 2), (rng.random(40) < 0.3).astype(int)
    threshold = threshold_at_specificity(p, y, 0.8)
    assert (p[y == 0] < threshold).mean() >= 0.8
    below = p[y == 0][p[y == 0] < threshold].max()
    assert (p[y == 0] < below).mean() < 0.8


def test_net_benefit_of_a_case_worked_by_hand():
    """10 infants, 4 positive; at 0.25 three positives and two negatives are acted on: 3/10 - 2/10 * 1/3."""
    y = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    p = [0.9, 0.6, 0.3, 0.1, 0.7, 0.25, 0.2, 0.1, 0.1, 0.0]
    curve = decision_curve(rows_of(y, p), "motor", "full", (0.25, 0.65))
    assert curve.net_benefit == pytest.approx((0.3 - 0.2 / 3, 0.1 - 0.1 * 0.65 / 0.35))
    assert curve.treat_all == pytest.approx((0.4 - 0.6 / 3, 0.4 - 0.6 * 0.65 / 0.35))
    assert all(low < value < high for low, value, high in zip(curve.low, curve.net_benefit, curve.high))
    with pytest.raises(DataError, match="threshold"):
        decision_curve(rows_of(y, p), "motor", "full", (1.0,))


def test_small_groups_are_suppressed_and_large_ones_scored_alone():
    predictions = table(np.random.default_rng(6), n=120)
    rows = out_of_fold(predictions, MOTOR, "full")
    names = np.repeat(["a", "b", "c", "", "d"], [40, 34, 30, 8, 8])
    groups = dict(zip(rows.subjects, names))
    found = {g.group: g for g in subgroup_scores(rows, groups, "site", MOTOR, "full")}
    assert {g: v.n for g, v in found.items()} == {"a": 40, "b": 34, "c": 30, "d": None, "unknown": None}
    assert {g for g, v in found.items() if v.score is None} == {"d", "unknown"}
    alone = out_of_fold(predictions[predictions["subject"].isin(rows.subjects[:40])], MOTOR, "full")
    assert found["a"].score == task_scores(alone, MOTOR, "full")[0]


def test_a_small_group_cannot_be_worked_out_from_the_others():
    rows = out_of_fold(table(np.random.default_rng(6), n=80), MOTOR, "full")
    groups = {s: ("a" if i < 40 else "b" if i < 72 else "c") for i, s in enumerate(rows.subjects)}
    found = {g.group: g for g in subgroup_scores(rows, groups, "site", MOTOR, "full")}
    assert {g: v.n for g, v in found.items()} == {"a": 40, "b": None, "c": None}
    assert [g for g, v in found.items() if v.score is not None] == ["a"]


def test_groups_of_a_regression_are_compared_by_their_absolute_error():
    rows = out_of_fold(table(np.random.default_rng(7), n=30, task="language", kind="regression"), LANGUAGE, "full")
    found = subgroup_scores(rows, dict.fromkeys(rows.subjects, "all"), "sex", LANGUAGE, "full")
    assert found[0].score is not None
    assert found[0].score.value == pytest.approx(np.abs(rows.predicted - rows.y_true).mean())
