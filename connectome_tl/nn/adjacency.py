"""Adjacency of a batch for message-passing layers."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from connectome_tl.nn.batch import ConnectomeRows, normalise_adjacency

_NONE = 1e-5  # relative to the mean strength; smaller weights of absent edges are round-off of the inverse scaling


class Graph:
    """Edges of a batch in several forms, computed on demand and cached.

    All forms are differentiable functions of the edges.
    """

    def __init__(self, rows: ConnectomeRows) -> None:
        self.rows = rows
        self.mask = rows.node_mask

    @property
    def adjacency(self) -> Tensor:
        """(batch, n_measures, n_regions, n_regions) D^-1/2 W D^-1/2, see `normalise_adjacency`."""
        return self.rows.adjacency

    @cached_property
    def weights(self) -> Tensor:
        """Edges before scaling relative to the subject's mean strength, (batch, n_measures, n_regions, n_regions), with
        zero diagonal: absolute weights sum to 1 per region, on average over existing regions."""
        weights = self.rows.unscaled * self.rows.present
        weights = weights - torch.diag_embed(weights.diagonal(dim1=2, dim2=3))
        n_present = self.mask.sum(dim=1).clamp_min(1)[:, None]
        mean = weights.abs().sum(dim=(2, 3)) / n_present
        return weights / mean.clamp_min(1e-12)[..., None, None]

    @cached_property
    def with_loops(self) -> Tensor:
        """`weights` with self-loops of the mean strength, normalised as `adjacency`."""
        loops = torch.eye(self.weights.shape[2], dtype=self.weights.dtype, device=self.weights.device)
        return normalise_adjacency(self.weights + loops, self.mask)

    @cached_property
    def shares(self) -> Tensor:
        """`weights` over their absolute sum for each region."""
        return self.weights / self.weights.abs().sum(dim=3, keepdim=True).clamp_min(1e-12)

    @cached_property
    def linked(self) -> Tensor:
        """(batch, n_regions, n_regions) bool: pairs of regions with a connection of any measure."""
        return (self.weights.detach().abs() > _NONE).any(dim=1)

    @cached_property
    def channels(self) -> Tensor:
        """(batch, n_regions, n_regions, 2 * n_measures) scaled edges and weights, 0 on the diagonal and where hidden.

        Weights are relative to the mean edge of the subject, so that both kinds are about 1 in size.
        """
        n_present = self.mask.sum(dim=1)[:, None, None, None]
        scaled = self.rows.edges * self.rows.present
        scaled = scaled - torch.diag_embed(scaled.diagonal(dim1=2, dim2=3))
        return torch.cat([scaled, self.weights * n_present], dim=1).permute(0, 2, 3, 1)

    def returns(self, n_steps: int) -> Tensor:
        """Return probabilities of a random walk on the absolute weights after 2, 3, ... `n_steps + 1` steps, times the
        number of regions (about 1 for any atlas), (batch, n_regions, n_measures * n_steps)."""
        step = self.shares.abs()
        n_present = self.mask.sum(dim=1)[:, None, None]
        walked, found = step, []
        for _ in range(n_steps):
            walked = walked @ step
            found.append(walked.diagonal(dim1=2, dim2=3) * n_present)
        return torch.cat(found, dim=1).transpose(1, 2)
