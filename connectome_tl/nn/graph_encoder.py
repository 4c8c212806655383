"""Connectome to embedding. An encoder maps `Inputs` to (batch, embedding)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.layers import GraphConv, Inputs, MeanReadout, RegionalReadout, SharedDropout, norm_layer
from connectome_tl.settings.study import FlatEncoder, GraphEncoder


class DenseGraphEncoder(nn.Module):
    """Graph convolutions with a readout after every layer (jumping knowledge), then one projection."""

    def __init__(self, settings: GraphEncoder, n_regions: int, n_measures: int, n_features: int) -> None:
        super().__init__()
        self.node_features = settings.node_features
        if settings.node_features == "measures" and n_features == 0:
            raise UsageError(
                "node_features: measures needs regional measures, and the cohort has none",
                remedy="Give region_features in its cohort.yaml, or take node_features: profile.",
            )
        per_measure = {"profile": n_regions, "strength": 3, "measures": 0}[settings.node_features]
        n_in = n_measures * per_measure + n_features
        widths = [n_in] + [settings.width] * settings.n_layers
        self.convs = nn.ModuleList(GraphConv(a, b, n_measures, settings.engine) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(norm_layer(settings.norm, settings.width) for _ in self.convs)
        self.readouts = nn.ModuleList(
            RegionalReadout(n_regions, settings.width) if settings.readout == "regional" else MeanReadout()
            for _ in self.convs
        )
        self.project = nn.Linear(settings.width * settings.n_layers, settings.embedding)
        self.dropout = SharedDropout(settings.dropout)
        self.direct: EdgeProjection | RegionProjection | None = None
        if settings.direct:
            self.direct = (
                RegionProjection(n_regions, n_features, settings.embedding)
                if settings.node_features == "measures"
                else EdgeProjection(n_regions, n_measures, settings.embedding)
            )
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def forward(self, inputs: Inputs) -> Tensor:
        h = self._nodes(inputs)
        read = []
        for conv, norm, readout in zip(self.convs, self.norms, self.readouts, strict=True):
            h = torch.relu(norm(conv(h, inputs.adjacency))) * inputs.node_mask[..., None]
            h = self.dropout(h)
            read.append(readout(h, inputs.node_mask))
        embedding = self.project(torch.cat(read, dim=1))
        return embedding if self.direct is None else embedding + self.direct(inputs, self.dropout)

    def _nodes(self, inputs: Inputs) -> Tensor:
        if self.node_features == "measures":
            return inputs.regional
        if self.node_features == "profile":
            n_batch, n_measures, n_regions, _ = inputs.edges.shape
            profile = inputs.edges.permute(0, 2, 1, 3).reshape(n_batch, n_regions, n_measures * n_regions)
            return torch.cat([profile, inputs.regional], dim=2)
        return torch.cat([_summaries(inputs), inputs.regional], dim=2)


class EdgeProjection(nn.Module):
    """Upper-triangle edges, linearly, to (batch, embedding)."""

    rows: Tensor
    columns: Tensor

    def __init__(self, n_regions: int, n_measures: int, embedding: int) -> None:
        super().__init__()
        rows, columns = torch.triu_indices(n_regions, n_regions, offset=1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.linear = nn.Linear(len(rows) * n_measures, embedding, bias=False)

    def forward(self, inputs: Inputs, dropout: nn.Module) -> Tensor:
        return self.linear(dropout(inputs.edges[:, :, self.rows, self.columns].flatten(1)))


class RegionProjection(nn.Module):
    """The regions' own measures, linearly, to (batch, embedding)."""

    def __init__(self, n_regions: int, n_features: int, embedding: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_regions * n_features, embedding, bias=False)

    def forward(self, inputs: Inputs, dropout: nn.Module) -> Tensor:
        return self.linear(dropout(inputs.regional.flatten(1)))


def _summaries(inputs: Inputs) -> Tensor:
    """Atlas-free node features: mean, spread and largest of each region's scaled connections.

    Shapes: (batch, n_regions, n_measures * 3). Means are over the regions that exist.
    """
    mask = (inputs.node_mask[:, :, None] * inputs.node_mask[:, None, :])[:, None]
    count = mask.sum(dim=3).clamp_min(1)
    mean = (inputs.edges * mask).sum(dim=3) / count
    spread = ((((inputs.edges - mean[..., None]) * mask) ** 2).sum(dim=3) / count + 1e-6).sqrt()
    largest = (inputs.edges * mask).amax(dim=3)
    return torch.cat([mean, spread, largest], dim=1).transpose(1, 2)


class FlatEdgeEncoder(nn.Module):
    """Upper-triangle edges through dense layers without bias, normalised, ReLU (He et al. 2020)."""

    rows: Tensor
    columns: Tensor

    def __init__(self, settings: FlatEncoder, n_regions: int, n_measures: int, n_features: int) -> None:
        super().__init__()
        rows, columns = torch.triu_indices(n_regions, n_regions, offset=1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        n_edges = len(rows) * n_measures + n_regions * n_features
        widths = [n_edges, *settings.widths]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(norm_layer(settings.norm, b) for b in widths[1:])
        self.dropout = SharedDropout(settings.dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        h = inputs.edges[:, :, self.rows, self.columns].flatten(1)
        h = torch.cat([h, inputs.regional.flatten(1)], dim=1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = self.dropout(torch.relu(norm(layer(h))))
        return h


def build_encoder(
    settings: GraphEncoder | FlatEncoder, n_regions: int, n_measures: int, n_features: int
) -> tuple[nn.Module, int]:
    """The encoder of these settings and the width of its embedding."""
    if isinstance(settings, FlatEncoder):
        return FlatEdgeEncoder(settings, n_regions, n_measures, n_features), settings.widths[-1]
    return DenseGraphEncoder(settings, n_regions, n_measures, n_features), settings.embedding
