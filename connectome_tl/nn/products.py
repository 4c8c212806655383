"""Products of constant rows, such as edges, with learned weights.

They are made in the precision of the rows. Where no gradient of the rows is asked for, the way with the least reading
of memory is taken; elsewhere they are plain torch.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

_ROWS_AT_ONCE = 32  # of a wide product: so many stay in the cache


def plus_messages(own: Tensor, adjacency: Tensor, sent: Tensor) -> Tensor:
    """`own + adjacency @ sent`, adjacency (batch, n_regions, n_regions) symmetric, features (batch, n_regions, n)."""
    if adjacency.requires_grad:
        return torch.baddbmm(own, adjacency, sent)
    return cast(Tensor, _PlusMessages.apply(own, adjacency, sent))


def wide_linear(rows: Tensor, weight: Tensor) -> Tensor:
    """`rows @ weight.T` for rows (batch, n_in) with many more columns than rows, and weight (n_out, n_in)."""
    if rows.requires_grad or rows.dtype == weight.dtype:
        return functional.linear(rows, weight.to(rows.dtype)).to(weight.dtype)
    return cast(Tensor, _WideLinear.apply(rows, weight))


class _PlusMessages(torch.autograd.Function):
    """A symmetric matrix is its own transpose, which is slower to multiply by."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, adjacency: Tensor, sent: Tensor) -> Tensor:
        ctx.save_for_backward(adjacency)
        return (adjacency @ sent).add_(own)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        (adjacency,), (gradient,) = ctx.saved_tensors, gradients
        return gradient, None, adjacency @ gradient


class _WideLinear(torch.autograd.Function):
    """In lower precision: forward a few rows at a time, backward all at once."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        lower = weight.to(rows.dtype)
        return torch.cat([functional.linear(part, lower) for part in rows.split(_ROWS_AT_ONCE)]).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        (rows,), (gradient,) = ctx.saved_tensors, gradients
        return None, (gradient.to(rows.dtype).T @ rows).to(gradient.dtype)
