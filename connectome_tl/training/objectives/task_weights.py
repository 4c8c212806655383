"""Weights that combine the losses of several outcomes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from connectome_tl.settings.training import TaskWeights

_KEPT = 0.9  # momentum of the running mean of gradient norms


class Weighting(nn.Module):
    """Equal weights: the mean over the outcomes that are observed in the batch.

    Also the base of other weightings. Maps losses (n_tasks,), observed (n_tasks,) bool and the fused embedding
    (batch, fused_width) to a scalar ().
    """

    def forward(self, losses: Tensor, seen: Tensor, fused: Tensor) -> Tensor:
        """Combine losses (n_tasks,) to a scalar; the loss of an outcome that is not `seen` in the batch is 0."""
        del fused
        return losses.sum() / seen.sum().clamp_min(1)


class UncertaintyWeights(Weighting):
    """exp(-s) loss + s with a learned log variance s per outcome (Kendall et al. 2018, arXiv:1705.07115)."""

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(n_tasks))

    def forward(self, losses: Tensor, seen: Tensor, fused: Tensor) -> Tensor:
        del fused
        return (((-self.log_variance).exp() * losses + self.log_variance) * seen).sum() / seen.sum().clamp_min(1)


class GradientBalance(Weighting):
    """Weights that give all outcomes equal gradient norms at the fused embedding.

    This is the limit of GradNorm (Chen et al. 2018, arXiv:1711.02257) with alpha 0, computed directly from a running
    mean of the norms; the mean weight is 1.
    """

    size: Tensor

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.register_buffer("size", torch.zeros(n_tasks), persistent=False)

    def forward(self, losses: Tensor, seen: Tensor, fused: Tensor) -> Tensor:
        if not fused.requires_grad:  # only the heads are trained, which share no parameters
            return super().forward(losses, seen, fused)
        sizes = torch.stack([torch.autograd.grad(one, fused, retain_graph=True)[0].norm() for one in losses]).detach()
        known = self.size > 0
        self.size = torch.where(seen, torch.where(known, _KEPT * self.size + (1 - _KEPT) * sizes, sizes), self.size)
        inverse = torch.where(seen, 1 / self.size.clamp_min(1e-6), torch.zeros_like(sizes))
        n_seen = seen.sum().clamp_min(1)
        weights = inverse * n_seen / inverse.sum().clamp_min(1e-12)
        return (weights * losses).sum() / n_seen


def weighting(kind: TaskWeights, n_tasks: int) -> Weighting:
    """The weighting of that name for `n_tasks` outcomes."""
    if kind == "uncertainty":
        return UncertaintyWeights(n_tasks)
    return GradientBalance(n_tasks) if kind == "gradient" else Weighting()
