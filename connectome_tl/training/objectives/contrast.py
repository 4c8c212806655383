"""Objective: contrastive learning between views of connectomes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.nn.batch import Batch, ConnectomeRows
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.objectives import GraphContrast
from connectome_tl.training.objectives.hiding import random_edges, random_regions, without_edges
from connectome_tl.training.objectives.objective import TRAIN, Objective, ObjectiveSizes


class ContrastOfViews(Objective):
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748) between two views in which edges are dropped and regions
    hidden at random (You et al. 2020, arXiv:2010.13902)."""

    def __init__(self, settings: GraphContrast, sizes: ObjectiveSizes) -> None:
        super().__init__()
        self.edges, self.nodes, self.temperature = settings.drop_edges, settings.drop_nodes, settings.temperature
        width = sizes.widths["connectome"]
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        rows = batches[TRAIN].connectome
        one, other = (self.project(model.branches["connectome"](self._view(rows)).embedding) for _ in range(2))
        return {"contrast": info_nce(one, other, self.temperature)}

    def _view(self, rows: ConnectomeRows) -> ConnectomeRows:
        seen = without_edges(rows, random_edges(rows, self.edges))
        return seen.without_regions((~random_regions(rows, self.nodes)).to(rows.edges.dtype))


def info_nce(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of identifying the other view of a subject by cosine similarity, symmetric, () scalar.

    Args:
        one, other: (batch, width) of the same subjects in the same order.
    """
    alike = functional.normalize(one, dim=1) @ functional.normalize(other, dim=1).T / temperature
    own = torch.arange(len(alike), device=alike.device)
    return (functional.cross_entropy(alike, own) + functional.cross_entropy(alike.T, own)) / 2
