"""Scalers and imputation: equal to scikit-learn and statsmodels where these apply, defined where they do not."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from connectome_tl.features.scaling import CovariateEncoder, EdgeScaler, RegionScaler, TargetScaler
from connectome_tl.settings.cohort import Covariate
from connectome_tl.tasks import Task

IDS = tuple(f"s{i}" for i in range(12))
SPECS = (
    Covariate(column="weight"),
    Covariate(column="sex", type="categorical"),
    Covariate(column="ivh", type="categorical"),
)


def edges(n_subjects: int = 12, n_regions: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.gamma(2.0, 3.0, (n_subjects, 2, n_regions, n_regions)).astype(np.float32)
    weights = weights + weights.transpose(0, 1, 3, 2)
    return weights, np.ones((n_subjects, n_regions), dtype=bool)


def covariates() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "weight": rng.normal(1000, 200, 12),
            "sex": ["F", "M", "M", "F"] * 3,
            "ivh": ["0", "1", "2"] * 4,
        },
        index=list(IDS),
    )
    table.loc["s3", "weight"] = np.nan
    table.loc["s5", "sex"] = None
    return table


def test_edges_are_scaled_as_standard_scaler_does() -> None:
    from sklearn.preprocessing import StandardScaler

    weights, mask = edges()
    scaler = EdgeScaler.fit(weights, mask, IDS)
    flat = weights.reshape(12, -1).astype(float)
    reference = StandardScaler().fit(flat)
    assert_allclose(scaler.mean.ravel(), reference.mean_)
    assert_allclose(scaler.scale.ravel(), reference.scale_ * np.sqrt(12 / 11))  # n - 1
    scaled = scaler.apply(weights, mask)
    assert scaled.dtype == np.float32
    assert_allclose(scaled.reshape(12, -1), reference.transform(flat) * np.sqrt(11 / 12), rtol=1e-4, atol=1e-5)
    assert scaler.ids == IDS


@pytest.mark.parametrize("value", [0.0, 1e-12, 0.1, 1e6, -3.7])
def test_constant_edges_become_zero_for_everybody(value: float) -> None:
    weights, mask = edges()
    weights[:, 0, 1, 2] = value
    scaler = EdgeScaler.fit(weights, mask, IDS)
    other, _ = edges(seed=9)
    assert scaler.constant[0, 1, 2]
    assert (scaler.apply(other, mask)[:, 0, 1, 2] == 0).all()
    assert not scaler.constant[0, 2, 1]


@pytest.mark.parametrize("unit", [1e-12, 1e-9, 1.0, 1e9])
def test_scaled_numbers_do_not_depend_on_the_unit(unit: float) -> None:
    weights, mask = edges()
    want = EdgeScaler.fit(weights, mask, IDS).apply(weights, mask)
    small = (weights * unit).astype(np.float32)
    assert_allclose(EdgeScaler.fit(small, mask, IDS).apply(small, mask), want, atol=1e-4)
    features = np.random.default_rng(0).normal(5, 1, (12, 5, 2))
    scaler, tiny = RegionScaler.fit(features, IDS), RegionScaler.fit(features * unit, IDS)
    assert_allclose(tiny.apply(features * unit), scaler.apply(features), atol=1e-4)
    table = covariates()
    tiny_table = table.assign(weight=table["weight"] * unit)
    assert_allclose(
        CovariateEncoder.fit(tiny_table, SPECS).apply(tiny_table),
        CovariateEncoder.fit(table, SPECS).apply(table),
        atol=1e-4,
    )


def test_a_missing_region_is_no_zero_connection() -> None:
    weights, mask = edges()
    mask[[2, 7], 3] = False
    present = np.delete(np.arange(12), [2, 7])
    for stored in (0.0, 1e9, np.nan):
        spoiled = weights.copy()
        spoiled[[2, 7], :, 3] = spoiled[[2, 7], :, :, 3] = stored
        scaler = EdgeScaler.fit(spoiled, mask, IDS)
        assert_allclose(scaler.mean[:, 3], weights[present, :, 3].astype(float).mean(axis=0))
        assert_allclose(scaler.scale[:, 3], weights[present, :, 3].astype(float).std(axis=0, ddof=1))
        scaled = scaler.apply(spoiled, mask)
        assert (scaled[[2, 7], :, 3] == 0).all()
        assert (scaled[[2, 7], :, :, 3] == 0).all()
        assert np.isfinite(scaled).all()


def test_an_edge_that_one_or_no_training_row_has_says_nothing() -> None:
    weights, mask = edges()
    mask[1:, 0] = False
    mask[:, 4] = False
    scaler = EdgeScaler.fit(weights, mask, IDS)
    everything, whole = edges(seed=3)
    scaled = scaler.apply(everything, whole)
    assert (scaled[:, :, [0, 4]] == 0).all()
    assert np.isfinite(scaled).all()


def test_region_features_are_scaled_over_known_values() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (12, 4, 3))
    features[2, 1, 0] = np.nan
    features[:, 2, 1] = np.nan
    features[:, 3, 2] = 7.0
    scaler = RegionScaler.fit(features, IDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean, scale = np.nanmean(features, axis=0), np.nanstd(features, axis=0, ddof=1)
    plain = np.isfinite(mean) & (scale > 0)
    assert_allclose(scaler.mean[plain], mean[plain])
    assert_allclose(scaler.scale[plain], scale[plain])
    scaled = scaler.apply(features)
    assert scaled[2, 1, 0] == 0
    assert (scaled[:, 2, 1] == 0).all()
    assert (scaled[:, 3, 2] == 0).all()


def test_covariates_are_imputed_scaled_and_one_hot_as_scikit_learn_does() -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    table = covariates()
    encoder = CovariateEncoder.fit(table, SPECS)
    numbers = SimpleImputer(strategy="median", add_indicator=True).fit_transform(table[["weight"]])
    ivh = OneHotEncoder(sparse_output=False).fit_transform(table[["ivh"]])
    known = table["sex"].notna().to_numpy()
    male = (table["sex"] == "M").to_numpy(dtype=float)
    # A missing category is not a level: it is excluded from mean and spread, and becomes the mean.
    sex = np.where(known, (male - male[known].mean()) / male[known].std(ddof=1), 0.0)
    missing = (~known).astype(float)[:, None]
    others = StandardScaler().fit_transform(np.hstack([numbers, missing, ivh])) * np.sqrt(11 / 12)
    reference = np.insert(others, 3, sex, axis=1)
    assert encoder.names == ("weight", "weight missing", "sex missing", "sex=M", "ivh=0", "ivh=1", "ivh=2")
    assert_allclose(encoder.apply(table), reference, rtol=1e-5, atol=1e-6)
    assert encoder.ids == IDS


def test_an_unseen_category_is_no_category_and_columns_dead_in_training_stay_dead() -> None:
    table = covariates().assign(ivh="0")
    table["weight"] = np.nan
    encoder = CovariateEncoder.fit(table, SPECS)
    new = covariates()
    new.loc["s0", "sex"] = "X"
    encoded = encoder.apply(new)
    assert np.isfinite(encoded).all()
    named = dict(zip(encoder.names, encoded.T, strict=True))
    assert (named["weight"] == 0).all()
    assert (named["weight missing"] == 0).all()
    assert (named["ivh=0"] == 0).all()
    assert named["sex=M"][0] == 0  # neither female nor male, but the training mean
    levels = [encoder.apply(new.assign(sex=sex))[0, encoder.names.index("sex=M")] for sex in ("F", "M")]
    assert levels[0] < 0 < levels[1]


def test_no_covariates_are_no_columns() -> None:
    assert CovariateEncoder.fit(covariates()[[]], ()).apply(covariates()).shape == (12, 0)


def test_targets_are_scaled_over_seen_values_and_come_back() -> None:
    tasks = (
        Task(name="score", kind="regression", column="a"),
        Task(name="low", kind="binary", column="b"),
        Task(name="flat", kind="regression", column="c"),
        Task(name="unseen", kind="regression", column="d"),
    )
    rng = np.random.default_rng(0)
    targets = np.column_stack([rng.normal(90, 15, 12), rng.integers(0, 2, 12), np.full(12, 50.0), np.full(12, np.nan)])
    targets[3, 0] = np.nan
    scaler = TargetScaler.fit(targets, tasks, IDS)
    seen = np.delete(targets[:, 0], 3)
    assert_allclose(scaler.apply(targets)[:, 0], (targets[:, 0] - seen.mean()) / seen.std(ddof=1))
    assert_array_equal(scaler.apply(targets)[:, 1], targets[:, 1])
    assert (scaler.apply(targets)[:, 2] == 0).all()
    assert_allclose(scaler.undo(scaler.apply(targets)), targets)


def test_round_off_relative_to_ordinary_weights_is_no_feature() -> None:
    rng = np.random.default_rng(4)
    weights = rng.normal(50, 5, (12, 1, 4, 4))
    weights = weights + weights.swapaxes(2, 3)
    noise = rng.normal(0, 1e-17, 12)
    weights[:, 0, 0, 1] = weights[:, 0, 1, 0] = noise
    mask = np.ones((12, 4), dtype=bool)
    scaler = EdgeScaler.fit(weights, mask, IDS)
    assert scaler.constant[0, 0, 1]
    assert (scaler.apply(weights, mask)[:, 0, 0, 1] == 0).all()
    # The same numbers are a feature if all weights have this magnitude.
    tiny = EdgeScaler.fit(weights * 1e-18, mask, IDS)
    assert not tiny.constant[0, 2, 3]
    features = rng.normal(3, 1, (12, 4, 2))
    features[:, 1, 0] = noise
    regional = RegionScaler.fit(features, IDS).apply(features)
    assert (regional[:, 1, 0] == 0).all()
    assert (regional[:, 0, 0] != 0).all()
