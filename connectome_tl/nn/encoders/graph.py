"""Base of all graph encoders, and the table of their layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from connectome_tl.nn.adjacency import Graph
from connectome_tl.nn.attention_layers import GATv2Layer, TransformerLayer
from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes, register_branch
from connectome_tl.nn.layers import SharedDropout, norm_layer
from connectome_tl.nn.message_layers import GatheringLayer, GCNLayer, GINLayer, GraphConv, SAGELayer
from connectome_tl.nn.nodes import NodeFeatures
from connectome_tl.nn.pooling import existing, readout_of
from connectome_tl.settings.encoders import (
    DirectSettings,
    GATv2Encoder,
    GCNEncoder,
    GINEncoder,
    GraphEncoder,
    MessageSettings,
    SAGEEncoder,
    TransformerEncoder,
)

_NODES_AT_ONCE = 32_768
_GATHERED_AT_MOST = 2**27  # bytes
_PREPARED_AT_ONCE = 16  # subjects
LayerFactory = Callable[[Any, int, int, int], nn.Module]
"""Settings, features in and out, number of measures that carry messages (0: none) to a layer."""

LAYERS: dict[type[MessageSettings], LayerFactory] = {
    GraphEncoder: lambda settings, n_in, n_out, n: GraphConv(n_in, n_out, n, settings.engine),
    GCNEncoder: lambda _, n_in, n_out, n: GCNLayer(n_in, n_out, n),
    GINEncoder: lambda _, n_in, n_out, n: GINLayer(n_in, n_out, n),
    SAGEEncoder: lambda _, n_in, n_out, n: SAGELayer(n_in, n_out, n),
    GATv2Encoder: lambda settings, n_in, n_out, n: GATv2Layer(n_in, n_out, n, settings.heads),
    TransformerEncoder: lambda settings, n_in, n_out, n: TransformerLayer(n_in, n_out, n, settings.heads),
}


class MessageEncoder(Branch):
    """Layers of message passing with a readout after every layer (jumping knowledge), then one projection."""

    def __init__(self, settings: MessageSettings, sizes: Sizes, layer: LayerFactory) -> None:
        super().__init__()
        n_regions, n_measures, n_features = sizes["n_regions"], sizes["n_measures"], sizes["n_features"]
        self.width, self.atlas_bound = settings.embedding, settings.is_atlas_bound
        self.channels = settings.width
        self.nodes = NodeFeatures(settings, sizes)
        widths = [self.nodes.width] + [settings.width] * settings.n_layers
        n_messages = n_measures if settings.messages else 0
        self.convs = nn.ModuleList(layer(settings, a, b, n_messages) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(norm_layer(settings.norm, settings.width) for _ in self.convs)
        readouts = [readout_of(settings, n_regions) for _ in self.convs]
        self.readouts = nn.ModuleList(readouts)
        self.project = nn.Linear(sum(readout.width for readout in readouts), settings.embedding)
        self.dropout = SharedDropout(settings.dropout)
        self.direct: nn.Linear | None = None
        if isinstance(settings, DirectSettings) and settings.direct:
            n_direct = n_regions * n_features
            if settings.node_features != "measures":
                n_direct = n_measures * n_regions * (n_regions - 1) // 2
            self.direct = nn.Linear(n_direct, settings.embedding, bias=False)
            nn.init.zeros_(self.project.weight)
            nn.init.zeros_(self.project.bias)

    def prepared(self, rows: ConnectomeRows) -> ConnectomeRows:
        """Propagate the initial features along the edges once, since A (X W) = (A X) W for constant A and X.

        Only in full precision, where it saves time, and up to a limit of memory for all rows.
        """
        first = self.convs[0]
        if not isinstance(first, GatheringLayer) or rows.edges.dtype != self.project.weight.dtype:
            return rows
        n_rows, _, n_regions, _ = rows.edges.shape
        width = self.nodes.width * first.n_copies
        if n_rows * n_regions * width * rows.edges.element_size() > _GATHERED_AT_MOST:
            return rows
        gathered = rows.edges.new_empty((n_rows, n_regions, width))
        with torch.no_grad():
            for place, part in zip(gathered.split(_PREPARED_AT_ONCE), rows.parts(_PREPARED_AT_ONCE), strict=True):
                graph = Graph(part)
                place.copy_(first.gather(self.nodes(part, graph), graph))
        # What no part of this encoder reads is left out of the batches.
        unread = isinstance(first, GraphConv) and rows.normalised is not None and rows.flat is not None
        return replace(
            rows,
            gathered=gathered,
            edges=rows.edges[:, :0] if unread else rows.edges,
            flat=None if self.direct is None else rows.flat,
        )

    def forward(self, rows: ConnectomeRows) -> Encoded:
        # Process a few subjects at a time, to limit the memory for features of all regions.
        n_regions = rows.edges.shape[2]
        masks = [self.dropout.mask((n_regions, self.channels), self.project.weight) for _ in self.convs]
        parts = [self._read(part, masks) for part in rows.parts(max(1, _NODES_AT_ONCE // n_regions))]
        embedding = self.project(torch.cat([read for read, _ in parts]))
        if self.direct is not None:
            flat = rows.regional.flatten(1) if self.nodes.kind == "measures" else rows.upper
            embedding = embedding + self.dropout.before(self.direct, flat)
        return Encoded(embedding, tuple(nodes for _, nodes in parts))

    def _read(self, rows: ConnectomeRows, masks: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """Concatenated readouts of all layers, and the node features after the last one."""
        graph = Graph(rows)
        h = rows.gathered if rows.gathered is not None else self.nodes(rows, graph)
        read: list[Tensor] = []
        for conv, norm, readout, mask in zip(self.convs, self.norms, self.readouts, masks, strict=True):
            ready = rows.gathered is not None and not read
            mixed = conv.mix(h) if ready and isinstance(conv, GatheringLayer) else conv(h, graph)
            h = existing(torch.relu_(norm(mixed)), rows.node_mask, mask)
            read.append(readout(h, rows.node_mask))
        return torch.cat(read, dim=1), h


for _settings, _layer in LAYERS.items():
    register_branch(_settings, partial(MessageEncoder, layer=_layer))
