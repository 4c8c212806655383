"""Functional connectomes equal NumPy's and nilearn's; a dead signal is a missing region."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.connectome.functional import Kind, fisher_z, functional_connectome
from connectome_tl.errors import DataError

NAMES = tuple("abcdef")


def series(seed: int = 0, frames: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).normal(size=(6, 6)) + 2 * np.eye(6)
    return rng.normal(size=(frames, 6)) @ mixing


def test_long_series_give_pearsons_correlation() -> None:
    found = functional_connectome(series(), NAMES)
    np.testing.assert_allclose(found.weights[0], np.corrcoef(series().T), atol=0.01)
    np.testing.assert_allclose(np.diag(found.weights[0]), 1)


def test_partial_correlation_is_the_scaled_inverse() -> None:
    found = functional_connectome(series(), NAMES, kind="partial correlation").weights[0]
    precision = np.linalg.inv(np.corrcoef(series().T))
    scale = np.sqrt(np.diag(precision))
    expected = -precision / np.outer(scale, scale)
    off = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(found[off], expected[off], atol=0.04)  # Ledoit and Wolf shrink a little


@pytest.mark.parametrize("kind", ["correlation", "partial correlation"])
@pytest.mark.parametrize("frames", [30, 200])
def test_the_unit_of_a_region_changes_nothing(kind: Kind, frames: int) -> None:
    values = series(frames=frames).cumsum(axis=0)
    found = functional_connectome(values, NAMES, kind=kind).weights
    values[:, 2] = values[:, 2] * 20 + 7_000
    np.testing.assert_allclose(functional_connectome(values, NAMES, kind=kind).weights, found, atol=1e-8)


@pytest.mark.parametrize("dead", [0.0, np.nan])
def test_a_dead_signal_is_a_missing_region(dead: float) -> None:
    values = series()
    values[:, 2] = dead
    found = functional_connectome(values, NAMES)
    assert found.node_mask.tolist() == [True, True, False, True, True, True]
    keep = [0, 1, 3, 4, 5]
    others = functional_connectome(values[:, keep], tuple(NAMES[i] for i in keep))
    np.testing.assert_allclose(found.weights[0][np.ix_(keep, keep)], others.weights[0])


def test_unusable_series_are_refused() -> None:
    values = series()
    values[17, 3] = np.nan
    with pytest.raises(DataError, match="frame 18, region d"):
        functional_connectome(values, NAMES, subject="s1")
    with pytest.raises(DataError, match="too few frames"):
        functional_connectome(series(frames=5), NAMES)
    with pytest.raises(DataError, match=r"\(n_frames, 5\)"):
        functional_connectome(series(), NAMES[:5])


def test_fishers_z() -> None:
    one = functional_connectome(series(), NAMES)
    z = fisher_z(one)
    np.testing.assert_allclose(np.tanh(z.weights[0][np.triu_indices(6, 1)]), one.weights[0][np.triu_indices(6, 1)])
    assert (np.diag(z.weights[0]) == 0).all()
