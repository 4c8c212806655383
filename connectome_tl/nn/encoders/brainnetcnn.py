"""BrainNetCNN (Kawahara et al. 2017, doi:10.1016/j.neuroimage.2016.09.046), by broadcasting."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes, register_branch
from connectome_tl.nn.layers import SharedDropout
from connectome_tl.settings.encoders import BrainNetEncoder


class EdgeToNode(nn.Module):
    """A weighted sum of each region's connections: (batch, n_in, n_regions, n_regions) to (batch, n_out, n_regions)."""

    def __init__(self, n_in: int, n_out: int, n_regions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in, n_regions))
        self.bias = nn.Parameter(torch.zeros(n_out, 1))
        nn.init.normal_(self.weight, std=(n_in * n_regions) ** -0.5)

    def forward(self, edges: Tensor) -> Tensor:
        summed: Tensor = torch.einsum("bcij,ocj->boi", edges, self.weight)
        return summed + self.bias


class EdgeToEdge(nn.Module):
    """Sum of the edge-to-node outputs of both regions of an edge, which preserves symmetry.

    Shapes: (batch, n_in, n_regions, n_regions) to (batch, n_out, n_regions, n_regions).
    """

    def __init__(self, n_in: int, n_out: int, n_regions: int) -> None:
        super().__init__()
        self.filters = EdgeToNode(n_in, n_out, n_regions)

    def forward(self, edges: Tensor) -> Tensor:
        summed: Tensor = self.filters(edges)
        return summed[..., :, None] + summed[..., None, :]


class BrainNetBranch(Branch):
    """Edge-to-edge, edge-to-node and node-to-graph layers, leaky ReLU after each.

    Regional measures are concatenated to the node features. Contributions of missing regions are 0.
    """

    atlas_bound = True

    def __init__(self, settings: BrainNetEncoder, sizes: Sizes) -> None:
        super().__init__()
        n_regions, self.width, self.slope = sizes["n_regions"], settings.embedding, settings.slope
        n_layers = settings.n_layers if settings.messages else 0
        widths = [sizes["n_measures"]] + [settings.filters] * n_layers
        self.edge_layers = nn.ModuleList(EdgeToEdge(a, b, n_regions) for a, b in itertools.pairwise(widths))
        self.edge_to_node = EdgeToNode(widths[-1], settings.nodes, n_regions)
        n_graph = n_regions * (settings.nodes + sizes["n_features"])
        self.node_to_graph = nn.Linear(n_graph, settings.embedding)
        self.dropout = SharedDropout(settings.dropout)

    def forward(self, rows: ConnectomeRows) -> Encoded:
        edges = rows.edges * rows.present
        for layer in self.edge_layers:
            edges = functional.leaky_relu(layer(edges), self.slope) * rows.present
        nodes = functional.leaky_relu(self.edge_to_node(edges), self.slope).transpose(1, 2)
        nodes = torch.cat([nodes * rows.node_mask[..., None], rows.regional], dim=2)
        graph = functional.leaky_relu(self.node_to_graph(self.dropout(nodes.flatten(1))), self.slope)
        return Encoded(graph, (nodes,))


register_branch(BrainNetEncoder, BrainNetBranch)
