"""The consensus is that of the training rows, whatever is in the others."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.features.edge_selection import ConsensusMask
from connectome_tl.provenance import content_hash

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
