"""3D convolutions for processors: small maps as matrix products, thin maps in float32, a first layer in bfloat16.

Weights, their names and the function stay those of `torch.nn.Conv3d`; results differ by rounding.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_SMALL = 4  # output channels for each voxel of a batch, from which on a matrix product is faster
_LAST = torch.channels_last_3d


def for_processors(net: nn.Module) -> nn.Module:
    """Make every `Conv3d` of a network a `Conv` on the processor; nothing changes on a GPU. Returns the network."""
    for layer in net.modules():
        if type(layer) is nn.Conv3d:
            layer.__class__ = Conv
    return net


def plain(net: nn.Module) -> nn.Module:
    """Make every convolution of this module a `Conv3d` again, for programs that look for this class."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv3d):
            layer.__class__ = nn.Conv3d
    return net


def channels_last(volumes: Tensor) -> Tensor:
    """The same volumes with the channels as the fastest axis in memory, on a processor.

    Maps of this layout stay in it from layer to layer. Pooling is then many times as fast, convolutions and
    normalisations somewhat.
    """
    if volumes.device.type != "cpu":
        return volumes
    if volumes.shape[1] > 1:
        return volumes.contiguous(memory_format=_LAST)
    volumes = volumes.contiguous()  # one channel: both layouts are equal, and the strides say which one is meant
    whole, _, *rest = volumes.stride()
    return volumes.as_strided(volumes.shape, (whole, 1, *rest))


def is_thin(layer: nn.Conv3d, shape: tuple[int, ...]) -> bool:
    """Whether an input of this shape is thinner along an axis than the kernel, including dilation."""
    reach = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    return any(n < k for n, k in zip(shape[2:], reach, strict=True))


class Conv(nn.Conv3d):
    """A convolution that is fast for small maps, and correct in bfloat16 for thin ones.

    torch 2.13 computes wrong weight gradients in bfloat16 if the input is thinner than the kernel, on processors with
    AVX-512 bfloat16 units. Small maps of many channels are multiplied as matrices, which is correct; other thin ones
    use float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu":
            return super().forward(input)
        rough = torch.is_autocast_enabled("cpu")
        usual = input.dtype != torch.float64 if rough else input.dtype == self.weight.dtype
        if usual and self._is_small(input):
            kind = torch.get_autocast_dtype("cpu") if rough else input.dtype
            bias = None if self.bias is None else self.bias.to(kind)
            made: Tensor = _Product.apply(input.to(kind), self.weight.to(kind), bias, self.stride, self.padding)
            return made
        if rough and is_thin(self, tuple(input.shape)):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)

    def _is_small(self, input: Tensor) -> bool:
        is_plain = self.padding_mode == "zeros" and self.groups == 1 and max(self.dilation) == 1
        if not is_plain or isinstance(self.padding, str) or input.ndim != 5:
            return False
        ends = zip(input.shape[2:], self.padding, self.kernel_size, self.stride, strict=True)
        n_voxels = len(input) * prod((n + 2 * p - k) // s + 1 for n, p, k, s in ends)
        return 0 < _SMALL * n_voxels <= self.out_channels


class Stem(nn.Conv3d):
    """A first convolution of few channels, 7 x 7 x 7 with stride 2.

    Units for products of bfloat16 matrices need several input channels. Under autocast the eight voxels of each
    2 x 2 x 2 block become channels, and the kernel one of 4 x 4 x 4 with stride 1.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type not in ("cpu", "cuda") or not torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        even = functional.pad(input, [n % 2 if end else 0 for n in input.shape[:1:-1] for end in (0, 1)])
        blocks = functional.pad(_blocks(even), [2, 1] * 3)  # the padding of 3 voxels, and that of the kernel below
        kernel = _blocks(functional.pad(self.weight, [1, 0] * 3))
        return functional.conv3d(blocks.to(memory_format=_LAST), kernel.to(memory_format=_LAST))


def _blocks(values: Tensor) -> Tensor:
    """Voxels of 2 x 2 x 2 blocks as channels, (n, n_channels, 2 d, 2 h, 2 w) to (n, 8 n_channels, d, h, w)."""
    n, n_channels, *sides = values.shape
    split = values.reshape(n, n_channels, *(size for side in sides for size in (side // 2, 2)))
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, 8 * n_channels, *(side // 2 for side in sides))


class _Product(torch.autograd.Function):
    """A convolution as a product of the kernel and all windows of the input (each voxel is copied once per tap).

    One node of the graph, as for `conv3d`, so that programs that read the graph see a convolution.
    """

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(given, weight)
        ctx.stride, ctx.padding, ctx.has_bias = stride, padding, bias is not None
        rows, shape = _windows(given, weight, stride, padding)
        out = rows @ weight.flatten(1).T if bias is None else torch.addmm(bias, rows, weight.flatten(1).T)
        return out.reshape(len(given), *shape, len(weight)).permute(0, 4, 1, 2, 3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        given, weight = ctx.saved_tensors
        rows, shape = _windows(given, weight, ctx.stride, ctx.padding)
        gradient = gradients[0].permute(0, 2, 3, 4, 1).reshape(-1, len(weight))
        of_weight = (gradient.T @ rows).reshape(weight.shape) if ctx.needs_input_grad[1] else None
        of_bias = gradient.sum(0) if ctx.has_bias else None
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias, None, None
        taps = (gradient @ weight.flatten(1)).reshape(len(given), *shape, *weight.shape[1:])
        taps = taps.permute(0, 4, 1, 2, 3, 5, 6, 7)
        sides = [n + 2 * p for n, p in zip(given.shape[2:], ctx.padding, strict=True)]
        # Many taps are added: in bfloat16 their rounding would accumulate.
        found = taps.new_zeros((*given.shape[:2], *sides), dtype=torch.promote_types(taps.dtype, torch.float32))
        for i, j, k in product(*(range(n) for n in weight.shape[2:])):
            x, y, z = (slice(t, t + s * n, s) for t, s, n in zip((i, j, k), ctx.stride, shape, strict=True))
            found[:, :, x, y, z] += taps[..., i, j, k]
        x, y, z = (slice(p, p + n) for p, n in zip(ctx.padding, given.shape[2:], strict=True))
        return found[:, :, x, y, z].to(given.dtype), of_weight, of_bias, None, None


def _windows(
    given: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]
) -> tuple[Tensor, tuple[int, ...]]:
    """The inputs of every output voxel (batch x output voxels, n_channels x taps), and the output's shape."""
    found = functional.pad(given, [p for p in reversed(padding) for _ in range(2)])
    for axis, (k, s) in enumerate(zip(weight.shape[2:], stride, strict=True), start=2):
        found = found.unfold(axis, k, s)
    shape = tuple(found.shape[2:5])
    return found.permute(0, 2, 3, 4, 1, 5, 6, 7).reshape(len(given) * prod(shape), -1), shape
