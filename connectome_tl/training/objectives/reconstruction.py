"""Objectives: reconstruct masked or corrupted parts of the connectome."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.objectives import DenoisingAutoencoder, MaskedEdges, MaskedNodes
from connectome_tl.training.objectives.hiding import (
    between_regions,
    masked_error,
    random_edges,
    random_regions,
    without_edges,
)
from connectome_tl.training.objectives.objective import TRAIN, Objective, ObjectiveSizes


class EdgeDecoder(nn.Module):
    """Decode an embedding to scaled edges by a symmetric low-rank form with factors weighted by the embedding."""

    def __init__(self, rank: int, sizes: ObjectiveSizes) -> None:
        super().__init__()
        of = sizes.modalities["connectome"]
        self.weigh = nn.Linear(sizes.widths["connectome"], of["n_measures"] * rank)
        self.factors = nn.Parameter(torch.randn(of["n_measures"], of["n_regions"], rank))

    def forward(self, embedding: Tensor) -> Tensor:
        """(batch, n_measures, n_regions, n_regions)."""
        n_measures, _, rank = self.factors.shape
        weights = self.weigh(embedding).view(-1, n_measures, 1, rank)
        return (self.factors * weights) @ self.factors.transpose(1, 2) / rank


class _Hiding(Objective):
    """Base of objectives that mask a fraction of the connectome and decode it."""

    def __init__(self, settings: MaskedEdges | MaskedNodes, sizes: ObjectiveSizes) -> None:
        super().__init__()
        self.share = settings.share
        self.decode = EdgeDecoder(settings.rank, sizes)


class MaskedEdgeReconstruction(_Hiding):
    """Mask a random fraction of edges, and predict their scaled values from the embedding of the rest."""

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        rows = batches[TRAIN].connectome
        hidden = random_edges(rows, self.share)
        embedding = model.branches["connectome"](without_edges(rows, hidden)).embedding
        return {
            "reconstruction": masked_error(self.decode(embedding), rows.edges, hidden & between_regions(rows)),
        }


class MaskedNodeReconstruction(_Hiding):
    """Mask a random fraction of regions with their edges and measures, and predict these edges from the rest."""

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        rows = batches[TRAIN].connectome
        hidden = random_regions(rows, self.share)
        seen = rows.without_regions((~hidden).to(rows.edges.dtype))
        predicted = self.decode(model.branches["connectome"](seen).embedding)
        edges = (hidden[:, :, None] | hidden[:, None, :])[:, None]
        where = (edges & between_regions(rows)).expand_as(rows.edges)
        return {"reconstruction": masked_error(predicted, rows.edges, where)}


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
        there = between_regions(rows)
        noisy = (rows.edges + noise + noise.transpose(2, 3)) * keep * there
        predicted = self.decoder(model.branches["connectome"](rows.with_edges(noisy, keep)).embedding)
        n_regions = rows.edges.shape[2]
        first, second = torch.triu_indices(n_regions, n_regions, offset=1, device=rows.edges.device)
        present = there.expand_as(rows.edges)[:, :, first, second].flatten(1)
        return {"reconstruction": masked_error(predicted, rows.upper, present)}
