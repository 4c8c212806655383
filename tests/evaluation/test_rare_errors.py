"""Scores without a visible error have intervals that allow for some."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from connectome_tl.evaluation.intervals.calls import call_intervals
from connectome_tl.evaluation.scores.compare import comparisons
from connectome_tl.evaluation.scores.losses import brier_interval, two_valued, unseen_errors
from connectome_tl.evaluation.scores.metrics import scores, task_scores
from connectome_tl.evaluation.scores.predictions import OutOfFold, prediction_rows
from connectome_tl.report.text.verdict import task_verdicts
from connectome_tl.tasks import Task

N = 33
FOLD = np.array([np.arange(N) % 5, np.arange(N) % 4])
Y = (np.arange(N) % 3 == 0) * 1.0
MOTOR = Task(name="motor", kind="binary", column="motor")
IQ = Task(name="iq", kind="regression", column="iq")
SEVERITY = Task(name="severity", kind="ordinal", column="severity", levels=("none", "mild", "severe"))


def rows(risk, cluster=None):
    both = np.array([risk, risk])
    return OutOfFold(
        np.arange(N).astype(str), Y, both, (both > 0.5) * 1.0, FOLD, np.arange(N) if cluster is None else cluster
    )


def predicted(task, y, outputs):
    tables = []
    for model, given in outputs.items():
        for repeat, fold in enumerate(FOLD):
            for k in np.unique(fold):
                at = fold == k
                ids = [f"s{i:02d}" for i in np.flatnonzero(at)]
                tables.append(prediction_rows(task, model, repeat, int(k), ids, y[at], given[at], 0.5))
    return pd.concat(tables, ignore_index=True)


def test_the_brier_interval_of_sure_and_right_risks_allows_for_rare_errors():
    value, low, high = brier_interval("brier", rows(np.abs(Y - 0.01)), "procedure")
    assert value == pytest.approx(1e-4)
    assert low <= value
    exact = 1 - 0.05 ** (1 / N)  # the one-sided end of 0 of 33
    assert high > exact
    assert brier_interval("brier", rows(Y), "procedure")[2] > exact


def test_more_subjects_leave_fewer_unseen_errors_and_fewer_families_more():
    pairs = np.arange(N) // 2
    sure = np.abs(Y - 0.01)
    assert unseen_errors(rows(sure, pairs)) > unseen_errors(rows(sure)) > 0
    assert unseen_errors(rows(np.full(N, 0.4))) == 0  # nobody is predicted positive
    assert unseen_errors(rows(0.45 + 0.1 * Y)) < 0.02  # wrong and right risks have about the same loss


def sure_but_for(n_wrong, spread=0.0, repeats=2):
    """Risks of 0.01 and 0.99 (less a spread) of which the last ones are wrong."""
    wrong = np.arange(N) >= N - n_wrong
    risk = np.abs(np.where(wrong, 1 - Y, Y) - 0.01 - spread * np.random.default_rng(1).random(N))
    return OutOfFold(
        np.arange(N).astype(str), Y, np.tile(risk, (repeats, 1)), np.tile((risk > 0.5) * 1.0, (repeats, 1)),
        np.array([(np.arange(N) + k) % 5 for k in range(repeats)]), np.arange(N),
    )  # fmt: skip


def test_losses_of_a_stable_and_sure_learner_have_the_upper_end_of_a_proportion():
    """The loss of a subject is 0.0001 or 0.9801: their mean is a proportion."""
    for n_wrong in (1, 2, 3):
        found = sure_but_for(n_wrong)
        assert two_valued(found) == pytest.approx(1.0)
        value, low, high = brier_interval("brier", found, "procedure")
        assert high == pytest.approx(value + unseen_errors(found))
        exact = stats.beta.ppf(0.95, n_wrong + 1, N - n_wrong)  # Clopper and Pearson's upper end, one-sided 5 %
        assert low < n_wrong / N < 0.98 * exact < high


def test_the_upper_end_is_that_of_the_loss_if_it_varies_or_the_stability_is_unknown():
    plain, once, varied = sure_but_for(2), sure_but_for(2, repeats=1), sure_but_for(2, spread=0.6)
    assert two_valued(once) == 0.0
    assert two_valued(varied) == 0.0
    ends = [brier_interval("brier", one, "procedure") for one in (plain, once)]
    assert ends[1][2] > 1.05 * ends[0][2]


@pytest.mark.parametrize(("task", "y"), [(IQ, 90 + np.arange(N) * 1.0), (SEVERITY, np.arange(N) % 3 * 1.0)])
def test_a_model_that_reproduces_every_value_is_better_than_chance_and_suspected_of_a_leak(task, y):
    perfect = y if task is IQ else np.eye(3)[y.astype(int)]
    mean = np.full(N, y.mean()) if task is IQ else np.full((N, 3), 1 / 3)
    table = predicted(task, y, {"full": perfect, "prevalence": mean})
    found = scores(table, [task])
    (said,) = task_verdicts([task], found, comparisons(table, [task]))
    assert "predicted better than" in said.headline
    assert "Every prediction equals its outcome: check for leakage." in said.caution
    assert not any("inconclusive" in line or "not estimable" in line for line in said.caution)
    for score in found:
        if score.model == "full":
            assert score.low < score.high
            assert score.low <= score.value <= score.high
            assert score.fitted_low < score.fitted_high


def test_a_perfect_model_on_one_family_has_no_interval():
    table = predicted(IQ, 90 + np.arange(N) * 1.0, {"full": 90 + np.arange(N) * 1.0, "prevalence": np.full(N, 106.0)})
    for score in scores(table, [IQ], {f"s{i:02d}": "one" for i in range(N)}):
        if score.model == "full":
            assert np.isnan(score.low)
            assert np.isnan(score.high)


@pytest.mark.parametrize("risk", [Y, 1.0 - Y])
def test_risks_of_0_and_1_have_no_calibration_and_a_reason(risk):
    found = {score.metric: score for score in task_scores(rows(risk), MOTOR, "full")}
    for name in ("calibration_intercept", "calibration_slope"):
        assert np.isnan(found[name].value)
        assert found[name].reason


def test_calls_of_half_by_an_uninformative_model_are_less_certain_unless_half_are_positive():
    called = (np.arange(40) % 2) * 1.0
    for n_positive, wider in ((18, True), (20, False)):
        positive = np.arange(40) < n_positive
        sure, open_ = (call_intervals(called, positive, np.arange(40), auc) for auc in ((0.61, 0.9), (0.4, 0.9)))
        widths = [one.sensitivity[2] - one.sensitivity[1] for one in (sure, open_)]
        assert (widths[1] > 1.1 * widths[0]) == wider
