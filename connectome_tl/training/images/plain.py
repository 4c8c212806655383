"""Extract the plain layers of a volume network, for pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.encoders.volumes import VolumeBranch
from connectome_tl.nn.fusion import Dense
from connectome_tl.nn.heads import SoftLabelHead
from connectome_tl.nn.losses import Outcomes, multi_task_loss
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.nn.voxel.shrinking import shrink
from connectome_tl.tasks import Task
from connectome_tl.training.fitted_models import MixtureModel, NetworkModel
from connectome_tl.training.interface import FittedModel


class PlainNetwork(nn.Module):
    """Volumes (n, n_channels, depth, height, width) to the outputs of one head, (n, n_outputs)."""

    def __init__(self, model: OutcomeModel, task: str) -> None:
        super().__init__()
        branch, fusion = model.branches["image"], model.fusion
        assert isinstance(branch, VolumeBranch)
        if not isinstance(fusion, Dense):
            raise UsageError("pruning needs a network with `fusion: {kind: dense}`", got=type(fusion).__name__)
        self.body, self.map, self.norm = branch.net, fusion.maps["image"], fusion.norm
        self.head = model.heads[task]

    def fused(self, volumes: Tensor) -> Tensor:
        """(n, fused_width) input of the head."""
        return torch.relu(self.norm(self.map(self.body(volumes))))

    def forward(self, volumes: Tensor) -> Tensor:
        found: Tensor = self.head(self.fused(volumes))
        return found


def network_of(model: FittedModel) -> NetworkModel:
    """The network of a fit, which must have volumes as its only input.

    Raises:
        UsageError: it has other inputs, or there is no network.
    """
    found = model.network if isinstance(model, MixtureModel) else model
    if not isinstance(found, NetworkModel) or set(found.sizes) != {"image"}:
        seen = ", ".join(found.sizes) if isinstance(found, NetworkModel) else "no network"
        raise UsageError("pruning needs a network on volumes alone", got=seen)
    if not found.settings.reads_volumes:
        raise UsageError("pruning needs an encoder of volumes", got=found.settings.branches["image"].describe())
    return found


def plain_networks(model: NetworkModel, task: str) -> list[PlainNetwork]:
    """The networks at the step that predicts this outcome.

    Raises:
        UsageError: the model has no such outcome.
    """
    if task not in model.heads:
        raise UsageError(f"the model has no outcome {task!r}", expected=", ".join(model.heads))
    return [PlainNetwork(one, task).eval() for one in model.networks(task)]


def loss_between(outputs: Tensor, goal: Tensor, task: Task) -> Tensor:
    """() mean loss of one outcome; outputs (n, n_outputs), scaled outcomes (n,), NaN where unknown."""
    return multi_task_loss(outputs, goal[:, None], Outcomes({task.name: task.kind}, {task.name: task.n_outputs}))


def training_loss(network: nn.Module, volumes: Tensor, goal: Tensor, task: Task) -> Tensor:
    """() mean training loss of the head, from its predicted distribution if it has one.

    Args:
        network: a `PlainNetwork`, pruned or not. goal: as in `loss_between`.
    """
    if not isinstance(network, PlainNetwork) or not isinstance(network.head, SoftLabelHead):
        return loss_between(network(volumes), goal, task)
    known = torch.isfinite(goal)
    losses = network.head.losses(network.fused(volumes), goal)
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp_min(1)


def rebuilt(
    network: PlainNetwork, removed: Mapping[str, Sequence[int]], state: Mapping[str, np.ndarray], example: Tensor
) -> nn.Module:
    """Rebuild a pruned network from the unpruned one, the removed channels and the remaining weights."""
    channels = {name: torch.tensor(list(which), dtype=torch.long) for name, which in removed.items()}
    small = shrink(network, channels, example)
    small.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    return small.eval()
