"""The linear part of confounds equals statsmodels', on the rows that have the edge, with the training rows' levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from connectome_tl.errors import DataError, UsageError
from connectome_tl.features.confounds import ConfoundModel, confound_levels, confound_table

IDS = tuple(f"s{i}" for i in range(12))


def edges(n_subjects: int = 12, n_regions: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.gamma(2.0, 3.0, (n_subjects, 2, n_regions, n_regions)).astype(np.float32)
    weights = weights + weights.transpose(0, 1, 3, 2)
    return weights, np.ones((n_subjects, n_regions), dtype=bool)


def test_confound_removal_is_the_residual_of_least_squares_plus_the_mean() -> None:
    import statsmodels.api as sm

    weights, mask = edges(40, 4)
    rng = np.random.default_rng(2)
    table = np.column_stack([rng.normal(40, 2, 40), rng.integers(0, 2, 40)])
    weights[:, 0, 1, 2] += (0.5 * table[:, 0]).astype(np.float32)
    train, test = np.arange(30), np.arange(30, 40)
    model = ConfoundModel.fit(weights[train], mask[train], table[train], ("age", "sex"), IDS)
    cleaned = model.apply(weights, table)
    for edge in [(0, 1, 2), (1, 0, 3)]:
        y = weights[(slice(None), *edge)].astype(float)
        ols = sm.OLS(y[train], sm.add_constant(table[train])).fit()
        assert_allclose(cleaned[(train, *edge)], ols.resid + y[train].mean(), rtol=1e-4, atol=1e-5)
        predicted = ols.predict(sm.add_constant(table[test]))
        assert_allclose(cleaned[(test, *edge)], y[test] - predicted + y[train].mean(), rtol=1e-4, atol=1e-5)


def test_confounds_of_an_edge_are_fitted_on_those_who_have_it() -> None:
    import statsmodels.api as sm

    weights, mask = edges(30, 4)
    table = np.random.default_rng(2).normal(40, 2, (30, 1))
    mask[:8, 3] = False
    for stored in (0.0, 1e9, np.nan):
        spoiled = weights.copy()
        spoiled[:8, :, 3] = spoiled[:8, :, :, 3] = stored
        model = ConfoundModel.fit(spoiled, mask, table, ("age",), IDS)
        ols = sm.OLS(weights[8:, 0, 1, 3].astype(float), sm.add_constant(table[8:])).fit()
        assert_allclose(model.slopes[0, 0, 1, 3], ols.params[1], rtol=1e-6)
        whole = sm.OLS(weights[:, 0, 1, 2].astype(float), sm.add_constant(table)).fit()
        assert_allclose(model.slopes[0, 0, 1, 2], whole.params[1], rtol=1e-6)


def test_an_unknown_confound_counts_as_the_mean_and_a_constant_one_as_nothing() -> None:
    weights, mask = edges()
    table = np.column_stack([np.linspace(38, 44, 12), np.full(12, 3.0)])
    model = ConfoundModel.fit(weights, mask, table, ("age", "constant"), IDS)
    at_mean = model.apply(weights, np.tile([41.0, np.nan], (12, 1)))
    assert_allclose(at_mean, weights)
    assert_allclose(model.apply(weights, np.tile([np.nan, 100.0], (12, 1))), weights)


def test_confounds_are_read_with_the_levels_of_the_training_rows() -> None:
    table = pd.DataFrame({"sex": ["F", "M", None, "X"], "fd": [1.0, np.e, 2.0, 3.0]})
    age = np.array([40.0, 41, 42, 43])
    levels = confound_levels(("sex", "log(fd)", "age"), table.iloc[:2])
    found = confound_table(("age", "sex", "log(fd)"), table, age, "c", levels)
    assert_array_equal(found[:, 0], age)
    assert_array_equal(found[:, 1], [0, 1, np.nan, np.nan])
    assert_allclose(found[:2, 2], [0, 1])
    with pytest.raises(UsageError, match="no column 'site'"):
        confound_table(("site",), table, age, "c", {})
    with pytest.raises(UsageError, match="3 categories"):
        confound_levels(("sex",), table)
    with pytest.raises(DataError, match="logarithm"):
        confound_table(("log(fd)",), table.assign(fd=0.0), age, "c", {})
