"""Message-passing layers over dense connectomes, as matrix products.

Every layer maps features h (batch, n_regions, n_in) and a `Graph` to (batch, n_regions, n_out). With `n_measures` 0
there are no messages, only the transformation of a region's own features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.nn.batch import normalise_adjacency
from connectome_tl.nn.graphs import Graph
from connectome_tl.nn.products import plus_messages


class GraphConv(nn.Module):
    """h_i' = W_0 h_i + sum over measures m and regions j of a_mij W_m h_j.

    a is the symmetrically normalised adjacency. `engine="pyg"` passes the same messages along sparse edges
    through torch_geometric, with the same weights: for large sparse atlases, and as a reference implementation.
    """

    def __init__(self, n_in: int, n_out: int, n_measures: int, engine: str = "dense") -> None:
        super().__init__()
        self.own = nn.Linear(n_in, n_out)
        self.messages = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for _ in range(n_measures))
        self.engine = engine

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        # One product for self-connections and messages reads the features once. Tensors of the size of the edges keep
        # their precision; all others have that of the weights.
        weights = torch.cat([self.own.weight, *(part for message in self.messages for part in message.parameters())])
        bias = torch.cat([self.own.bias, self.own.bias.new_zeros(len(weights) - len(self.own.bias))])
        mixed = functional.linear(h, weights.to(h.dtype), bias.to(h.dtype))
        if not self.messages:
            return mixed.to(weights.dtype)
        adjacency = graph.adjacency
        out, *sent = mixed.to(adjacency.dtype).split(self.own.out_features, dim=-1)
        for m, message in enumerate(sent):
            if self.engine == "dense":
                out = plus_messages(out, adjacency[:, m], message)
            else:
                out = out + _sparse_sum(message, adjacency[:, m])
        return out.to(weights.dtype)


def _sparse_sum(sent: Tensor, adjacency: Tensor) -> Tensor:
    from torch_geometric.nn import SimpleConv
    from torch_geometric.utils import dense_to_sparse

    n_batch, n_regions, n_out = sent.shape
    edge_index, edge_weight = dense_to_sparse(adjacency.transpose(1, 2).contiguous())  # PyG sends from row to column
    summed = SimpleConv(aggr="sum")(sent.reshape(n_batch * n_regions, n_out), edge_index, edge_weight)
    return summed.reshape(n_batch, n_regions, n_out)


class GCNLayer(nn.Module):
    """h' = sum over measures m of A_m h W_m + b, A the normalised adjacency with self-loops (Kipf and Welling 2017).

    A self-loop has the mean strength of the subject's regions; the degree is that of absolute weights, so that
    negative edges keep their sign.
    """

    def __init__(self, n_in: int, n_out: int, n_measures: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for _ in range(max(n_measures, 1)))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.messages = n_measures > 0

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        if not self.messages:
            return self.maps[0](h) + self.bias
        loops = torch.eye(h.shape[1], dtype=h.dtype, device=h.device)
        adjacency = normalise_adjacency(graph.weights + loops, graph.mask)
        return torch.stack([adjacency[:, m] @ one(h) for m, one in enumerate(self.maps)]).sum(dim=0) + self.bias


class GINLayer(nn.Module):
    """h' = MLP((1 + e) h + sum over measures m of c_m W_m h), e and c learned (Xu et al. 2019); W are the weights."""

    def __init__(self, n_in: int, n_out: int, n_measures: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(()))
        self.factors = nn.Parameter(torch.ones(n_measures)) if n_measures else None
        self.dense = nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU(), nn.Linear(n_out, n_out))

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        own = (1 + self.own) * h
        if self.factors is None:
            return self.dense(own)
        mixed = torch.einsum("m,bmij->bij", self.factors, graph.weights)
        return self.dense(own + mixed @ h)


class SAGELayer(nn.Module):
    """h_i' = W_0 h_i + b + sum over measures m of W_m times the weighted mean of h over the neighbours of i
    (Hamilton et al. 2017); the weights of a mean are the edges over their absolute sum."""

    def __init__(self, n_in: int, n_out: int, n_measures: int) -> None:
        super().__init__()
        self.own = nn.Linear(n_in, n_out)
        self.maps = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for _ in range(n_measures))

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        out = self.own(h)
        for m, one in enumerate(self.maps):
            weights = graph.weights[:, m]
            strength = weights.abs().sum(dim=2, keepdim=True).clamp_min(1e-12)
            out = out + (weights / strength) @ one(h)
        return out
