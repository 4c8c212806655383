"""The ridge regression on few columns is that of refits without each family."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from connectome_tl.training.closed_form.ridge import fit_few_columns

PENALTIES = np.logspace(-2, 3, 11)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("n_families", "n_columns"), [(12, 3), (10, 40)])
def test_the_penalty_has_the_least_error_on_families_that_were_left_out(
    size: int, n_families: int, n_columns: int
) -> None:
    rng = np.random.default_rng(n_columns)
    families = rng.permutation(np.repeat(np.arange(n_families), size))
    x = rng.normal(size=(len(families), n_columns)) + rng.normal(size=(n_families, n_columns))[families] + 3
    y = x[:, 0] + 2 * rng.normal(size=n_families)[families] - 5

    def error(penalty: float) -> float:
        found = 0.0
        for family in range(n_families):
            out = families == family
            found += ((Ridge(penalty).fit(x[~out], y[~out]).predict(x[out]) - y[out]) ** 2).sum()
        return found

    best = Ridge(min(PENALTIES, key=error)).fit(x, y)
    slopes, intercept = fit_few_columns(x, y, families, PENALTIES)
    np.testing.assert_allclose(slopes, best.coef_, atol=1e-8)
    assert intercept == pytest.approx(best.intercept_)
    if size == 1:
        np.testing.assert_allclose(slopes, RidgeCV(PENALTIES).fit(x, y).coef_, atol=1e-8)


@pytest.mark.parametrize("n_columns", [1, 3])
def test_columns_that_are_constant_predict_the_mean(n_columns: int) -> None:
    """As the scores of a network that gives every subject the same embedding."""
    y = np.array([1.0, 2.0, 4.0, 0.0])
    slopes, intercept = fit_few_columns(np.full((4, n_columns), 0.3), y, list("abcd"), PENALTIES)
    assert (slopes == 0).all()
    assert intercept == pytest.approx(y.mean())
