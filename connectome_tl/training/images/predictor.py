"""The networks of a finished fit as one function of volumes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import Batch, ImageRows
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.training.fitted_models import MixtureModel, NetworkModel, to_batch
from connectome_tl.training.interface import FittedModel


class VolumePredictor(nn.Module):
    """Mean output of the networks' heads for one outcome: a standardised value, or a logit.

    Networks with further modalities need those of a subject (`beside`).

    Args:
        model: a network with volumes, or a mixture, whose network is used.
        task: name of the outcome.

    Raises:
        UsageError: the model has no network, uses no volumes, or has no such outcome.
    """

    def __init__(self, model: FittedModel, task: str) -> None:
        super().__init__()
        network = model.network if isinstance(model, MixtureModel) else model
        if not isinstance(network, NetworkModel) or "image" not in network.sizes:
            seen = ", ".join(network.sizes) if isinstance(network, NetworkModel) else "no network"
            raise UsageError("voxel maps need a network with volumes", got=seen)
        if task not in network.heads:
            raise UsageError(f"the model has no outcome {task!r}", expected=", ".join(network.heads))
        places = {one.name: i for i, one in enumerate(network.tasks)}
        start = sum(one.n_outputs for one in network.tasks[: places[task]])
        self.place = slice(start, start + network.heads[task])
        self.networks = nn.ModuleList(network.networks(task))
        self.features = network.features
        self.is_fused = len(network.sizes) > 1
        self.context: Batch | None = None

    def beside(self, cohort: Cohort, subject: str) -> VolumePredictor:
        """Use the other modalities of this subject for all volumes."""
        if self.is_fused:
            batch = to_batch(self.features.rows(cohort, [subject]))
            self.context = batch.to(next(self.networks.parameters()).device)
        return self

    def forward(self, volumes: Tensor) -> Tensor:
        """(n, n_outputs) of volumes (n, n_channels, depth, height, width)."""
        here = torch.ones(len(volumes), dtype=torch.bool, device=volumes.device)
        images = ImageRows(volume=volumes)
        if self.context is None:
            batch = Batch({"image": images}, {"image": here})
        else:
            rows = self.context.rows(torch.zeros(len(volumes), dtype=torch.long, device=volumes.device))
            batch = replace(rows.with_image(images), present={**rows.present, "image": here})
        outputs = [one(batch)[:, self.place] for one in self.networks if isinstance(one, OutcomeModel)]
        return torch.stack(outputs).mean(dim=0)
