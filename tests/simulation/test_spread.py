"""The cohort in which message passing matters: it can compute the outcome, and a linear model cannot."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score

from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.nn.batch import normalise_adjacency
from connectome_tl.simulation.spread import ORACLE_R2, simulate_spread

MADE = simulate_spread(3, 400, "score")
Y = MADE.cohort.targets["score"].to_numpy(float)


def new_subjects_r2(rows: np.ndarray) -> float:
    """R2 of ridge on 150 new subjects."""
    rows = (rows - rows[:250].mean(axis=0)) / (rows[:250].std(axis=0) + 1e-9)
    model = RidgeCV(alphas=np.logspace(-2, 4, 13)).fit(rows[:250], Y[:250])
    return float(r2_score(Y[250:], model.predict(rows[250:])))


def test_one_step_of_messages_gives_the_signal_and_its_share_is_the_stated_one() -> None:
    weights = torch.from_numpy(MADE.cohort.weights).double()
    adjacency = normalise_adjacency(weights, torch.ones(len(weights), weights.shape[2]).double())[:, 0].numpy()
    load = MADE.cohort.region_features
    assert load is not None
    np.testing.assert_allclose((adjacency @ load)[..., 0], MADE.arrived, rtol=1e-4, atol=1e-6)
    signal = MADE.arrived @ MADE.signs
    assert abs(np.corrcoef(signal, Y)[0, 1] ** 2 - ORACLE_R2) < 0.06
    assert new_subjects_r2(MADE.arrived) > ORACLE_R2 - 0.12


def test_what_is_linear_in_edges_and_loads_explains_far_less() -> None:
    rows, columns = upper_indices(24)
    edges = MADE.cohort.weights[:, 0, rows, columns]
    load = MADE.cohort.region_features
    assert load is not None
    both = np.concatenate([edges[:, edges.std(axis=0) > 0], load[..., 0]], axis=1)
    assert new_subjects_r2(both) < ORACLE_R2 - 0.3
    assert new_subjects_r2(edges[:, edges.std(axis=0) > 0]) < 0.1


def test_the_same_seed_gives_the_same_subjects() -> None:
    again = simulate_spread(3, 400, "score").cohort
    assert again.rows_hash(again.ids) == MADE.cohort.rows_hash(MADE.cohort.ids)
