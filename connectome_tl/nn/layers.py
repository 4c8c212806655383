"""Layers shared by all branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from connectome_tl.nn.products import wide_linear


class SharedDropout(nn.Module):
    """Dropout with one mask for the whole batch: (batch, ...) features, a mask of (...).

    Drawing a mask per row takes longer than the rest of a small network; a mask per step also regularises the
    weights.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask(x.shape[1:], x)
        return x if mask is None else x * mask

    def before(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """`linear(self(x))` for (batch, n_in) features, multiplied in the precision of `x`.

        The mask is the same for all rows and can be applied to the weights, which for many rows of wide input, such as
        edges, is faster than a copy of the input.
        """
        weight = linear.weight
        mask = self.mask(x.shape[1:], weight)
        if mask is not None and len(x) <= 2 * linear.out_features and x.dtype == weight.dtype:
            x, mask = x * mask, None
        out = wide_linear(x, weight, mask)
        return out if linear.bias is None else out + linear.bias

    def mask(self, shape: torch.Size | tuple[int, ...], like: Tensor) -> Tensor | None:
        """Dropout mask for features of this shape (without the batch) in the precision of `like`; None for 1."""
        if not (self.training and self.share):
            return None
        keep = torch.rand(shape, dtype=like.dtype, device=like.device) >= self.share
        return keep / (1 - self.share)


def norm_layer(kind: str, width: int) -> nn.Module:
    """Layer or batch normalisation of (batch, width) features, or nothing."""
    if kind == "layer":
        return nn.LayerNorm(width)
    return nn.BatchNorm1d(width) if kind == "batch" else nn.Identity()
