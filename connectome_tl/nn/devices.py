"""Networks on a GPU: the device of a network, and float32 that is float32 there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def device_of_network(network: nn.Module) -> torch.device:
    """The device of the first parameter; the CPU without parameters."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; to a GPU it is copied from page-locked memory, while the GPU computes."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def exact_on_gpu() -> Iterator[None]:
    """Compute float32 in float32 on a GPU, with the deterministic algorithms of cuDNN; no effect without a GPU.

    By default torch rounds the inputs of float32 convolutions on a GPU to TF32, with a significand of 10 bits, and
    cuDNN may choose other algorithms in every process. Matrix products and convolutions in bfloat16 are not changed.
    The maximum pooling of residual networks still adds gradients in varying order, so that a fit on a GPU can be
    repeated up to rounding only. Can be used as a decorator.
    """
    if not torch.cuda.is_available():
        yield
        return
    cudnn: Any = torch.backends.cudnn
    products = torch.backends.cuda.matmul
    before = cudnn.conv.fp32_precision, products.fp32_precision, cudnn.deterministic, cudnn.benchmark
    cudnn.conv.fp32_precision = products.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.conv.fp32_precision, products.fp32_precision = before[:2]
        cudnn.deterministic, cudnn.benchmark = before[2:]
