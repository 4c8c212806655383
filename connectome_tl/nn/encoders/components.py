"""Dense layers on the leading principal components of the edges."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes, register_branch
from connectome_tl.nn.layers import SharedDropout
from connectome_tl.settings.encoders import ComponentsEncoder

_MOST = 2000  # rows from which components are estimated, in even steps over all rows


class ComponentsBranch(Branch):
    """Leading principal components of edges and regional measures, scaled to unit variance, through dense layers.

    The components are those of the training rows of the first stage. They are transferred with the weights, and not
    trained. Components beyond the rank of these rows are 0.
    """

    atlas_bound = True
    components: Tensor
    centre: Tensor

    def __init__(self, settings: ComponentsEncoder, sizes: Sizes) -> None:
        super().__init__()
        n_regions = sizes["n_regions"]
        n_edges = sizes["n_measures"] * n_regions * (n_regions - 1) // 2
        n_inputs = n_edges + n_regions * sizes["n_features"]
        self.register_buffer("components", torch.randn(settings.components, n_inputs) / n_inputs**0.5)
        self.register_buffer("centre", torch.zeros(n_inputs))
        widths = [settings.components, *settings.widths]
        self.width = widths[-1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.dropout = SharedDropout(settings.dropout)

    def start(self, rows: ConnectomeRows) -> None:
        n_rows = len(rows.edges)
        some = torch.linspace(0, n_rows - 1, min(n_rows, _MOST), dtype=torch.float64).round().long()
        inputs = _inputs(rows.rows(some)).double()
        centre = inputs.mean(dim=0)
        inputs = inputs - centre
        # Of the Gram matrix, since there are fewer rows than edges.
        variances, vectors = torch.linalg.eigh(inputs @ inputs.T / max(len(inputs) - 1, 1))
        variances, vectors = variances.flip(0), vectors.flip(1)
        n_kept = int((variances > 1e-8 * variances[:1].clamp(min=1e-300)).sum())
        n_kept = min(n_kept, len(inputs) - 1, len(self.components))
        scale = variances[:n_kept] * max(len(inputs) - 1, 1) ** 0.5
        found = (vectors[:, :n_kept] / scale).T @ inputs
        largest = found.gather(1, found.abs().argmax(dim=1, keepdim=True))
        self.components.zero_()
        self.components[:n_kept] = found * largest.sign()  # the sign of a component is arbitrary
        self.centre.copy_(centre)

    def forward(self, rows: ConnectomeRows) -> Encoded:
        h = (_inputs(rows) - self.centre) @ self.components.T
        for layer in self.layers:
            h = self.dropout(torch.relu(layer(h)))
        return Encoded(h)


def _inputs(rows: ConnectomeRows) -> Tensor:
    """(batch, n_inputs) edges and regional measures."""
    return torch.cat([rows.upper, rows.regional.flatten(1)], dim=1)


register_branch(ComponentsEncoder, ComponentsBranch)
