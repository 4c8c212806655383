"""Embeddings of training rows come from networks that have not seen them, rotated to common axes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from connectome_tl.errors import UsageError
from connectome_tl.training.images.embedding import out_of_fold

N, WIDTH, NETWORKS = 120, 6, 4


def networks(leak: float, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
    """Embeddings of one signal in different axes; a network that has seen a row also has its outcome's noise."""
    rng = np.random.default_rng(seed)
    signal, noise = rng.normal(size=(N, WIDTH)), rng.normal(size=N)
    held = [np.arange(k, 80, NETWORKS) for k in range(NETWORKS)]  # rows from 80 on are test rows
    made = []
    for k in range(NETWORKS):
        own = signal.copy()
        seen = np.setdiff1d(np.arange(80), held[k])
        own[seen, 0] += leak * noise[seen]
        made.append(own @ ortho_group.rvs(WIDTH, random_state=seed + k) + rng.normal(size=WIDTH))
    return made, held, signal, noise


def explained(rows: np.ndarray, y: np.ndarray) -> float:
    design = np.column_stack([np.ones(len(rows)), rows])
    return float(1 - (y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).var() / y.var())


def test_turned_to_common_axes_all_networks_say_the_same() -> None:
    made, held, _, _ = networks(leak=0.0)
    np.testing.assert_allclose(out_of_fold(made, held), made[0], atol=1e-9)


def test_what_a_network_learnt_of_a_row_is_not_in_its_embedding() -> None:
    """The least-squares fraction of the noise is at chance; it is large in networks that have seen the rows."""
    chance = WIDTH / 79
    shares = []
    for seed in range(20):
        made, held, signal, noise = networks(leak=2.0, seed=seed)
        found = out_of_fold(made, held)
        shares.append(explained(found[:80], noise[:80]))
        assert explained(made[0][:80], noise[:80]) > 0.4
        assert min(explained(found[:80], column) for column in signal[:80].T) > 0.7
    assert np.mean(shares) < chance + 0.04


def test_a_training_row_depends_on_no_network_that_saw_it_but_for_its_axes() -> None:
    made, held, _, _ = networks(leak=1.0)
    found = out_of_fold(made, held)
    np.testing.assert_array_equal(found[held[0]], made[0][held[0]])
    row = held[2][3]
    poisoned = [one.copy() for one in made]
    for k in (0, 1, 3):
        poisoned[k][row] += 50.0
    np.testing.assert_allclose(out_of_fold(poisoned, held)[row], found[row], atol=1e-9)


def test_too_few_rows_to_turn_by_are_refused() -> None:
    made, _, _, _ = networks(leak=0.0)
    with pytest.raises(UsageError, match="too few of the subjects"):
        out_of_fold(made[:2], [np.array([0]), np.array([1, 2, 3])])
