"""Products of large constant rows, such as edges, with learned weights that have few columns.

Products of edges have the precision of the edges, also within `torch.autocast`, which would otherwise change the
precision of the forward pass only. If no gradient of the rows is needed, a form with minimal memory traffic is
used, otherwise plain torch.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

_ROWS_AT_ONCE = 32  # rows of a wide product that fit into the cache
_CACHED_AT_MOST = 2**22  # bytes


def plus_messages(own: Tensor, adjacency: Tensor, sent: Tensor) -> Tensor:
    """`own + adjacency @ sent`, adjacency (batch, n_regions, n_regions) symmetric, features (batch, n_regions, n)."""
    if torch.is_autocast_enabled(adjacency.device.type):
        with torch.autocast(adjacency.device.type, enabled=False):
            return plus_messages(own.to(adjacency.dtype), adjacency, sent.to(adjacency.dtype))
    if adjacency.requires_grad:
        return torch.baddbmm(own, adjacency, sent)
    return cast(Tensor, _PlusMessages.apply(own, adjacency, sent))


def thin_linear(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`functional.linear` of features (batch, n_regions, n_in) and few outputs; fast for large constant features."""
    full = features.dtype == weight.dtype == torch.float32
    apart = features.requires_grad or torch.is_autocast_enabled(features.device.type)
    if apart or not (full and is_streamed(features) and torch.backends.mkldnn.is_available()):
        return functional.linear(features, weight, bias)
    return cast(Tensor, _ThinLinear.apply(features, weight, bias))


def wide_linear(rows: Tensor, weight: Tensor, mask: Tensor | None = None) -> Tensor:
    """`rows @ (weight * mask).T` for rows (batch, n_in) with many more columns than rows.

    Args:
        weight: (n_out, n_in). mask: (n_in,) factors without a gradient, or None for 1.
    """
    if rows.requires_grad or rows.dtype == weight.dtype:
        masked = weight if mask is None else weight * mask
        return functional.linear(rows, masked.to(rows.dtype)).to(weight.dtype)
    return cast(Tensor, _WideLinear.apply(rows, weight, mask))


def is_streamed(tensor: Tensor) -> bool:
    """Whether a processor reads this tensor from memory and not from its cache."""
    return tensor.device.type == "cpu" and tensor.numel() * tensor.element_size() > _CACHED_AT_MOST


class _PlusMessages(torch.autograd.Function):
    """A symmetric matrix is its own transpose: (A h)' = h'A.

    The second form reads the matrices in the order of memory. It is faster unless they are in the cache.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, adjacency: Tensor, sent: Tensor) -> Tensor:
        ctx.save_for_backward(adjacency)
        if is_streamed(adjacency):
            return torch.baddbmm(own.transpose(1, 2), sent.transpose(1, 2), adjacency).transpose(1, 2).contiguous()
        # Parts of a wider product are not contiguous, and adding them directly would go row by row.
        return (adjacency @ sent.contiguous()).add_(own.contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        (adjacency,), (gradient,) = ctx.saved_tensors, gradients
        if is_streamed(adjacency):
            return gradient, None, (gradient.transpose(1, 2) @ adjacency).transpose(1, 2)
        return gradient, None, adjacency @ gradient


class _ThinLinear(torch.autograd.Function):
    """Forward as a convolution of single pixels, for which with few outputs oneDNN is faster than BLAS; backward as a
    product, for which BLAS is faster."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        pixels = features.transpose(1, 2).unsqueeze(2)  # channels last, so that nothing is copied
        return functional.conv2d(pixels, weight[:, :, None, None], bias).squeeze(2).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        (features,) = ctx.saved_tensors
        gradient = gradients[0].flatten(0, 1)
        return None, gradient.T @ features.flatten(0, 1), gradient.sum(dim=0)


class _WideLinear(torch.autograd.Function):
    """Wide product in lower precision: forward in groups of rows, backward in one step.

    Weights are large, so that mask and conversion are applied in one pass over them.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, mask)
        ctx.dtype = weight.dtype
        lower = torch.empty_like(weight, dtype=rows.dtype)
        if mask is None:
            lower.copy_(weight)
        else:
            torch.mul(weight, mask, out=lower)
        return torch.cat([functional.linear(part, lower) for part in rows.split(_ROWS_AT_ONCE)]).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (rows, mask), (gradient,) = ctx.saved_tensors, gradients
        found = gradient.to(rows.dtype).T @ rows
        return None, found.to(ctx.dtype) if mask is None else torch.mul(found, mask), None
