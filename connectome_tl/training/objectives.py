"""What a network is trained for. One interface, with and without labels.

An objective maps the model, a batch per role and its targets to named terms whose sum is minimised. It may
own parameters; it sees no subject, file or cohort.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from connectome_tl.errors import InternalError
from connectome_tl.nn.batch import Batch, ConnectomeRows
from connectome_tl.nn.losses import Outcomes, multi_task_loss
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.objectives import DenoisingAutoencoder, MaskedEdges, MaskedVolume, ObjectiveSettings

TRAIN, SOURCE = "train", "source"  # roles of batches


class Objective(nn.Module):
    """Base of all objectives."""

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        """Named terms, each () scalar; their sum is minimised."""
        raise NotImplementedError


@dataclass(frozen=True)
class ObjectiveSizes:
    """What an objective must know before its first batch.

    Attributes:
        modalities: sizes by modality (`Modality.sizes`). widths: of each branch's embedding.
        outcomes: of the stage before, whose heads are there.
    """

    modalities: Mapping[str, Mapping[str, int]]
    widths: Mapping[str, int]
    outcomes: Outcomes


class Supervised(Objective):
    """Masked multi-task loss of the heads; edges may be jittered.

    Args:
        positives: share of class 1 by binary outcome where the classes are weighted. The weighted loss is minimised
            by outputs that are off by the logarithm of the ratio of the weights; this is added to the outputs before
            the loss, so that the outputs themselves stay logits of the true risk.
    """

    def __init__(
        self, outcomes: Outcomes, edge_noise: float = 0.0, positives: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.outcomes, self.edge_noise, self.positives = outcomes, edge_noise, dict(positives or {})

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        batch, goal = batches[TRAIN], targets[TRAIN]
        if goal is None:
            raise InternalError("a supervised objective needs targets")
        if self.edge_noise and "connectome" in batch.modalities:
            rows = batch.connectome
            noise = torch.randn_like(rows.edges).triu(1) * self.edge_noise
            noisy = rows.edges + (noise + noise.transpose(2, 3)) * (rows.edges != 0)
            batch = batch.with_connectome(rows.with_edges(noisy))
        outputs = model(batch)
        if not self.positives:
            return {"outcomes": multi_task_loss(outputs, goal, self.outcomes)}
        shift, weight = torch.zeros_like(outputs), torch.ones_like(goal)
        for t, (task, place) in enumerate(self.outcomes.places.items()):
            if task in self.positives:
                share = self.positives[task]
                shift[:, place] = math.log((1 - share) / share)
                weight[:, t] = torch.nan_to_num(goal[:, t] * 0.5 / share + (1 - goal[:, t]) * 0.5 / (1 - share))
        return {"outcomes": multi_task_loss(outputs + shift, goal, self.outcomes, weight)}


class MaskedEdgeReconstruction(Objective):
    """Hide a random share of edges, predict their scaled values from the embedding of the rest.

    The decoder is a symmetric low-rank form: regional factors weighted by the embedding.
    """

    def __init__(self, settings: MaskedEdges, sizes: ObjectiveSizes) -> None:
        super().__init__()
        of = sizes.modalities["connectome"]
        self.share = settings.share
        self.weigh = nn.Linear(sizes.widths["connectome"], of["n_measures"] * settings.rank)
        self.factors = nn.Parameter(torch.randn(of["n_measures"], of["n_regions"], settings.rank))

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        rows = batches[TRAIN].connectome
        hidden = (torch.rand_like(rows.edges) < self.share).triu(1)
        hidden = hidden | hidden.transpose(2, 3)
        kept = (~hidden).to(rows.edges.dtype)
        embedding = model.branches["connectome"](rows.with_edges(rows.edges * kept, kept)).embedding
        n_measures, _, rank = self.factors.shape
        weights = self.weigh(embedding).view(-1, n_measures, 1, rank)
        predicted = (self.factors * weights) @ self.factors.transpose(1, 2) / rank
        return {"reconstruction": _masked_error(predicted, rows.edges, hidden & _between_regions(rows))}


class DenoisingReconstruction(Objective):
    """Reconstruct clean scaled edges from noisy, partly dropped ones through the embedding."""

    def __init__(self, settings: DenoisingAutoencoder, sizes: ObjectiveSizes) -> None:
        super().__init__()
        of = sizes.modalities["connectome"]
        self.noise, self.drop = settings.noise, settings.drop
        n_edges = of["n_measures"] * of["n_regions"] * (of["n_regions"] - 1) // 2
        self.decoder = nn.Sequential(
            nn.Linear(sizes.widths["connectome"], settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, n_edges)
        )

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        rows = batches[TRAIN].connectome
        noise = torch.randn_like(rows.edges).triu(1) * self.noise
        keep = (torch.rand_like(rows.edges) >= self.drop).triu(1)
        keep = (keep | keep.transpose(2, 3)).to(rows.edges.dtype)
        there = _between_regions(rows)
        noisy = (rows.edges + noise + noise.transpose(2, 3)) * keep * there
        predicted = self.decoder(model.branches["connectome"](rows.with_edges(noisy, keep)).embedding)
        n_regions = rows.edges.shape[2]
        first, second = torch.triu_indices(n_regions, n_regions, offset=1, device=rows.edges.device)
        present = there.expand_as(rows.edges)[:, :, first, second].flatten(1)
        return {"reconstruction": _masked_error(predicted, rows.upper, present)}


class MaskedVolumeReconstruction(Objective):
    """Hide blocks of voxels, predict block means of the clean volume from the embedding of the rest."""

    def __init__(self, settings: MaskedVolume, sizes: ObjectiveSizes) -> None:
        super().__init__()
        self.share, self.blocks, self.coarse = settings.share, settings.blocks, settings.coarse
        n_channels = sizes.modalities["image"]["n_channels"]
        self.decoder = nn.Linear(sizes.widths["image"], n_channels * settings.coarse**3)

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        batch = batches[TRAIN]
        volumes = batch.image.volumes
        n, side = len(volumes), self.blocks
        kept = (torch.rand(n, 1, side, side, side, device=volumes.device) >= self.share).to(volumes.dtype)
        seen = volumes * nn.functional.interpolate(kept, size=volumes.shape[2:], mode="nearest")
        embedding = model.branches["image"](replace(batch.image, volume=seen)).embedding
        clean = nn.functional.adaptive_avg_pool3d(volumes, self.coarse).flatten(1)
        there = batch.present["image"][:, None].expand_as(clean)
        return {"reconstruction": _masked_error(self.decoder(embedding), clean, there)}


ObjectiveFactory = Callable[[Any, ObjectiveSizes], Objective]
OBJECTIVES: dict[type[ObjectiveSettings], ObjectiveFactory] = {
    MaskedEdges: MaskedEdgeReconstruction,
    DenoisingAutoencoder: DenoisingReconstruction,
    MaskedVolume: MaskedVolumeReconstruction,
}


def register_objective(settings: type[ObjectiveSettings], factory: ObjectiveFactory) -> None:
    """Say which objective these settings make."""
    OBJECTIVES[settings] = factory


def build_objective(settings: ObjectiveSettings, sizes: ObjectiveSizes) -> Objective:
    """The objective of these settings.

    Raises:
        InternalError: none is registered for them.
    """
    if type(settings) not in OBJECTIVES:
        raise InternalError(f"no objective is registered for {type(settings).__name__}")
    return OBJECTIVES[type(settings)](settings, sizes)


def _between_regions(rows: ConnectomeRows) -> Tensor:
    """(batch, 1, n_regions, n_regions) bool: edges whose two regions exist, without the diagonal."""
    n_regions = rows.node_mask.shape[1]
    return rows.present.bool() & ~torch.eye(n_regions, dtype=torch.bool, device=rows.edges.device)


def _masked_error(predicted: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    return (((predicted - truth) ** 2) * where).sum() / where.sum().clamp_min(1)
