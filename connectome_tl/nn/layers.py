"""Layers that all branches share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SharedDropout(nn.Module):
    """Dropout with one mask for the whole batch: (batch, ...) features, a mask of (...).

    Drawing a mask per row costs more than the rest of a small network; a mask per step regularises
    the same weights.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x * self._mask(x) if self.training and self.share else x

    def before(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """`linear(self(x))` for (batch, n_in) features.

        The mask is the same for all rows, so that it can be put on the weights: for many rows of wide input, such
        as edges, that costs less than a second copy of the input.
        """
        if not (self.training and self.share) or len(x) <= 2 * linear.out_features:
            return linear(self(x))
        return functional.linear(x, linear.weight * self._mask(x), linear.bias)

    def _mask(self, x: Tensor) -> Tensor:
        keep = torch.rand(x.shape[1:], dtype=x.dtype, device=x.device) >= self.share
        return keep / (1 - self.share)


def norm_layer(kind: str, width: int) -> nn.Module:
    """Layer or batch normalisation of (batch, width) features, or nothing."""
    if kind == "layer":
        return nn.LayerNorm(width)
    return nn.BatchNorm1d(width) if kind == "batch" else nn.Identity()
