"""A short version of benchmarks/coverage.py: intervals contain the true value."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def coverage():
    path = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_intervals_hold_the_truth_where_the_test_only_interval_does_not(coverage):
    cell = coverage.Cell(33, 16, 0.9, repeats=3, n_features=100, n_signal=20)
    tallies = coverage.run(cell, 300, seed=5)
    # 300 studies: with a true coverage of 0.95, the result is below 0.91 once in a thousand times.
    for metric, tally in tallies.items():
        for estimand in ("procedure", "fitted"):
            assert tally.coverage(estimand) > 0.91, (metric, estimand)
    assert tallies["auc"].coverage("plain") < 0.91


def test_the_least_mean_width_of_a_location_family_is_that_of_pratt(coverage, monkeypatch):
    """Normal estimates of the true value: the integral of 1 - power of the tests of level 0.07 is known."""
    monkeypatch.setitem(sys.modules, "coverage", coverage)
    path = Path(coverage.__file__).with_name("least_width.py")
    spec = importlib.util.spec_from_file_location("least_width_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    edges = np.linspace(-6, 6, 2001)

    def frequencies(truth):
        return np.diff(stats.norm.cdf(edges, truth, 1.0))

    truths = np.linspace(-5, 5, 201)
    power = np.array([module.power(frequencies(0.0), frequencies(truth)) for truth in truths])
    assert power[100] == pytest.approx(0.07, abs=1e-6)
    expected = stats.norm.cdf(np.abs(truths) - stats.norm.ppf(0.93))  # one-sided tests
    assert np.abs(power - expected).max() < 0.01
    assert (1 - power).mean() * 10 == pytest.approx(
        2 * stats.norm.expect(lambda x: max(x, 0.0), loc=stats.norm.ppf(0.93)), rel=0.01
    )
