"""Low-rank linear map of the edges."""

from __future__ import annotations

import torch
from torch import nn

from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes, register_branch
from connectome_tl.nn.layers import SharedDropout
from connectome_tl.settings.encoders import LowRankEncoder


class LowRankEdgeEncoder(Branch):
    """z = W s, where s are the quadratic forms u' E u of `rank` regional factors u per measure; linear in the edges E.

    Regional measures have a separate linear map.
    """

    atlas_bound = True

    def __init__(self, settings: LowRankEncoder, sizes: Sizes) -> None:
        super().__init__()
        n_regions, n_measures = sizes["n_regions"], sizes["n_measures"]
        self.width = settings.embedding
        self.factors = nn.Parameter(torch.randn(n_measures, n_regions, settings.rank) / n_regions**0.5)
        self.project = nn.Linear(n_measures * settings.rank, settings.embedding, bias=False)
        n_measured = n_regions * sizes["n_features"]
        self.measured = nn.Linear(n_measured, settings.embedding, bias=False) if n_measured else None
        self.dropout = SharedDropout(settings.dropout)

    def forward(self, rows: ConnectomeRows) -> Encoded:
        forms = (self.factors * (rows.edges @ self.factors)).sum(dim=2).flatten(1)
        embedding = self.project(self.dropout(forms))
        if self.measured is not None:
            embedding = embedding + self.measured(self.dropout(rows.regional.flatten(1)))
        return Encoded(embedding)


register_branch(LowRankEncoder, LowRankEdgeEncoder)
