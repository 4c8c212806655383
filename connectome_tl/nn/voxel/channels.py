"""Groups of channels that must be pruned together, and their cost.

The dependencies are those of torch-pruning's graph (Fang et al. 2023, arXiv:2301.12900).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Side = Literal["in", "out"]
NORMS = (nn.BatchNorm3d, nn.GroupNorm, nn.InstanceNorm3d)
CONVS = (nn.Conv3d, nn.ConvTranspose3d)
LAYERS = (*CONVS, nn.Linear)


@dataclass(frozen=True)
class Channels:
    """Channels of a module that belong to channels of a group's root: two tensors of equal length."""

    module: str
    own: Tensor
    root: Tensor
    side: Side = "out"


@dataclass(frozen=True)
class ChannelGroup:
    """Channels shared by several layers, since their maps are added or used as input.

    Attributes:
        root: name of the layer whose output channels define the numbers of the group's channels.
        n_channels: number of channels of the root.
        unit: channels that are removed together: 1, or those of one group of a group normalisation.
        gated: modules at which a closed gate is equivalent to removal: the last modules that write the channels,
        preferably normalisations.
        layers: inputs and outputs of convolutions and dense layers with these channels.
    """

    root: str
    n_channels: int
    unit: int
    gated: tuple[Channels, ...]
    layers: tuple[Channels, ...]

    @property
    def n_units(self) -> int:
        """Number of units that are removed or kept as a whole."""
        return self.n_channels // self.unit

    def channels_of(self, units: Tensor) -> Tensor:
        """Root channels of these units."""
        return (units[:, None] * self.unit + torch.arange(self.unit)).flatten()


def dependency_graph(network: nn.Module, example: Tensor) -> Any:
    """torch-pruning's graph of a network in evaluation mode."""
    import torch_pruning

    return torch_pruning.DependencyGraph().build_dependency(network, example, verbose=False)


def channel_groups(network: nn.Module, example: Tensor) -> tuple[ChannelGroup, ...]:
    """All groups of removable channels, except those of an output layer.

    Args:
        example: (1, n_channels, depth, height, width), of the size used for counting costs.
    """
    traced = copy.deepcopy(network).eval().requires_grad_(True)
    names = {module: name for name, module in traced.named_modules()}
    graph = dependency_graph(traced, example)
    found = []
    for group in graph.get_all_groups(root_module_types=LAYERS):
        root = names[group[0].dep.target.module]
        n_channels = len(group[0].idxs)
        nodes = {item.dep.target for item in group}
        if _is_output(group, graph):
            continue
        writers = [item for item in group if _writes(item, graph)]
        last = [item for item in writers if not _followed(item.dep.target, nodes, {w.dep.target for w in writers})]
        gated = {names[item.dep.target.module]: _channels(item, names, "out") for item in last}
        layers = [
            _channels(item, names, "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in")
            for item in group
            if isinstance(item.dep.target.module, LAYERS)
        ]
        found.append(ChannelGroup(root, n_channels, _unit(group), tuple(gated.values()), tuple(layers)))
    return tuple(found)


def _is_output(group: Any, graph: Any) -> bool:
    """Whether the writers include a layer that computes the network's output."""
    return any(
        not item.dep.target.outputs
        for item in group
        if isinstance(item.dep.target.module, LAYERS) and graph.is_out_channel_pruning_fn(item.dep.handler)
    )


def _writes(item: Any, graph: Any) -> bool:
    module = item.dep.target.module
    return isinstance(module, NORMS) or (
        isinstance(module, LAYERS) and graph.is_out_channel_pruning_fn(item.dep.handler)
    )


def _followed(node: Any, nodes: set[Any], writers: set[Any]) -> bool:
    """Whether another writer of the same channels follows without a channel-mixing layer in between."""
    ahead, seen = list(node.outputs), set()
    while ahead:
        following = ahead.pop()
        if following in seen:
            continue
        seen.add(following)
        if following in writers and following in nodes:
            return True
        if not isinstance(following.module, LAYERS):
            ahead += following.outputs
    return False


def _channels(item: Any, names: Mapping[nn.Module, str], side: Side) -> Channels:
    return Channels(names[item.dep.target.module], torch.tensor(item.idxs), torch.tensor(item.root_idxs), side)


def _unit(group: Any) -> int:
    sizes = [
        module.num_channels // module.num_groups
        for module in (item.dep.target.module for item in group)
        if isinstance(module, nn.GroupNorm)
    ]
    return math.lcm(*sizes)


class Costs:
    """Multiply-accumulates of one volume, layer by layer, as channels are removed.

    Args:
        example: (1, n_channels, depth, height, width).
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self.full: dict[str, int] = {}
        self.live: dict[tuple[str, Side], Tensor] = {}
        handles = []
        for name, module in network.named_modules():
            if isinstance(module, LAYERS):
                handles.append(module.register_forward_hook(self._count(name)))
        try:
            with torch.no_grad():
                network(example)
        finally:
            for handle in handles:
                handle.remove()

    def _count(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(module, LAYERS)
            # A transposed convolution applies its kernel once per input voxel.
            places = (inputs[0] if isinstance(module, nn.ConvTranspose3d) else output)[0, 0].numel()
            if isinstance(module, nn.Linear):
                places = output[0].numel() // module.out_features
            self.full[name] = self.full.get(name, 0) + places * module.weight.numel()
            n_in, n_out = (
                (module.in_features, module.out_features)
                if isinstance(module, nn.Linear)
                else (module.in_channels, module.out_channels)
            )
            self.live[name, "in"] = torch.ones(n_in, dtype=torch.bool)
            self.live[name, "out"] = torch.ones(n_out, dtype=torch.bool)

        return hook

    @property
    def total(self) -> float:
        """Multiply-accumulates of the remaining channels."""
        return sum(self._of(name) for name in self.full)

    def _of(self, name: str) -> float:
        live = self.live[name, "in"].double().mean() * self.live[name, "out"].double().mean()
        return self.full[name] * float(live)

    def remove(self, group: ChannelGroup, units: Tensor) -> None:
        """Remove the channels of these units from every layer."""
        for layer, own in self._parts(group, units):
            self.live[layer.module, layer.side][own] = False

    def saved(self, group: ChannelGroup) -> float:
        """Multiply-accumulates saved by removal of one more unit of this group; 0 without remaining units."""
        saving = 0.0
        for layer in group.layers:
            live = int(self.live[layer.module, layer.side].sum())
            saving += self._of(layer.module) * group.unit / live if live else 0.0
        return saving

    @staticmethod
    def _parts(group: ChannelGroup, units: Tensor) -> Iterator[tuple[Channels, Tensor]]:
        gone = torch.zeros(group.n_channels, dtype=torch.bool)
        gone[group.channels_of(units)] = True
        for layer in group.layers:
            yield layer, layer.own[gone[layer.root]]
