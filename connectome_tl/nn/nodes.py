"""Initial node features of regions, before message passing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.adjacency import Graph
from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Sizes
from connectome_tl.settings.encoders import MessageSettings


class NodeFeatures(nn.Module):
    """Features of the regions, (batch, n_regions, width), without learned parameters.

    Raises:
        UsageError: the cohort lacks the required features.
    """

    def __init__(self, settings: MessageSettings, sizes: Sizes) -> None:
        super().__init__()
        self.kind, self.walk = settings.node_features, settings.walk
        n_measures, n_features, n_places = sizes["n_measures"], sizes["n_features"], sizes.get("n_places", 0)
        if self.kind == "measures" and n_features == 0:
            raise UsageError(
                "node_features: measures needs regional measures, and the cohort has none",
                remedy="Give region_features in its cohort.yaml, or use node_features: profile.",
            )
        if settings.needs_places and n_places == 0:
            raise UsageError(
                "node_features: identity needs an atlas with the coordinates of its regions, and the cohort's has none",
                remedy="Use an atlas with centroids (connectome-tl atlas list), or node_features: strength.",
            )
        per_measure = {"profile": sizes["n_regions"], "strength": 3, "identity": 3, "measures": 0}[self.kind]
        places = n_places if self.kind == "identity" else 0
        self.width = n_measures * (per_measure + self.walk) + places + n_features

    def forward(self, rows: ConnectomeRows, graph: Graph) -> Tensor:
        parts = []
        if self.kind == "profile":
            n_batch, n_measures, n_regions, _ = rows.edges.shape
            parts.append(rows.edges.permute(0, 2, 1, 3).reshape(n_batch, n_regions, n_measures * n_regions))
        elif self.kind in ("strength", "identity"):
            parts.append(_summaries(rows))
        if self.kind == "identity" and rows.places is not None:
            parts.append(rows.places.expand(len(rows.edges), -1, -1))
        if self.walk:
            parts.append(graph.returns(self.walk))
        if rows.regional.shape[2]:
            parts.append(rows.regional)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _summaries(rows: ConnectomeRows) -> Tensor:
    """Mean, standard deviation and maximum of each region's scaled edges.

    Shapes: (batch, n_regions, n_measures * 3). Means are over the regions that exist.
    """
    mask = rows.present
    count = mask.sum(dim=3).clamp_min(1)
    mean = (rows.edges * mask).sum(dim=3) / count
    spread = ((((rows.edges - mean[..., None]) * mask) ** 2).sum(dim=3) / count + 1e-6).sqrt()
    largest = (rows.edges * mask).amax(dim=3)
    return torch.cat([mean, spread, largest], dim=1).transpose(1, 2)
