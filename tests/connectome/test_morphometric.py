"""Morphometric networks compared with numpy's correlation and closed-form divergences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import zscore

from connectome_tl.connectome.morphometric import (
    _cells,
    divergence_network,
    regional_features,
    similarity_network,
    values_by_region,
)
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume

NAMES = tuple(f"r{i}" for i in range(6))


def test_similarity_is_the_correlation_of_standardised_features() -> None:
    features = np.random.default_rng(0).normal(size=(6, 8)) * [1, 10, 100, 1, 1, 1, 1, 1e-3]
    found = similarity_network(features, NAMES).weights[0]
    expected = np.corrcoef(zscore(features, axis=0))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    scaled = similarity_network(features * 7 + 3, NAMES).weights[0]  # units do not matter
    np.testing.assert_allclose(scaled, found, atol=1e-9)


def test_a_region_without_features_is_masked_and_changes_no_other() -> None:
    features = np.random.default_rng(1).normal(size=(6, 5))
    short = similarity_network(features[1:], NAMES[1:])
    features[0, 2] = np.nan
    found = similarity_network(features, NAMES)
    assert found.node_mask.tolist() == [False] + [True] * 5
    np.testing.assert_array_equal(found.weights[0, 1:, 1:], short.weights[0])
    assert not found.weights[0, 0].any()


def test_divergence_of_gaussians_is_near_its_closed_form() -> None:
    rng = np.random.default_rng(2)
    values = [rng.normal(mean, 1.0, 4000) for mean in (0.0, 1.0, 2.0)]
    found = divergence_network(values, NAMES[:3]).weights[0]
    # The scale is shared, so KL(a, b) + KL(b, a) = (difference of means)^2 for unit variances.
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert 1 / found[i, j] - 1 == pytest.approx((i - j) ** 2, abs=0.25 + 0.1 * (i - j) ** 2)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("slope", [1.0, 0.25])
@pytest.mark.parametrize("sd", [10.0, 100.0])
def test_whole_numbers_give_the_divergence_of_what_was_rounded(sd: float, slope: float) -> None:
    """Images are stored as integers, scaled or not: thousands of voxels share ten to a hundred values."""
    rng = np.random.default_rng(3)
    exact = [rng.normal(1000 + sd * mean, sd, 20_000) for mean in (0.0, 1.0, 2.0)]
    rounded = [(np.rint(values) * np.float32(slope)).astype(np.float32) for values in exact]
    found = divergence_network(rounded, NAMES[:3]).weights[0]
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert found[i, j] == pytest.approx(1 / (1 + (i - j) ** 2), abs=0.05)
    np.testing.assert_array_equal(found, divergence_network(rounded, NAMES[:3]).weights[0])
    turned = divergence_network(rounded[::-1], NAMES[:3][::-1]).weights[0]
    np.testing.assert_allclose(turned[::-1, ::-1], found, atol=1e-12)


@pytest.mark.parametrize(
    "changed",
    [
        lambda whole: np.rint(whole * 11.7),
        lambda whole: np.rint(whole * 4.3),
        lambda whole: np.where(whole > 125, 2 * whole - 125, whole),
        lambda whole: np.round(100 * np.maximum(whole, 0) ** 1.3) / 100,
        lambda whole: np.where(np.arange(len(whole)) % 200 == 0, np.rint(whole * 11.7) + 3, np.rint(whole * 11.7)),
        lambda whole: np.where(np.arange(len(whole)) % 200 == 0, np.rint(whole * 11.7) + 1, np.rint(whole * 11.7)),
        lambda whole: np.where(
            np.arange(len(whole)) % 2, whole, whole + np.random.default_rng(0).random(len(whole)) - 0.5
        ),
        lambda whole: (whole * np.float32(0.05)).astype(np.float32),
    ],
    ids=[
        "times 11.7",
        "times 4.3",
        "window",
        "gamma",
        "a few voxels between",
        "a few voxels beside",
        "half",
        "float32",
    ],
)
def test_whole_numbers_that_were_changed_afterwards_keep_their_divergence(
    changed: Callable[[np.ndarray], np.ndarray],
) -> None:
    rng = np.random.default_rng(5)
    means, sds = np.linspace(80, 170, 5), np.linspace(10, 25, 5)
    whole = [np.rint(rng.normal(mean, sd, n)) for mean, sd, n in zip(means, sds, (30_000, 9000, 20_000, 5000, 1400))]
    names = [f"R{i}" for i in range(5)]
    found = divergence_network([changed(values) for values in whole], names).weights[0]
    upper = np.triu_indices(5, 1)
    kl = np.log(sds / sds[:, None]) + (sds[:, None] ** 2 + (means[:, None] - means) ** 2) / (2 * sds**2) - 0.5
    expected = 1 / (1 + kl + kl.T)
    assert np.corrcoef(found[upper], expected[upper])[0, 1] > 0.98
    assert np.abs(found - expected)[upper].max() < 0.1


def test_one_value_that_nearly_all_voxels_share_is_no_error() -> None:
    clouds = [np.array([0.0, 0.0, *[1.0] * 5000, 4.3, 4.3]), np.array([1.0] * 4000 + [4.3, 4.3, 0.0])]
    found = divergence_network(clouds, NAMES[:2]).weights[0]
    assert np.isfinite(found).all()


def test_a_gap_between_tissues_is_not_a_rounding_interval() -> None:
    rng = np.random.default_rng(0)
    values = np.rint(np.rint(np.concatenate([rng.uniform(90, 110, 4000), rng.uniform(300, 320, 4000)])) * 11.7)
    _, below, above = _cells(values)
    assert max(below.max(), above.max()) == 12


def test_a_continuous_feature_with_some_equal_values_is_left_as_it_is() -> None:
    values = np.append(np.random.default_rng(0).normal(5, 1, 2000), np.zeros(100))
    _, below, above = _cells(values)
    assert not below.any()
    assert not above.any()


@pytest.mark.parametrize("rounded", [False, True])
def test_a_region_of_one_value_is_masked_and_changes_no_other(rounded: bool) -> None:
    rng = np.random.default_rng(0)
    others = [rng.normal(mean, 10.0, 300) for mean in (0.0, 10.0)]
    others = [np.rint(values) for values in others] if rounded else others
    found = divergence_network([np.full(30, 1000.0), *others], NAMES[:3])
    assert found.node_mask.tolist() == [False, True, True]
    assert not found.weights[0, 0].any()
    np.testing.assert_array_equal(found.weights[0, 1:, 1:], divergence_network(others, NAMES[1:3]).weights[0])
    with pytest.raises(DataError, match="different values"):
        divergence_network([np.zeros(30), others[0]], NAMES[:2])


def test_features_are_those_of_each_regions_voxels() -> None:
    labels = Volume(np.repeat([0, 5, 2035], 40).reshape(3, 5, 8).astype(np.int32), np.diag([1.0, 2, 2, 1]))
    image = Volume(np.arange(120, dtype=float).reshape(3, 5, 8), labels.affine)
    found = regional_features(image, labels, (2035, 5, 7))
    assert found[0, :2].tolist() == [160.0, 99.5]
    assert found[1, 1] == 59.5
    assert np.isnan(found[2]).all()
    assert [len(v) for v in values_by_region(image, labels, (5, 7))] == [40, 0]
    with pytest.raises(DataError, match="differ in size"):
        regional_features(Volume(image.data[1:], labels.affine), labels, (5,))


def test_too_little_is_said() -> None:
    with pytest.raises(DataError, match="too little"):
        similarity_network(np.ones((6, 2)), NAMES, subject="sub-01")
    with pytest.raises(DataError, match="same in all regions"):
        similarity_network(np.ones((6, 4)), NAMES)
    with pytest.raises(DataError, match="fewer than two regions"):
        divergence_network([np.arange(9.0), np.array([])], NAMES[:2])
    with pytest.raises(DataError, match="different values"):
        divergence_network([np.ones(9), np.ones(9)], NAMES[:2])
    with pytest.raises(DataError, match="does not vary"):
        divergence_network([np.column_stack([np.arange(9.0), np.ones(9)])] * 2, NAMES[:2])
