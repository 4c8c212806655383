"""The tangent space is nilearn's, is fitted on training rows, and projects each row alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nilearn.connectome import ConnectivityMeasure
from sklearn.covariance import LedoitWolf
from small_study import small_cohorts

from connectome_tl.errors import DataError
from connectome_tl.features.batches import fit_features
from connectome_tl.features.tangent import TangentEdges
from connectome_tl.provenance import content_hash
from connectome_tl.settings.features import EdgeSettings

N_REGIONS = 12
SERIES = [np.random.default_rng(i).normal(size=(50, N_REGIONS)) @ np.diag(np.arange(1, 13.0)) for i in range(24)]
WEIGHTS = np.stack([LedoitWolf().fit(series).covariance_ for series in SERIES])[:, None]
MASK = np.ones((24, N_REGIONS), dtype=bool)
IDS = [f"s{i}" for i in range(24)]


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
        fitted = fit_features(one, train, clinical=True, edges=EdgeSettings(tangent=True))
        states.append(content_hash(*fitted.state()[0].values(), fitted.state()[1]))
    assert states[0] == states[1]
    assert fitted.tangent is not None
    assert np.isfinite(fitted.rows(cohort, cohort.ids[16:]).edges).all()


def test_a_region_that_a_training_row_lacks_is_left_out_and_one_that_a_test_row_lacks_is_refused() -> None:
    mask = MASK.copy()
    mask[2, 5] = False
    fitted = TangentEdges.fit(WEIGHTS[:16], mask[:16], IDS[:16])
    assert np.flatnonzero(~fitted.regions).tolist() == [5]
    assert (fitted.apply(WEIGHTS, mask, IDS)[:, :, 5] == 0).all()
    mask[20, 7] = False
    with pytest.raises(DataError, match="s20"):
        fitted.apply(WEIGHTS, mask, IDS)


def test_what_is_no_covariance_is_refused() -> None:
    without_diagonal = WEIGHTS * ~np.eye(N_REGIONS, dtype=bool)
    with pytest.raises(DataError, match="diagonal: keep"):
        TangentEdges.fit(without_diagonal, MASK, IDS)
