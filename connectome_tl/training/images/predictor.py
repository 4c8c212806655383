"""The networks of a finished fit as one function of volumes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import Batch, ImageRows
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.training.fitted import MixtureModel, NetworkModel
from connectome_tl.training.interface import FittedModel


class VolumePredictor(nn.Module):
    """Mean output of the networks' heads for one outcome: a standardised value, or a logit.

    Args:
        model: a network on volumes alone, or a mixture, whose network is used.
        task: name of the outcome.

    Raises:
        UsageError: the model has no network, uses modalities other than volumes, or has no such outcome.
    """

    def __init__(self, model: FittedModel, task: str) -> None:
        super().__init__()
        network = model.network if isinstance(model, MixtureModel) else model
        if not isinstance(network, NetworkModel) or set(network.sizes) != {"image"}:
            seen = ", ".join(network.sizes) if isinstance(network, NetworkModel) else "no network"
            raise UsageError("voxel maps need a network on volumes alone", got=seen)
        if task not in network.heads:
            raise UsageError(f"the model has no outcome {task!r}", expected=", ".join(network.heads))
        places = {one.name: i for i, one in enumerate(network.tasks)}
        start = sum(one.n_outputs for one in network.tasks[: places[task]])
        self.place = slice(start, start + network.heads[task])
        self.networks = nn.ModuleList(network.networks(network.step[task]))

    def forward(self, volumes: Tensor) -> Tensor:
        """(n, n_outputs) of volumes (n, n_channels, depth, height, width)."""
        here = torch.ones(len(volumes), dtype=torch.bool, device=volumes.device)
        batch = Batch({"image": ImageRows(volume=volumes)}, {"image": here})
        outputs = [one(batch)[:, self.place] for one in self.networks if isinstance(one, OutcomeModel)]
        return torch.stack(outputs).mean(dim=0)
