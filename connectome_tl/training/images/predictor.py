"""The networks of a finished fit as one function of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import Batch, ImageRows
from connectome_tl.nn.branch import Encoded
from connectome_tl.nn.devices import exact_on_gpu
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
        self.others: tuple[Mapping[str, Encoded], ...] = ()
        self.present: Mapping[str, Tensor] = {}

    @exact_on_gpu()
    def beside(self, cohort: Cohort, subject: str) -> VolumePredictor:
        """Use the other modalities of this subject for all volumes. They are encoded once."""
        if not self.is_fused:
            return self
        batch = to_batch(self.features.rows(cohort, [subject])).to(next(self.networks.parameters()).device)
        self.present = {name: here for name, here in batch.present.items() if name != "image"}
        rows = replace(batch, modalities={name: batch.modalities[name] for name in self.present}, present=self.present)
        with torch.no_grad():
            self.others = tuple(one.encode(rows) for one in self._models)
        return self

    def forward(self, volumes: Tensor) -> Tensor:
        """(n, n_outputs) of volumes (n, n_channels, depth, height, width)."""
        n = len(volumes)
        here = torch.ones(n, dtype=torch.bool, device=volumes.device)
        batch = Batch({"image": ImageRows(volume=volumes)}, {"image": here})
        present = {**{name: there.expand(n) for name, there in self.present.items()}, **batch.present}
        outputs = []
        for i, model in enumerate(self._models):
            others = self.others[i] if self.others else {}
            encoded = {**{name: one.repeated(n) for name, one in others.items()}, **model.encode(batch)}
            fused = model.fuse({name: encoded[name] for name in model.branches if name in encoded}, present)
            outputs.append(model.outputs(fused)[:, self.place])
        return torch.stack(outputs).mean(dim=0)

    @property
    def _models(self) -> list[OutcomeModel]:
        return [one for one in self.networks if isinstance(one, OutcomeModel)]
