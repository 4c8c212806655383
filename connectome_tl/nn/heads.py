"""Heads: map the fused embedding to the outputs of one outcome."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from connectome_tl.settings.model import DistributionHead

_REACH = 3.0  # standard deviations covered by the bins before `cover` is called


class SoftLabelHead(nn.Module):
    """A distribution over bins of a scaled outcome; the output is its mean.

    After Peng et al. 2021 (doi:10.1016/j.media.2020.101871).

    Attributes:
        centres: (n_bins,) centres of the bins, in units of the scaled outcome; saved with the weights.
    """

    centres: Tensor

    def __init__(self, width: int, settings: DistributionHead) -> None:
        super().__init__()
        self.spread, self.margin = settings.spread, settings.margin
        self.linear = nn.Linear(width, settings.bins)
        self.register_buffer("centres", torch.linspace(-_REACH, _REACH, settings.bins))

    def cover(self, goal: Tensor) -> None:
        """Set the bins to the range of scaled outcomes (n,), NaN where unknown, with a margin."""
        known = goal[torch.isfinite(goal)]
        if len(known) < 2 or float(known.max() - known.min()) == 0:
            return
        low, high = float(known.min()), float(known.max())
        reach = self.margin * (high - low)
        self.centres = torch.linspace(low - reach, high + reach, len(self.centres), device=self.centres.device)

    def forward(self, fused: Tensor) -> Tensor:
        """(batch, 1) mean of the distribution, from the fused embedding (batch, width)."""
        return torch.softmax(self.linear(fused), dim=1) @ self.centres[:, None]

    def losses(self, fused: Tensor, goal: Tensor) -> Tensor:
        """(batch,) divergence of the distribution from the soft label of a scaled outcome (batch,); NaN counts as 0."""
        at = torch.nan_to_num(goal, nan=0.0).clamp(float(self.centres[0]), float(self.centres[-1]))
        sd = self.spread * (self.centres[1] - self.centres[0])
        label = torch.softmax(-0.5 * ((self.centres - at[:, None]) / sd).square(), dim=1)
        found = torch.log_softmax(self.linear(fused), dim=1)
        return (torch.special.xlogy(label, label) - label * found).sum(dim=1)


def head_of(width: int, n_outputs: int, soft: DistributionHead | None) -> nn.Module:
    """A linear map, or a distribution over bins if `soft` is given."""
    return nn.Linear(width, n_outputs) if soft is None else SoftLabelHead(width, soft)
