"""The batched linear models give scikit-learn's scores, and never use test rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV, RidgeCV
from sklearn.preprocessing import StandardScaler

from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.engines.linear import fit_edge_scaler, fit_ridge, probability_from_ridge
from connectome_tl.evaluation.baselines.engines.logistic import fit_logistic

ALPHAS = tuple(np.logspace(0, 5, 9))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def _rows(rng, n_train=33, n_test=9, n_edges=400, n_labellings=12):
    x = rng.standard_normal((n_train + n_test, n_edges)) * rng.uniform(0.1, 5, n_edges) + 3
    y = np.where(rng.random((n_train, n_labellings)) < 0.4, 1.0, -1.0)
    y[0], y[1] = 1.0, -1.0
    return x[:n_train], x[n_train:], y


@pytest.mark.parametrize("n_edges", [5, 400])
def test_ridge_classifier_scores_and_alphas_equal_scikit_learn(rng, n_edges):
    x, x_test, y = _rows(rng, n_edges=n_edges)
    fit = fit_ridge(x, y, ALPHAS)
    scaler = StandardScaler().fit(x)
    for k in range(y.shape[1]):
        oracle = RidgeClassifierCV(ALPHAS).fit(scaler.transform(x), y[:, k])
        assert fit.alpha[k] == pytest.approx(oracle.alpha_)
        assert fit.predict(x_test)[:, k] == pytest.approx(oracle.decision_function(scaler.transform(x_test)), abs=1e-8)


def test_ridge_regression_equals_scikit_learn_for_wide_and_tall_data(rng):
    for n, p in ((30, 300), (80, 6)):
        x = rng.standard_normal((n, p))
        y = x[:, :3].sum(axis=1) + rng.standard_normal(n) + 100
        fit = fit_ridge(x[:-5], y[:-5], ALPHAS)
        scaler = StandardScaler().fit(x[:-5])
        oracle = RidgeCV(ALPHAS).fit(scaler.transform(x[:-5]), y[:-5])
        assert fit.predict(x[-5:])[:, 0] == pytest.approx(oracle.predict(scaler.transform(x[-5:])), abs=1e-7)
        assert fit.coefficients()[:, 0] == pytest.approx(oracle.coef_, abs=1e-7)


def test_missing_outcomes_drop_that_row_for_that_labelling_only(rng):
    x, x_test, y = _rows(rng)
    y[rng.random(y.shape) < 0.2] = np.nan
    fit, logistic = fit_ridge(x, y, ALPHAS), fit_logistic(x, (y + 1) / 2, (30.0,))
    z, z_test = fit.scaler.transform(x), fit.scaler.transform(x_test)
    for k in range(y.shape[1]):
        seen = ~np.isnan(y[:, k])
        oracle = RidgeCV(ALPHAS).fit(z[seen], y[seen, k])
        assert fit.predict(x_test)[:, k] == pytest.approx(oracle.predict(z_test), abs=1e-8)
        model = LogisticRegression(C=1 / 30, tol=1e-12, solver="newton-cholesky").fit(z[seen], y[seen, k])
        assert logistic.predict(x_test)[:, k] == pytest.approx(model.decision_function(z_test), abs=1e-5)
    assert (fit.dual[np.isnan(y)] == 0).all()


@pytest.mark.parametrize("alpha", [0.01, 1.0, 1000.0])
def test_logistic_scores_equal_scikit_learn(rng, alpha):
    x, x_test, y = _rows(rng)
    fit = fit_logistic(x, (y + 1) / 2, (alpha,))
    scaler = StandardScaler().fit(x)
    for k in range(3):
        oracle = LogisticRegression(C=1 / alpha, tol=1e-10, max_iter=10_000).fit(scaler.transform(x), y[:, k] > 0)
        expected = oracle.predict_proba(scaler.transform(x_test))[:, 1]
        assert fit.predict_probability(x_test)[:, k] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_approximate_leave_one_out_chooses_as_the_exact_one(rng):
    x, _, y = _rows(rng, n_train=24, n_edges=60, n_labellings=8)
    x[:, :10] += y[:, :1]
    alphas = (1.0, 30.0, 1000.0, 30000.0)
    chosen = fit_logistic(x, (y + 1) / 2, alphas).alpha
    z = fit_edge_scaler(x).transform(x)
    for k in range(y.shape[1]):
        exact = []
        for alpha in alphas:
            model = LogisticRegression(C=1 / alpha, tol=1e-10, max_iter=10_000)
            loss = 0.0
            for i in range(len(x)):
                rest = np.arange(len(x)) != i
                probability = model.fit(z[rest], y[rest, k] > 0).predict_proba(z[i : i + 1])[0, 1]
                loss -= np.log(probability if y[i, k] > 0 else 1 - probability)
            exact.append(loss / len(x))
        assert exact[alphas.index(chosen[k])] <= min(exact) + 0.02


def test_one_class_in_training_gives_the_base_rate_not_an_explosion(rng):
    x, x_test, _ = _rows(rng)
    ones = np.ones(len(x))
    assert fit_logistic(x, ones, (1.0,)).predict_probability(x_test) == pytest.approx(33.5 / 34)
    assert fit_ridge(x, ones).predict(x_test) == pytest.approx(1.0)


def test_constant_edges_are_dropped_and_masked_edges_take_the_training_mean(rng):
    x, x_test, y = _rows(rng, n_edges=50)
    x[:, 3], x_test[:, 3] = 0.1 + 0.2, 77.0  # constant in training
    x[:, 4] = np.nan  # never seen in training
    x[:5, 6] = np.nan
    fit = fit_ridge(x, y)
    assert not fit.scaler.kept[[3, 4]].any()
    assert fit.scaler.kept.sum() == 48
    assert fit.scaler.mean[6] == pytest.approx(x[5:, 6].mean())
    at_mean = x_test.copy()
    at_mean[:, 6] = fit.scaler.mean[6]
    masked = x_test.copy()
    masked[:, 6] = np.nan
    assert np.array_equal(fit.predict(masked), fit.predict(at_mean))


def test_wrecked_test_rows_change_no_fitted_bit(rng):
    x, x_test, y = _rows(rng)
    ids = tuple(f"s{i}" for i in range(len(x)))
    both = np.vstack([x, x_test])
    wrecked = both.copy()
    wrecked[len(x) :] = 1e9
    for fit in (fit_ridge, fit_logistic):
        labels = y if fit is fit_ridge else (y + 1) / 2
        one, two = (fit(rows[: len(x)], labels, ALPHAS[:3], ids) for rows in (both, wrecked))
        for name in ("dual", "intercept", "alpha", "z_train"):
            assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
        assert one.scaler.mean.tobytes() == two.scaler.mean.tobytes()
        assert one.train_ids == ids


def test_probability_of_ridge_is_linear_inside_and_strictly_increasing_outside():
    f = np.linspace(-1.8, 1.8, 4001)
    p = probability_from_ridge(f)
    assert (np.diff(p) > 0).all()
    assert p.min() > 0
    assert p.max() < 1
    inside = np.abs(f) <= 0.9
    assert p[inside] == pytest.approx((1 + f[inside]) / 2)


def test_refuses_what_cannot_be_fitted(rng):
    x, _, y = _rows(rng)
    with pytest.raises(DataError, match="infinite"):
        fit_ridge(np.where(np.arange(400) == 3, np.inf, x), y)
    with pytest.raises(DataError, match="no edge varies"):
        fit_ridge(np.ones_like(x), y)
    with pytest.raises(DataError, match="too few"):
        fit_ridge(x, np.full(len(x), np.nan))
    with pytest.raises(DataError, match="positive"):
        fit_ridge(x, y, (0.0,))
    with pytest.raises(DataError, match="0 and 1"):
        fit_logistic(x, y)
