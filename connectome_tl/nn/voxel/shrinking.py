"""Remove channels from a network permanently."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from connectome_tl.errors import DataError
from connectome_tl.nn.voxel.channels import ChannelGroup, dependency_graph
from connectome_tl.nn.voxel.convolutions import plain
from connectome_tl.nn.voxel.gates import Gates


def shrink(network: nn.Module, removed: Mapping[str, Tensor], example: Tensor) -> nn.Module:
    """A copy of the network without these channels, in evaluation mode.

    Args:
        removed: output channels to remove, by the name of their layer; dependent layers are pruned by the dependency
        graph.
        example: (1, n_channels, depth, height, width).

    Raises:
        DataError: channels that are not complete groups of a group normalisation.
    """
    small = copy.deepcopy(network).eval()
    frozen = {name for name, parameter in small.named_parameters() if not parameter.requires_grad}
    small.requires_grad_(True)
    graph = dependency_graph(small, example)
    layers = dict(small.named_modules())
    for root, channels in removed.items():
        if len(channels) == 0:
            continue
        layer = layers[root]
        prune = graph.get_pruner_of_module(layer).prune_out_channels
        group = graph.get_pruning_group(layer, prune, channels.tolist())
        sizes = {id(item.dep.target.module): _group_size(item.dep.target.module, item.idxs) for item in group}
        group.prune()
        for item in group:
            norm = item.dep.target.module
            if isinstance(norm, nn.GroupNorm):
                norm.num_groups = norm.num_channels // sizes[id(norm)]
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(name not in frozen)
        parameter.grad = None
    return small


def _group_size(norm: nn.Module, channels: Sequence[int]) -> int:
    """Number of channels of one group; refuses incomplete groups, which would change the statistics of the others."""
    if not isinstance(norm, nn.GroupNorm):
        return 1
    size = norm.num_channels // norm.num_groups
    gone = torch.zeros(norm.num_channels)
    gone[torch.tensor(list(channels))] = 1
    if bool(((gone.view(norm.num_groups, size).mean(dim=1)) % 1 != 0).any()):
        raise DataError(
            "channels to remove are part of a group of a group normalisation",
            expected=f"whole groups of {size} channels",
            remedy="Remove whole groups, or use batch normalisation.",
        )
    return size


def removable(network: nn.Module, groups: Sequence[ChannelGroup], example: Tensor) -> dict[str, str]:
    """Reasons why channels of a group cannot be removed, by root; other groups are not listed.

    The last unit of each group, and every second one, are removed from a copy. The output must keep its shape and equal
    that of the network with closed gates. Shortcuts that pad with zeros, for example, have a fixed width.
    """
    if any(isinstance(module, nn.InstanceNorm3d) for module in network.modules()):
        raise DataError(
            "channels of InstanceNorm3d are not in the dependency graph",
            remedy="Use group normalisation with one channel per group.",
        )
    refused = {}
    was_training = network.training
    network.eval()
    # Norms of an untrained network have zero bias, so that maps of zeros would hide a wrong removal.
    volume = torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    for i, group in enumerate(groups):
        if group.n_units < 2:
            refused[group.root] = "it has one removable unit"
            continue
        for units in (torch.tensor([group.n_units - 1]), torch.arange(0, group.n_units, 2)):
            if reason := _trial(network, groups, i, units, volume):
                refused[group.root] = reason
                break
    network.train(was_training)
    return refused


def _trial(network: nn.Module, groups: Sequence[ChannelGroup], which: int, units: Tensor, volume: Tensor) -> str:
    group, gates = groups[which], Gates(groups).to(volume.device)
    gates.close(which, units)
    with torch.no_grad():
        with gates.on(network):
            masked = network(volume)
        try:
            small = _shrunk(network, {group.root: group.channels_of(units)}, volume)
            found = small(volume)
        except (RuntimeError, IndexError, ValueError, DataError) as error:
            return f"the network fails without these channels: {str(error).splitlines()[0]}"
    if found.shape != masked.shape:
        return f"the output would change from {tuple(masked.shape)} to {tuple(found.shape)}"
    if not torch.allclose(found, masked, rtol=1e-3, atol=1e-4):
        return "the output would change: something outside the gates depends on these channels"
    return ""


def _shrunk(network: nn.Module, removed: Mapping[str, Tensor], example: Tensor) -> nn.Module:
    with torch.enable_grad():  # the graph is traced through gradients
        return shrink(network, removed, example)


@dataclass(frozen=True)
class Cost:
    """Computational cost of a network for one volume.

    Attributes:
        macs: multiply-accumulates. parameters: number of weights. seconds: median CPU seconds of a forward pass.
        memory: bytes of the weights and of the maps that the most expensive layer reads and writes.
    """

    macs: float
    parameters: int
    seconds: float
    memory: int


def cost(network: nn.Module, example: Tensor, repeats: int = 5) -> Cost:
    """Count and time a copy of a network on the CPU, on an example (1, n_channels, depth, height, width)."""
    from torch_pruning.utils import count_ops_and_params

    network, example = copy.deepcopy(network).eval().cpu(), example.cpu()
    macs, parameters = count_ops_and_params(plain(copy.deepcopy(network)), example)
    times = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            started = time.process_time()
            network(example)
            times.append(time.process_time() - started)
    return Cost(float(macs), int(parameters), median(times[1:]), _memory(network, example))


def _memory(network: nn.Module, example: Tensor) -> int:
    most = 0

    def see(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal most
        del module
        most = max(most, sum(one.nbytes for one in (*given, output)))

    handles = [layer.register_forward_hook(see) for layer in network.modules() if not list(layer.children())]
    with torch.no_grad():
        network(example)
    for handle in handles:
        handle.remove()
    return most + sum(one.nbytes for one in (*network.parameters(), *network.buffers()))
