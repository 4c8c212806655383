"""Layers that a processor or GPU computes correctly in bfloat16.

On processors with AVX-512 bfloat16 units, torch 2.13 computes wrong weight gradients of 3D convolutions in bfloat16 if
the input is thinner than the kernel along its first axis (`convolutions.Conv` avoids this). Each layer is compared with
float32 at the actual size of its input.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from connectome_tl.nn.devices import device_of_network, exact_on_gpu
from connectome_tl.nn.voxel.convolutions import channels_last, is_thin

_TOLERANCE = 0.02  # relative to the largest value; rounding of bfloat16 is about 0.004


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


@exact_on_gpu()
def fastest(net: nn.Module, shape: tuple[int, ...], *, tries: int = 3, gain: float = 1.1) -> str:
    """`bf16` if a training step is faster by the factor `gain` and every layer is correct, else `float32`.

    The network is tested on its device.
    """
    seconds = {kind: _seconds(net, shape, kind, tries) for kind in ("float32", "bf16")}
    if seconds["float32"] < gain * seconds["bf16"]:
        return "float32"
    return "bf16" if all(check.is_right for check in check_network(net, shape)) else "float32"


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
    """Output of the layer, and gradients of input and weights, in this precision."""
    weight, given = layer.weight.detach().clone().requires_grad_(True), volumes.clone().requires_grad_(True)
    with torch.autocast(volumes.device.type, dtype=torch.bfloat16, enabled=kind == torch.bfloat16):
        out = functional_call(layer, {"weight": weight}, (channels_last(given),))
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out))
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
