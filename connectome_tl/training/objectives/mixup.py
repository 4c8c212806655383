"""Mixup of subjects; draws use torch's current random state.

Mixed rows are convex combinations of two subjects' features, and the loss is that of both outcomes in the same
proportion (Zhang et al. 2018, arXiv:1710.09412). Partners near in outcome are the augmentation of Kawahara et
al. 2017 (doi:10.1016/j.neuroimage.2016.09.046).
"""

from __future__ import annotations

import torch
from torch import Tensor

from connectome_tl.nn.batch import Batch


def partners(goal: Tensor, neighbours: int | None) -> Tensor:
    """Row number of each row's partner, (n,): any row, or one of the nearest in outcome.

    Args:
        goal: (n, n_tasks) scaled outcomes, NaN where missing.
        neighbours: number of nearest rows; None for any row.
    """
    n_rows = len(goal)
    if neighbours is None:
        return torch.randperm(n_rows, device=goal.device)
    distance = outcome_distances(goal)
    distance.fill_diagonal_(torch.inf)
    near = distance.argsort(dim=1, stable=True)[:, : min(neighbours, n_rows - 1)]
    drawn = torch.randint(near.shape[1], (n_rows, 1), device=goal.device)
    return near.gather(1, drawn)[:, 0]


def outcome_distances(goal: Tensor) -> Tensor:
    """Mean squared difference over the outcomes that both rows have, (n, n); infinite if they share none.

    Squared differences do not cancel between outcomes.
    """
    known = torch.isfinite(goal)
    both = known[:, None] & known[None]
    filled = torch.nan_to_num(goal, nan=0.0)
    squared = (filled[:, None] - filled[None]).square() * both
    count = both.sum(dim=2)
    return torch.where(count > 0, squared.sum(dim=2) / count.clamp_min(1), torch.inf)


def shares(batch: Batch, other: Tensor, alpha: float) -> Tensor:
    """Weight of the row itself, (n,), from Beta(alpha, alpha); 1 for pairs with different regions or modalities."""
    rate = torch.full((len(batch),), alpha, device=other.device)
    share = torch.distributions.Beta(rate, rate).sample()
    alike = torch.ones(len(batch), dtype=torch.bool, device=other.device)
    for present in batch.present.values():
        alike = alike & (present == present[other])
    if "connectome" in batch.modalities:
        mask = batch.connectome.node_mask
        alike = alike & (mask == mask[other]).all(dim=1)
        share = share.to(mask.dtype)
    return torch.where(alike, share, torch.ones_like(share))
