"""Ranking losses on ages: ranks and differences (TSAN, Cheng et al. 2021, doi:10.1109/TMI.2021.3085948).

The published rank term requires a sorter network that is pretrained for one batch size. The soft rank used here does
not (Qin et al. 2010, doi:10.1007/s10791-009-9124-x).
"""

from __future__ import annotations

import torch
from torch import Tensor

from connectome_tl.settings.images.cascade import RankedLoss


def soft_ranks(values: Tensor, temperature: float) -> Tensor:
    """(n,) differentiable ranks from 1 (lowest), which approach tie-averaged ranks for temperatures towards 0.

    Args:
        values: (n,). temperature: in units of the values.
    """
    return 0.5 + torch.sigmoid((values[:, None] - values[None, :]) / temperature).sum(dim=1)


def ranks(values: Tensor) -> Tensor:
    """(n,) ranks from 1, averaged over ties."""
    difference = values[:, None] - values[None, :]
    return 0.5 + ((difference > 0).to(values.dtype) + 0.5 * (difference == 0).to(values.dtype)).sum(dim=1)


def rank_error(predicted: Tensor, true: Tensor, temperature: float) -> Tensor:
    """Mean squared error of soft ranks divided by the number of subjects."""
    return ((soft_ranks(predicted, temperature) - ranks(true)) / len(true)).square().mean()


def difference_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean squared error of the age differences of all pairs: twice the variance of the errors."""
    return 2 * (predicted - true).var(unbiased=True)


def ranked_loss(predicted: Tensor, true: Tensor, settings: RankedLoss) -> Tensor:
    """Squared error, rank error and difference error; a batch of one has no pairs."""
    loss = (predicted - true).square().mean()
    if len(true) < 2 or settings.weight == 0:
        return loss
    pairs = rank_error(predicted, true, settings.temperature)
    if settings.differences:
        pairs = pairs + settings.differences * difference_error(predicted, true)
    return loss + settings.weight * pairs
