"""Linear map of edges and graph attention in parallel (Han et al. 2025, arXiv:2501.17207)."""

from __future__ import annotations

import torch
from torch import nn

from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes, register_branch
from connectome_tl.nn.encoders.graph import LAYERS, MessageEncoder
from connectome_tl.nn.layers import SharedDropout
from connectome_tl.settings.encoders import DualEncoder, GATv2Encoder


class DualPathEncoder(Branch):
    """Concatenated embeddings of both paths."""

    atlas_bound = True

    def __init__(self, settings: DualEncoder, sizes: Sizes) -> None:
        super().__init__()
        n_regions = sizes["n_regions"]
        n_edges = sizes["n_measures"] * n_regions * (n_regions - 1) // 2
        self.attention = MessageEncoder(settings, sizes, LAYERS[GATv2Encoder])
        self.linear = nn.Linear(n_edges, settings.embedding, bias=False)
        self.dropout = SharedDropout(settings.dropout)
        self.width = 2 * settings.embedding

    def forward(self, rows: ConnectomeRows) -> Encoded:
        attended = self.attention(rows)
        linear = self.dropout.before(self.linear, rows.upper)
        return Encoded(torch.cat([linear, attended.embedding], dim=1), attended.parts)


register_branch(DualEncoder, DualPathEncoder)
