"""Memory that the layers of a network need for one volume, computed without allocating it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectome_tl.errors import DataError

if TYPE_CHECKING:
    from torch import nn

_LARGEST, _TIMES = 64 << 20, 16  # bytes of one layer, or so many times the size of the bundle


def check_activations(net: nn.Module, shape: tuple[int, int, int], bundle_bytes: int) -> None:
    """Check that no output of a layer for one volume is far larger than a bundle of this size needs.

    Many channels need few weights: 10,000 channels of a 3 x 3 x 3 convolution are 1 MB of weights, and 1.3 GB for a
    volume of 32 x 32 x 32 voxels.

    Args:
        net: a network on torch's `meta` device. shape: voxels of the grid. bundle_bytes: size of the bundle.

    Raises:
        DataError: a layer needs more than 64 MiB and more than 16 times the size of the bundle.
    """
    import torch

    largest = 0

    def look(layer: nn.Module, inputs: object, output: object) -> None:
        nonlocal largest
        del layer, inputs
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel() * output.element_size())

    hooks = [layer.register_forward_hook(look) for layer in net.modules()]
    with torch.no_grad():
        net.eval()(torch.empty(1, 1, *shape, device="meta"))
    for hook in hooks:
        hook.remove()
    most = max(_LARGEST, _TIMES * bundle_bytes)
    if largest > most:
        raise DataError(
            "a network needs far more memory than a bundle of this size",
            expected=f"at most {most / 1e6:.0f} MB for a layer and a volume",
            got=f"{largest / 1e6:.0f} MB",
        )
