"""Planned studies have the requested R2 and gain; power increases with them and with n."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.evaluation import planning, power
from connectome_tl.evaluation.planning import penalty, plan_binary, plan_regression, strength
from connectome_tl.evaluation.power import N_FEATURES
from connectome_tl.tasks import Task

MOTOR = Task(name="motor", kind="binary", column="motor")
SCORE = Task(name="score", kind="regression", column="score")


@pytest.fixture(autouse=True)
def _few_studies(monkeypatch):
    monkeypatch.setattr(planning, "N_STUDIES", 60)
    monkeypatch.setattr(power, "N_STUDIES", 100)
    power._power_at.cache_clear()
    yield
    power._power_at.cache_clear()


def test_ridge_fitted_in_training_folds_has_the_asked_r2_on_new_subjects():
    rng, n, n_train = np.random.default_rng(0), 40, 32
    signal = strength(0.3, n, 5)
    beta = np.sqrt(signal)
    error = base = 0.0
    for _ in range(300):
        x, new = rng.standard_normal((n_train, N_FEATURES)), rng.standard_normal((200, N_FEATURES))
        y = beta * x[:, 0] + rng.standard_normal(n_train)
        truth = beta * new[:, 0] + rng.standard_normal(200)
        z = x - x.mean(axis=0)
        weights = np.linalg.solve(z.T @ z + penalty(signal) * np.eye(N_FEATURES), z.T @ (y - y.mean()))
        predicted = y.mean() + (new - x.mean(axis=0)) @ weights
        error, base = error + ((predicted - truth) ** 2).mean(), base + ((y.mean() - truth) ** 2).mean()
    assert 1 - error / base == pytest.approx(0.3, abs=0.02)


@pytest.mark.slow
def test_planned_gains_are_those_asked_for(monkeypatch):
    """The mean difference of simulated studies is the true gain (large cohorts, where the sampling error is small)."""
    seen = []
    real = planning.paired_difference

    def spy(*arguments):
        found = real(*arguments)
        seen.append(found.value)
        return found

    monkeypatch.setattr(planning, "paired_difference", spy)
    monkeypatch.setattr(planning, "GAINS", (0.15,))
    assert plan_regression(SCORE, 300) is not None
    assert np.mean(seen) == pytest.approx(0.15, abs=0.02)
    seen.clear()
    assert plan_binary(MOTOR, 120, 180) is not None
    assert np.mean(seen) == pytest.approx(0.15, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("few", "many"), [((9, 24), (60, 140))])
def test_widths_shrink_and_chances_grow_with_the_size_and_the_truth(few, many):
    for small, large in (
        (plan_binary(MOTOR, *few), plan_binary(MOTOR, *many)),
        (plan_regression(SCORE, sum(few)), plan_regression(SCORE, sum(many))),
    ):
        assert small is not None
        assert large is not None
        for one in (small, large):
            assert list(one.found) == sorted(one.found)
            assert list(one.gain_found) == sorted(one.gain_found)
        assert all(a > b for a, b in zip(small.width, large.width, strict=True))
        assert all(a > b for a, b in zip(small.gain_width, large.gain_width, strict=True))
        assert large.found[-1] > 0.95
        assert small.gain_found[0] < 0.2  # 0.05 cannot be shown with 33 subjects


def test_sizes_that_are_not_simulated_have_no_plan():
    assert plan_binary(MOTOR, 2, 30) is None
    assert plan_regression(SCORE, 19) is None
    assert plan_regression(SCORE, 501) is None
