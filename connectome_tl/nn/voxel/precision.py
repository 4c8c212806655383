"""Layers that a processor or GPU computes correctly in bfloat16.

On processors with AVX-512 bfloat16 units, torch 2.13 computes wrong weight gradients of 3D convolutions in bfloat16 if
the input is thinner than the kernel along its first axis. Each convolution is therefore compared with float32 at the
actual size of its input.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from connectome_tl.nn.devices import device_of_network, exact_on_gpu

_TOLERANCE = 0.02  # relative to the largest value; rounding of bfloat16 is about .004


@dataclass(frozen=True)
class LayerCheck:
    """One convolution in bfloat16 and float32: the largest deviation relative to the largest value.

    Attributes:
        shape: shape of its input. is_thin: whether the input is thinner than the kernel along an axis.
    """

    name: str
    shape: tuple[int, ...]
    is_thin: bool
    forward: float
    input_gradient: float
    weight_gradient: float

    @property
    def is_right(self) -> bool:
        """Whether all three are finite and within 2 %."""
        worst = max(self.forward, self.input_gradient, self.weight_gradient)
        return worst <= _TOLERANCE  # a comparison with NaN is false


def check_layer(layer: nn.Conv3d, shape: tuple[int, ...], *, name: str = "", seed: int = 0) -> LayerCheck:
    """Compare one convolution in bfloat16 with float32 on random input of this shape, on the device of its weights."""
    generator = torch.Generator().manual_seed(seed)
    volumes = torch.randn(shape, generator=generator).to(layer.weight.device)
    exact = _gradients(layer, volumes, torch.float32)
    rough = _gradients(layer, volumes, torch.bfloat16)
    found = [_deviation(a, b) for a, b in zip(rough, exact, strict=True)]
    return LayerCheck(name, shape, is_thin(layer, shape), *found)


def check_network(net: nn.Module, shape: tuple[int, ...]) -> list[LayerCheck]:
    """Compare every convolution of a network at its input size for a batch of this shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [
        layer.register_forward_pre_hook(_recorder(name, shapes))
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Conv3d)
    ]
    was_training = net.training
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(shape, device=device_of_network(net)))
    finally:
        net.train(was_training)
        for hook in hooks:
            hook.remove()
    layers = dict(net.named_modules())
    found = []
    for name, size in shapes.items():
        layer = layers[name]
        assert isinstance(layer, nn.Conv3d)
        found.append(check_layer(layer, size, name=name))
    return found


def in_float32(net: nn.Module) -> None:
    """Make every 3D convolution use float32 for inputs that are thinner than its kernel.

    In bfloat16 such inputs give wrong gradients; larger inputs use the surrounding precision. Weights and their names
    do not change. Repeated calls have no effect.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv3d) and not isinstance(layer, _Guarded):
            layer.__class__ = _Guarded


def is_thin(layer: nn.Conv3d, shape: tuple[int, ...]) -> bool:
    """Whether an input of this shape is thinner along an axis than the kernel, including dilation."""
    reach = [d * (k - 1) + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    return any(n < k for n, k in zip(shape[2:], reach, strict=True))


class _Guarded(nn.Conv3d):
    def forward(self, input: Tensor) -> Tensor:
        if is_thin(self, tuple(input.shape)):
            with torch.autocast(input.device.type, enabled=False):
                return super().forward(input.float())
        return super().forward(input)


@exact_on_gpu()
def fastest(net: nn.Module, shape: tuple[int, ...], *, tries: int = 3, gain: float = 1.1) -> str:
    """`bf16` if a training step is faster by the factor `gain` and every layer is correct, else `float32`.

    The network is tested on its device. On the CPU, layers with inputs thinner than their kernel always use float32
    (`in_float32`) and are not checked.
    """
    if device_of_network(net).type == "cpu":
        in_float32(net)
    seconds = {kind: _seconds(net, shape, kind, tries) for kind in ("float32", "bf16")}
    if seconds["float32"] < gain * seconds["bf16"]:
        return "float32"
    guarded = device_of_network(net).type == "cpu"
    wrong = [c for c in check_network(net, shape) if not c.is_right and not (guarded and c.is_thin)]
    return "float32" if wrong else "bf16"


def _seconds(net: nn.Module, shape: tuple[int, ...], kind: str, tries: int) -> float:
    """CPU seconds of the fastest of some training steps; wall-clock seconds on a GPU."""
    device = device_of_network(net)
    volumes = torch.randn(shape, device=device)
    clock = time.process_time if device.type == "cpu" else _clock_of_gpu
    best = float("inf")
    for _ in range(tries + 1):
        start = clock()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=kind == "bf16"):
            loss = net(volumes).float().square().mean()
        loss.backward()
        net.zero_grad(set_to_none=True)
        best = min(best, clock() - start)
    return best


def _clock_of_gpu() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _gradients(layer: nn.Conv3d, volumes: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    weight, given = (t.detach().clone().to(kind).requires_grad_(True) for t in (layer.weight, volumes))
    bias = None if layer.bias is None else layer.bias.detach().to(kind)
    padding: Any = layer.padding
    out = nn.functional.conv3d(given, weight, bias, layer.stride, padding, layer.dilation, layer.groups)
    seed = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    out.backward(seed)
    assert given.grad is not None
    assert weight.grad is not None
    return out.detach(), given.grad, weight.grad


def _deviation(rough: Tensor, exact: Tensor) -> float:
    rough, exact = rough.float(), exact.float()
    return float((rough - exact).abs().max() / exact.abs().max().clamp_min(1e-12))


def _recorder(name: str, shapes: dict[str, tuple[int, ...]]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def record(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        shapes[name] = tuple(given[0].shape)

    return record
