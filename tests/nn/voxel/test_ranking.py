"""Losses on ranks and differences, against SciPy and against explicit loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from connectome_tl.nn.voxel.ranking import difference_error, rank_error, ranked_loss, ranks, soft_ranks
from connectome_tl.settings.images.cascade import RankedLoss

VALUES = torch.tensor([2.0, -1.0, 0.5, 2.0, 7.0, 0.4], dtype=torch.float64)


def test_ranks_are_those_of_scipy_ties_averaged() -> None:
    assert np.array_equal(ranks(VALUES).numpy(), stats.rankdata(VALUES.numpy()))


def test_soft_ranks_approach_ranks_as_the_temperature_falls() -> None:
    errors = [float((soft_ranks(VALUES, t) - ranks(VALUES)).abs().max()) for t in (1.0, 0.1, 0.001)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


def test_soft_ranks_always_sum_to_those_of_n_subjects() -> None:
    assert float(soft_ranks(VALUES, 0.7).sum()) == pytest.approx(21)


def test_the_difference_error_is_the_mean_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=7), rng.normal(size=7)
    pairs = [((p[i] - p[j]) - (t[i] - t[j])) ** 2 for i in range(7) for j in range(7) if i != j]
    assert float(difference_error(torch.tensor(p), torch.tensor(t))) == pytest.approx(np.mean(pairs))


def test_a_shift_costs_squared_error_alone() -> None:
    assert float(rank_error(VALUES + 3, VALUES, 1e-4)) == pytest.approx(0, abs=1e-8)
    assert float(difference_error(VALUES + 3, VALUES)) == pytest.approx(0, abs=1e-8)
    assert float(ranked_loss(VALUES + 3, VALUES, RankedLoss(temperature=1e-4))) == pytest.approx(9)


def test_the_gradient_of_the_rank_term_swaps_a_wrong_pair() -> None:
    predicted = torch.tensor([1.0, 0.9, 3.0], requires_grad=True)
    rank_error(predicted, torch.tensor([0.0, 1.0, 2.0]), 0.3).backward()
    assert predicted.grad is not None
    assert predicted.grad[0] > 0 > predicted.grad[1]


def test_a_batch_of_one_has_only_its_squared_error() -> None:
    loss = ranked_loss(torch.tensor([2.0]), torch.tensor([0.0]), RankedLoss())
    assert float(loss) == 4.0
