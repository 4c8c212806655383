"""Dense layers on upper-triangle edges (He et al. 2020) and on clinical covariates."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from connectome_tl.nn.batch import ClinicalRows, ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes, register_branch
from connectome_tl.nn.layers import SharedDropout, norm_layer
from connectome_tl.settings.encoders import ClinicalEncoder, FlatEncoder


class FlatEdgeEncoder(Branch):
    """Upper-triangle edges through dense layers without bias, normalised, ReLU (He et al. 2020)."""

    atlas_bound = True

    def __init__(self, settings: FlatEncoder, sizes: Sizes) -> None:
        super().__init__()
        n_regions = sizes["n_regions"]
        n_edges = sizes["n_measures"] * n_regions * (n_regions - 1) // 2
        widths = [n_edges + n_regions * sizes["n_features"], *settings.widths]
        self.width = widths[-1]
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(norm_layer(settings.norm, b) for b in widths[1:])
        self.dropout = SharedDropout(settings.dropout)
        self.skips_absent = settings.norm == "batch"

    def forward(self, rows: ConnectomeRows) -> Encoded:
        h = torch.cat([rows.upper, rows.regional.flatten(1)], dim=1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = self.dropout(torch.relu(norm(layer(h))))
        return Encoded(h)


class DenseEncoder(Branch):
    """One dense layer on the encoded covariates."""

    def __init__(self, settings: ClinicalEncoder, sizes: Sizes) -> None:
        super().__init__()
        self.width = settings.width
        self.linear = nn.Linear(sizes["n_columns"], settings.width, bias=False)
        self.norm = norm_layer(settings.norm, settings.width)
        self.skips_absent = settings.norm == "batch"

    def forward(self, rows: ClinicalRows) -> Encoded:
        return Encoded(torch.relu(self.norm(self.linear(rows.values))))


register_branch(FlatEncoder, FlatEdgeEncoder)
register_branch(ClinicalEncoder, DenseEncoder)
