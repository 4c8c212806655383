"""Pool region features to one vector per subject; missing regions are masked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from connectome_tl.settings.encoders import MessageSettings


def existing(h: Tensor, node_mask: Tensor, factors: Tensor | None = None) -> Tensor:
    """Features (batch, n_regions, n), 0 for regions that do not exist, times `factors` (n_regions, n)."""
    if node_mask.amin() == 0:  # skip the product with 1
        there = node_mask[..., None]
        factors = there if factors is None else there * factors
    return h if factors is None else h * factors


class Readout(nn.Module):
    """Base of all: features (batch, n_regions, n_in) and mask (batch, n_regions) to (batch, `width`)."""

    width: int

    def forward(self, h: Tensor, node_mask: Tensor) -> Tensor:
        """Pool features (batch, n_regions, n_in) to (batch, width).

        `node_mask` (batch, n_regions) is 0 for missing regions.
        """
        raise NotImplementedError


class RegionalReadout(Readout):
    """Weighted pooling with learned factors per region."""

    def __init__(self, n_regions: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.factors = nn.Parameter(torch.empty(n_regions, width))
        nn.init.normal_(self.factors)

    def forward(self, h: Tensor, node_mask: Tensor) -> Tensor:
        n_present = node_mask.sum(dim=1, keepdim=True).clamp_min(1)
        return existing(h, node_mask, self.factors).sum(dim=1) / n_present.sqrt()


class MeanReadout(Readout):
    """Mean over the regions, independent of their order and number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, h: Tensor, node_mask: Tensor) -> Tensor:
        n_present = node_mask.sum(dim=1, keepdim=True).clamp_min(1)
        return existing(h, node_mask).sum(dim=1) / n_present


class AttentionReadout(Readout):
    """Mean weighted by a learned function of the features (Ilse et al. 2018, arXiv:1802.04712)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)  # a bias would cancel

    def forward(self, h: Tensor, node_mask: Tensor) -> Tensor:
        score = self.score(torch.tanh(self.hidden(h)))[..., 0]
        weights = torch.softmax(score.masked_fill(node_mask == 0, -1e9), dim=1) * node_mask
        return (h * weights[..., None]).sum(dim=1)


class ClusterReadout(Readout):
    """Concatenated means over learned soft clusters of regions (assignment of Ying et al. 2018, arXiv:1806.08804).

    The assignment depends on the features of a region, not on its position.
    """

    def __init__(self, width: int, n_clusters: int) -> None:
        super().__init__()
        self.width = width * n_clusters
        self.assign = nn.Linear(width, n_clusters)

    def forward(self, h: Tensor, node_mask: Tensor) -> Tensor:
        share = torch.softmax(self.assign(h), dim=2) * node_mask[..., None]
        size = share.sum(dim=1).clamp_min(1e-6)
        return ((share.transpose(1, 2) @ h) / size[..., None]).flatten(1)


def readout_of(settings: MessageSettings, n_regions: int) -> Readout:
    """Build the readout of the settings."""
    if settings.readout == "regional":
        return RegionalReadout(n_regions, settings.width)
    if settings.readout == "clusters":
        return ClusterReadout(settings.width, settings.clusters)
    return AttentionReadout(settings.width) if settings.readout == "attention" else MeanReadout(settings.width)
