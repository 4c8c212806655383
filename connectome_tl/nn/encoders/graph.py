"""Graph convolutions over dense connectomes."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes, register_branch
from connectome_tl.nn.layers import GraphConv, MeanReadout, RegionalReadout, SharedDropout, norm_layer
from connectome_tl.settings.model import GraphEncoder


class DenseGraphEncoder(Branch):
    """Graph convolutions with a readout after every layer (jumping knowledge), then one projection."""

    def __init__(self, settings: GraphEncoder, sizes: Sizes) -> None:
        super().__init__()
        n_regions, n_measures, n_features = sizes["n_regions"], sizes["n_measures"], sizes["n_features"]
        self.width, self.atlas_bound = settings.embedding, settings.is_atlas_bound
        self.node_features = settings.node_features
        if settings.node_features == "measures" and n_features == 0:
            raise UsageError(
                "node_features: measures needs regional measures, and the cohort has none",
                remedy="Give region_features in its cohort.yaml, or take node_features: profile.",
            )
        per_measure = {"profile": n_regions, "strength": 3, "measures": 0}[settings.node_features]
        widths = [n_measures * per_measure + n_features] + [settings.width] * settings.n_layers
        n_messages = n_measures if settings.messages else 0
        self.convs = nn.ModuleList(GraphConv(a, b, n_messages, settings.engine) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(norm_layer(settings.norm, settings.width) for _ in self.convs)
        self.readouts = nn.ModuleList(
            RegionalReadout(n_regions, settings.width) if settings.readout == "regional" else MeanReadout()
            for _ in self.convs
        )
        self.project = nn.Linear(settings.width * settings.n_layers, settings.embedding)
        self.dropout = SharedDropout(settings.dropout)
        self.direct: nn.Linear | None = None
        if settings.direct:
            n_direct = n_regions * n_features
            if settings.node_features != "measures":
                n_direct = n_measures * n_regions * (n_regions - 1) // 2
            self.direct = nn.Linear(n_direct, settings.embedding, bias=False)
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def forward(self, rows: ConnectomeRows) -> Encoded:
        h, adjacency = self._nodes(rows), rows.adjacency
        read = []
        for conv, norm, readout in zip(self.convs, self.norms, self.readouts, strict=True):
            h = torch.relu(norm(conv(h, adjacency))) * rows.node_mask[..., None]
            h = self.dropout(h)
            read.append(readout(h, rows.node_mask))
        embedding = self.project(torch.cat(read, dim=1))
        if self.direct is not None:
            flat = rows.regional.flatten(1) if self.node_features == "measures" else rows.upper
            embedding = embedding + self.dropout.before(self.direct, flat)
        return Encoded(embedding, h)

    def _nodes(self, rows: ConnectomeRows) -> Tensor:
        if self.node_features == "measures":
            return rows.regional
        if self.node_features == "profile":
            n_batch, n_measures, n_regions, _ = rows.edges.shape
            profile = rows.edges.permute(0, 2, 1, 3).reshape(n_batch, n_regions, n_measures * n_regions)
        else:
            profile = _summaries(rows)
        return torch.cat([profile, rows.regional], dim=2) if rows.regional.shape[2] else profile


def _summaries(rows: ConnectomeRows) -> Tensor:
    """Atlas-free node features: mean, spread and largest of each region's scaled connections.

    Shapes: (batch, n_regions, n_measures * 3). Means are over the regions that exist.
    """
    mask = rows.present
    count = mask.sum(dim=3).clamp_min(1)
    mean = (rows.edges * mask).sum(dim=3) / count
    spread = ((((rows.edges - mean[..., None]) * mask) ** 2).sum(dim=3) / count + 1e-6).sqrt()
    largest = (rows.edges * mask).amax(dim=3)
    return torch.cat([mean, spread, largest], dim=1).transpose(1, 2)


register_branch(GraphEncoder, DenseGraphEncoder)
