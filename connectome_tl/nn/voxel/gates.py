"""Multiplicative gates on channels, initially the identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from connectome_tl.nn.voxel.channels import ChannelGroup


class Gates(nn.Module):
    """One gate, initially a factor of one, for each unit of each channel group, applied after the last writer.

    In a residual network, a gate therefore closes a channel of all layers that add to it.

    Attributes:
        values: factors, (n_units,) per group; their gradient measures the contribution of a unit.
        open: buffers, (n_units,) per group, 0 where a unit is removed.
    """

    def __init__(self, groups: Sequence[ChannelGroup]) -> None:
        super().__init__()
        self.groups = tuple(groups)
        self.values = nn.ParameterList([nn.Parameter(torch.ones(group.n_units)) for group in groups])
        for i, group in enumerate(groups):
            self.register_buffer(f"open_{i}", torch.ones(group.n_units))
        self.places: dict[str, list[tuple[int, Tensor, Tensor]]] = {}
        for i, group in enumerate(groups):
            for place in group.gated:
                self.places.setdefault(place.module, []).append((i, place.own, place.root))

    @property
    def open(self) -> tuple[Tensor, ...]:
        """Factors of the units of each channel group, (n_units,) each; 0 for removed units."""
        return tuple(self.get_buffer(f"open_{i}") for i in range(len(self.groups)))

    def close(self, group: int, units: Tensor) -> None:
        """Close gates permanently."""
        self.get_buffer(f"open_{group}")[units] = 0.0

    @property
    def closed(self) -> dict[str, Tensor]:
        """Removed root channels by the name of the group's root."""
        return {
            group.root: group.channels_of(torch.nonzero(is_open == 0).flatten().cpu())
            for group, is_open in zip(self.groups, self.open, strict=True)
        }

    def factors(self, module: str, n_channels: int) -> Tensor:
        """(n_channels,) factors on the output of a module."""
        factors = torch.ones(n_channels, device=self.values[0].device)
        for i, own, root in self.places[module]:
            full = (self.values[i] * self.open[i]).repeat_interleave(self.groups[i].unit)
            factors = factors.index_put((own.to(full.device),), full[root.to(full.device)])
        return factors

    @contextmanager
    def on(self, network: nn.Module) -> Iterator[nn.Module]:
        """Context manager that applies these gates to the network."""
        handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in network.named_modules()
            if name in self.places
        ]
        try:
            yield network
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            del module, inputs
            shape = (1, -1, *(1,) * (output.ndim - 2))
            return output * self.factors(name, output.shape[1]).view(shape).to(output.dtype)

        return hook
