"""The consensus depends on the training rows only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import small_cohorts

from connectome_tl.errors import DataError
from connectome_tl.features.edge_selection import ConsensusMask, fit_edges
from connectome_tl.features.modalities import ConnectomeSteps
from connectome_tl.features.steps import fit_steps
from connectome_tl.provenance import content_hash
from connectome_tl.settings.features import EdgeSettings, FeatureSettings

IDS = [f"s{i}" for i in range(20)]


def weights() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = np.triu(rng.gamma(1, 1, (30, 1, 8, 8)) * (rng.random((30, 1, 8, 8)) < 0.6), 1)
    return values + values.swapaxes(2, 3)


def test_an_edge_is_kept_by_its_share_among_rows_that_have_its_regions() -> None:
    w, mask = weights()[:20], np.ones((20, 8), dtype=bool)
    mask[:10, 3] = False
    w[:10, :, 3], w[:10, :, :, 3] = 0, 0
    found = ConsensusMask.fit(w, mask, IDS, share=0.6)
    for i in range(8):
        for j in range(i + 1, 8):
            rows = slice(10, 20) if 3 in (i, j) else slice(0, 20)
            assert found.keep[0, i, j] == ((w[rows, 0, i, j] != 0).mean() >= 0.6)
    np.testing.assert_array_equal(found.keep, found.keep.swapaxes(1, 2))
    kept = found.apply(w)
    assert (kept[:, ~found.keep] == 0).all()
    np.testing.assert_array_equal(kept[:, found.keep], w[:, found.keep])


def test_wrecked_test_rows_change_nothing() -> None:
    w, mask = weights(), np.ones((30, 8), dtype=bool)
    clean = ConsensusMask.fit(w[:20], mask[:20], IDS)
    w[20:] = 1e30
    poisoned = ConsensusMask.fit(w[:20], mask[:20], IDS)
    assert content_hash(clean.keep) == content_hash(poisoned.keep)
    assert clean.ids == tuple(IDS)


def test_impossible_requests_are_refused() -> None:
    mask = np.ones((20, 8), dtype=bool)
    with pytest.raises(DataError, match="no edge is left"):
        ConsensusMask.fit(np.zeros((20, 1, 8, 8)), mask, IDS)
    with pytest.raises(DataError, match="between 0 and 1"):
        ConsensusMask.fit(weights()[:20], mask, IDS, share=1.5)
    with pytest.raises(DataError, match="training rows"):
        ConsensusMask.fit(weights()[:0], mask[:0], [])


def test_the_most_variable_of_the_agreed_edges_are_kept() -> None:
    w, mask = weights()[:20], np.ones((20, 8), dtype=bool)
    found = fit_edges(w, w, mask, IDS, EdgeSettings(consensus=0.5, n_edges=5))
    assert found is not None
    agreed = ConsensusMask.fit(w, mask, IDS, share=0.5).keep[0]
    first, second = np.triu_indices(8, 1)
    spread = np.where(agreed[first, second], w[:, 0, first, second].var(axis=0), -1)
    assert set(np.flatnonzero(found.keep[0, first, second])) == set(np.argsort(-spread)[:5])
    np.testing.assert_array_equal(found.keep, found.keep.swapaxes(1, 2))
    assert fit_edges(w, w, mask, IDS, EdgeSettings()) is None
    everything = fit_edges(w, w, mask, IDS, EdgeSettings(n_edges=1000))
    assert everything is not None
    np.testing.assert_array_equal(everything.keep[0], (w != 0).any(axis=(0, 1)))


@pytest.mark.parametrize("settings", [EdgeSettings(consensus=0.5), EdgeSettings(n_edges=9)], ids=["consensus", "n"])
def test_the_whole_of_the_features_sees_training_rows_only(settings: EdgeSettings) -> None:
    """With corrupted test rows all fitted state is unchanged; edges that are not selected are 0 for all subjects."""
    rng = np.random.default_rng(0)
    cohort = small_cohorts().target
    gone = np.triu(rng.random((cohort.n_subjects, 1, cohort.n_regions, cohort.n_regions)) < 0.4, 1)
    cohort = replace(cohort, weights=np.where(gone | gone.swapaxes(2, 3), 0, cohort.weights).astype(np.float32))
    train, test = cohort.ids[:16], cohort.ids[16:]
    wrecked = cohort.weights.copy()
    wrecked[16:] = 1e6 * rng.random(wrecked[16:].shape)
    states = []
    for one in (cohort, replace(cohort, weights=wrecked)):
        fitted = fit_steps(one, train, FeatureSettings(edges=settings), ("connectome", "clinical"))
        arrays, plain = fitted.state()
        states.append(content_hash(*arrays.values(), plain))
    assert states[0] == states[1]
    steps = fitted.steps["connectome"]
    assert isinstance(steps, ConnectomeSteps)
    (selection,) = steps.edge_steps
    assert isinstance(selection, ConsensusMask)
    assert selection.ids == train
    dropped = ~selection.keep
    assert dropped.any()
    for ids in (train, test):
        found = fitted.rows(one, ids).arrays["connectome"]
        edges = found.rows["edges"]
        assert (edges[:, dropped] == 0).all()
        # Reversing the scaling gives them no weight in messages either.
        assert ((edges * found.constants["scale"] + found.constants["mean"])[:, dropped] == 0).all()
