"""The tangent space equals nilearn's, is fitted on training rows, and projects each row independently."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from nilearn.connectome import ConnectivityMeasure
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from small_study import small_cohorts

from connectome_tl.errors import DataError
from connectome_tl.features.modalities import ConnectomeSteps
from connectome_tl.features.state import pack, unpack
from connectome_tl.features.steps import RECORDS, fit_steps
from connectome_tl.features.tangent import TangentEdges, holds_correlations
from connectome_tl.provenance import content_hash
from connectome_tl.settings.features import EdgeSettings, FeatureSettings
from connectome_tl.settings.tangent import CORRELATIONS, COVARIANCES, TangentSettings

N_REGIONS = 12
SERIES = [np.random.default_rng(i).normal(size=(50, N_REGIONS)) @ np.diag(np.arange(1, 13.0)) for i in range(24)]
WEIGHTS = np.stack([LedoitWolf().fit(series).covariance_ for series in SERIES])[:, None]
MASK = np.ones((24, N_REGIONS), dtype=bool)
IDS = [f"s{i}" for i in range(24)]
_SCALES = 1 / np.sqrt(np.diagonal(WEIGHTS[:, 0], axis1=1, axis2=2))
CORRELATED = WEIGHTS * (_SCALES[:, :, None] * _SCALES[:, None])[:, None]


def test_it_is_nilearns() -> None:
    ours = TangentEdges.fit(WEIGHTS[:16], MASK[:16], IDS[:16])
    theirs = ConnectivityMeasure(kind="tangent", cov_estimator=LedoitWolf(), standardize=False)
    expected = theirs.fit_transform(SERIES[:16])
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-8)
    np.testing.assert_allclose(ours.apply(WEIGHTS[:16], MASK[:16], IDS[:16])[:, 0], expected, atol=1e-5)
    test = ours.apply(WEIGHTS[16:], MASK[16:], IDS[16:])
    np.testing.assert_allclose(test[:, 0], theirs.transform(SERIES[16:]), atol=1e-5)
    np.testing.assert_array_equal(test[3:4], ours.apply(WEIGHTS[19:20], MASK[19:20], IDS[19:20]))


def test_wrecked_test_rows_leave_all_features_untouched() -> None:
    cohort = replace(small_cohorts().target, weights=WEIGHTS.astype(np.float32))
    train = cohort.ids[:16]
    wrecked = cohort.weights.copy()
    wrecked[16:] = 1e30
    states = []
    for one in (cohort, replace(cohort, weights=wrecked)):
        settings = FeatureSettings(edges=EdgeSettings.model_validate({"tangent": True}))
        fitted = fit_steps(one, train, settings, ("connectome", "clinical"))
        states.append(content_hash(*fitted.state()[0].values(), fitted.state()[1]))
    assert states[0] == states[1]
    steps = fitted.steps["connectome"]
    assert isinstance(steps, ConnectomeSteps)
    assert isinstance(steps.edge_steps[0], TangentEdges)
    assert np.isfinite(fitted.rows(cohort, cohort.ids[16:]).arrays["connectome"].rows["edges"]).all()


def test_a_region_that_a_training_row_lacks_is_left_out() -> None:
    mask = MASK.copy()
    mask[2, 5] = False
    fitted = TangentEdges.fit(WEIGHTS[:16], mask[:16], IDS[:16])
    assert np.flatnonzero(~fitted.regions).tolist() == [5]
    assert (fitted.apply(WEIGHTS, mask, IDS)[:, :, 5] == 0).all()


@pytest.mark.parametrize("settings", [CORRELATIONS, COVARIANCES], ids=["correlation", "covariance"])
def test_a_region_that_a_test_row_lacks_is_replaced_by_its_regression_on_the_others(settings: TangentSettings) -> None:
    given = CORRELATED if settings.values == "correlation" else WEIGHTS
    fitted = TangentEdges.fit(given[:16], MASK[:16], IDS[:16], settings)
    mask = MASK.copy()
    mask[20, [3, 7]] = False
    whole, found = fitted.apply(given, MASK, IDS), fitted.apply(given, mask, IDS)
    others = np.arange(24) != 20
    np.testing.assert_array_equal(found[others], whole[others])
    there = np.ix_(mask[20], mask[20])
    error, size = (np.linalg.norm(one[20, 0][there]) for one in (found - whole, whole))
    assert 0 < error < 0.2 * size
    for value in (0.0, 55.0, np.nan):
        filled = given.copy()
        filled[20, :, [3, 7]] = filled[20, :, :, [3, 7]] = value
        np.testing.assert_array_equal(fitted.apply(filled, mask, IDS), found)
    # A subject at the reference has no displacement, whatever it lacks.
    reference = (fitted.mean - fitted.shrinkage * np.eye(N_REGIONS)) / (1 - fitted.shrinkage)
    for absent in ([3, 7], [0, 2, 4, 6, 8, 10], list(range(N_REGIONS))):
        partly = np.isin(np.arange(N_REGIONS), absent, invert=True)[None]
        np.testing.assert_allclose(fitted.apply(reference[None, None], partly, ["r"]), 0, atol=1e-6)


def test_a_subject_without_a_connectome_changes_nothing_for_the_others() -> None:
    weights, mask = CORRELATED.copy(), MASK.copy()
    weights[[3, 18]], mask[[3, 18]] = 0, False
    others = [i for i in range(16) if i != 3]
    fitted = TangentEdges.fit(weights[:16], mask[:16], IDS[:16], CORRELATIONS)
    alone = TangentEdges.fit(CORRELATED[others], MASK[others], [IDS[i] for i in others], CORRELATIONS)
    np.testing.assert_array_equal(fitted.mean, alone.mean)
    np.testing.assert_array_equal(fitted.regions, alone.regions)
    rows = fitted.rows(weights, mask, IDS)
    np.testing.assert_array_equal(rows[[3, 18]], 0)
    np.testing.assert_allclose(rows[19:], alone.rows(CORRELATED[19:], MASK[19:], IDS[19:]), rtol=1e-12)
    cohort = replace(small_cohorts().target, weights=weights.astype(np.float32), node_mask=mask)
    assert holds_correlations(cohort, cohort.ids[:16])


def test_what_is_no_covariance_is_refused() -> None:
    without_diagonal = WEIGHTS * ~np.eye(N_REGIONS, dtype=bool)
    with pytest.raises(DataError, match="diagonal: keep"):
        TangentEdges.fit(without_diagonal, MASK, IDS)


def _function(matrix: np.ndarray, power: str) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors @ np.diag(np.log(values) if power == "log" else values**-0.5) @ vectors.T)


def test_correlations_are_shrunk_and_go_to_the_logarithm_at_their_arithmetic_mean() -> None:
    fitted = TangentEdges.fit(CORRELATED[:16], MASK[:16], IDS[:16], CORRELATIONS)
    shrunk = 0.9 * CORRELATED[:, 0] + 0.1 * np.eye(N_REGIONS)
    root = _function(shrunk[:16].mean(axis=0), "root")
    found = fitted.apply(CORRELATED, MASK, IDS)[:, 0]
    rows = fitted.rows(CORRELATED, MASK, IDS)
    assert rows.shape == (24, 78)
    for subject in (0, 20):
        expected = _function(root @ shrunk[subject] @ root, "log")
        np.testing.assert_allclose(found[subject], expected, atol=1e-6)
        assert np.linalg.norm(rows[subject]) == pytest.approx(np.linalg.norm(expected))
        np.testing.assert_allclose(rows[subject, :12], np.diagonal(expected), atol=1e-10)
        np.testing.assert_allclose(rows[subject, 12], np.sqrt(2) * expected[0, 1], atol=1e-10)


def test_the_geometric_mean_of_correlations_is_nilearns() -> None:
    settings = TangentSettings(values="correlation", mean="geometric", shrinkage=0.0)
    ours = TangentEdges.fit(CORRELATED[:16], MASK[:16], IDS[:16], settings)
    # Series whose covariance is exactly that correlation.
    roots = [np.linalg.cholesky(matrix[0]).T * np.sqrt(N_REGIONS) for matrix in CORRELATED[:16]]
    theirs = ConnectivityMeasure(
        kind="tangent", cov_estimator=EmpiricalCovariance(assume_centered=True), standardize=False
    )
    expected = theirs.fit_transform(roots)
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.apply(CORRELATED[:16], MASK[:16], IDS[:16])[:, 0], expected, atol=1e-5)


def test_the_diagonal_of_a_file_of_correlations_does_not_matter() -> None:
    expected = TangentEdges.fit(CORRELATED, MASK, IDS, CORRELATIONS).rows(CORRELATED, MASK, IDS)
    for diagonal in (0.0, 1.0, np.nan):
        other = CORRELATED.copy()
        other[:, 0, np.arange(N_REGIONS), np.arange(N_REGIONS)] = diagonal
        fitted = TangentEdges.fit(other, MASK, IDS, CORRELATIONS)
        np.testing.assert_allclose(fitted.rows(other, MASK, IDS), expected, atol=1e-12)


def test_correlations_of_fewer_frames_than_regions_need_the_shrinkage() -> None:
    few = np.stack([np.corrcoef(series[:8].T) for series in SERIES])[:, None]
    assert np.isfinite(TangentEdges.fit(few, MASK, IDS, CORRELATIONS).rows(few, MASK, IDS)).all()
    bare = TangentSettings(values="correlation", shrinkage=0.0)
    with pytest.raises(DataError, match="some shrinkage"):
        TangentEdges.fit(few, MASK, IDS, bare)


@pytest.mark.parametrize("value", [{"values": False}, False, {"values": "off"}])
def test_a_tangent_space_that_is_off_differs_from_the_default(value: object) -> None:
    edges = EdgeSettings.model_validate({"tangent": value})
    assert edges.projected is None
    assert edges != EdgeSettings()
    assert EdgeSettings.model_validate(edges.model_dump(mode="json")) == edges
    assert EdgeSettings.model_validate({"tangent": True}).projected == COVARIANCES


@pytest.mark.parametrize(
    "values",
    [{"shrinkage": 0.2}, {"shrinkage": 0.0}, {"mean": "geometric"}, {"values": "covariance", "shrinkage": 0.2}],
)
def test_a_setting_of_the_tangent_space_without_effect_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="values: correlation"):
        TangentSettings.model_validate(values)


def test_fisher_values_and_counts_are_no_correlations() -> None:
    with pytest.raises(DataError, match="Fisher"):
        TangentEdges.fit(30 * CORRELATED, MASK, IDS, CORRELATIONS)
    missing = CORRELATED.copy()
    missing[3, 0, 2, 4] = np.nan
    with pytest.raises(DataError, match=r"subject s3: .* values are missing"):
        TangentEdges.fit(missing, MASK, IDS, CORRELATIONS)


def test_state_and_back_and_a_source_reference_for_a_target() -> None:
    source = TangentEdges.fit(CORRELATED[:10], MASK[:10], IDS[:10], CORRELATIONS)
    arrays: dict[str, np.ndarray] = {}
    plain = pack(source, arrays, "tangent")
    again = unpack(json.loads(json.dumps(plain)), arrays, RECORDS)
    assert isinstance(again, TangentEdges)
    assert again.ids == source.ids
    target = CORRELATED[10:]
    assert again.rows(target, MASK[10:], IDS[10:]).tobytes() == source.rows(target, MASK[10:], IDS[10:]).tobytes()


def test_many_rows_are_each_as_alone() -> None:
    fitted = TangentEdges.fit(CORRELATED, MASK, IDS, CORRELATIONS)
    many = np.tile(CORRELATED, (6, 1, 1, 1))
    rows = fitted.rows(many, np.tile(MASK, (6, 1)), IDS * 6)
    np.testing.assert_array_equal(rows[130], fitted.rows(CORRELATED, MASK, IDS)[130 % 24])
