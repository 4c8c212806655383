"""Message-passing layers over dense connectomes, as matrix products.

Every layer maps features h (batch, n_regions, n_in) and a `Graph` to (batch, n_regions, n_out). With `n_measures` 0
there are no messages, only the transformation of a region's own features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.nn.adjacency import Graph
from connectome_tl.nn.products import is_streamed, plus_messages, thin_linear


class GatheringLayer(nn.Module):
    """Base of layers that are a function of the features and their weighted sums over neighbours.

    Attributes:
        n_copies: width of the result of `gather` in units of the width of the features.
    """

    n_copies: int

    def gather(self, h: Tensor, graph: Graph) -> Tensor:
        """The features and their sums over the neighbours, (batch, n_regions, n_copies * n_in), without weights."""
        raise NotImplementedError

    def mix(self, gathered: Tensor) -> Tensor:
        """The output of the layer for the result of `gather`."""
        raise NotImplementedError


class GraphConv(GatheringLayer):
    """h_i' = W_0 h_i + sum over measures m and regions j of a_mij W_m h_j.

    a is the symmetrically normalised adjacency. `engine="pyg"` passes the same messages along sparse edges
    through torch_geometric, with the same weights: for large sparse atlases, and as a reference implementation.
    """

    def __init__(self, n_in: int, n_out: int, n_measures: int, engine: str = "dense") -> None:
        super().__init__()
        self.own = nn.Linear(n_in, n_out)
        self.messages = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for _ in range(n_measures))
        self.engine, self.n_copies = engine, n_measures + 1

    def gather(self, h: Tensor, graph: Graph) -> Tensor:
        passed = torch.matmul if self.engine == "dense" else _sparse_sum
        sums = (passed(graph.adjacency[:, m], h) for m in range(len(self.messages)))
        return torch.cat([h, *sums], dim=2)

    def mix(self, gathered: Tensor) -> Tensor:
        weights = torch.cat([self.own.weight, *(part for one in self.messages for part in one.parameters())], dim=1)
        return thin_linear(gathered, weights, self.own.bias)

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        if not self.messages:
            return thin_linear(h, self.own.weight.to(h.dtype), self.own.bias.to(h.dtype)).to(self.own.weight.dtype)
        # Tensors of the size of the edges keep their precision; all others have that of the weights.
        adjacency = graph.adjacency
        out, *sent = (part.to(adjacency.dtype) for part in self._mapped(h))
        for m, message in enumerate(sent):
            if self.engine == "dense":
                out = plus_messages(out, adjacency[:, m], message)
            else:
                out = out + _sparse_sum(adjacency[:, m], message)
        return out.to(self.own.weight.dtype)

    def _mapped(self, h: Tensor) -> Sequence[Tensor]:
        """Maps of the features for self-connections and for each measure, in the precision of the features."""
        weights = [self.own.weight, *(part for message in self.messages for part in message.parameters())]
        bias = self.own.bias.to(h.dtype)
        if not is_streamed(h):
            own, *others = (weight.to(h.dtype) for weight in weights)
            return [functional.linear(h, own, bias), *(functional.linear(h, weight) for weight in others)]
        # One product reads the features once.
        joined = torch.cat(weights).to(h.dtype)
        bias = torch.cat([bias, bias.new_zeros(len(joined) - len(bias))])
        return thin_linear(h, joined, bias).split(self.own.out_features, dim=-1)


def _sparse_sum(adjacency: Tensor, sent: Tensor) -> Tensor:
    from torch_geometric.nn import SimpleConv
    from torch_geometric.utils import dense_to_sparse

    n_batch, n_regions, n_out = sent.shape
    edge_index, edge_weight = dense_to_sparse(adjacency.transpose(1, 2).contiguous())  # PyG sends from row to column
    summed = SimpleConv(aggr="sum")(sent.reshape(n_batch * n_regions, n_out), edge_index, edge_weight)
    return summed.reshape(n_batch, n_regions, n_out)


class GCNLayer(GatheringLayer):
    """h' = sum over measures m of A_m h W_m + b, A the normalised adjacency with self-loops (Kipf and Welling 2017).

    A self-loop has the mean strength of the subject's regions; the degree is that of absolute weights, so that
    negative edges keep their sign.
    """

    def __init__(self, n_in: int, n_out: int, n_measures: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for _ in range(max(n_measures, 1)))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.messages, self.n_copies = n_measures > 0, max(n_measures, 1)

    def gather(self, h: Tensor, graph: Graph) -> Tensor:
        if not self.messages:
            return h
        return torch.cat([graph.with_loops[:, m] @ h for m in range(self.n_copies)], dim=2)

    def mix(self, gathered: Tensor) -> Tensor:
        weights = torch.cat([part for one in self.maps for part in one.parameters()], dim=1)
        return thin_linear(gathered, weights, self.bias)

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        if not self.messages:
            return self.mix(h)
        adjacency = graph.with_loops
        return torch.stack([adjacency[:, m] @ one(h) for m, one in enumerate(self.maps)]).sum(dim=0) + self.bias


class GINLayer(GatheringLayer):
    """h' = MLP((1 + e) h + sum over measures m of c_m W_m h), e and c learned (Xu et al. 2019); W are the weights."""

    def __init__(self, n_in: int, n_out: int, n_measures: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(()))
        self.factors = nn.Parameter(torch.ones(n_measures)) if n_measures else None
        self.dense = nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU(), nn.Linear(n_out, n_out))
        self.n_copies = n_measures + 1

    def gather(self, h: Tensor, graph: Graph) -> Tensor:
        return torch.cat([h, *(graph.weights[:, m] @ h for m in range(self.n_copies - 1))], dim=2)

    def mix(self, gathered: Tensor) -> Tensor:
        h, *sums = gathered.chunk(self.n_copies, dim=2)
        out = (1 + self.own) * h
        if self.factors is not None:
            for factor, one in zip(self.factors, sums, strict=True):
                out = out + factor * one
        return self.dense(out)

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        own = (1 + self.own) * h
        if self.factors is None:
            return self.dense(own)
        mixed = torch.einsum("m,bmij->bij", self.factors, graph.weights)
        return self.dense(own + mixed @ h)


class SAGELayer(GatheringLayer):
    """h_i' = W_0 h_i + b + sum over measures m of W_m times the weighted mean of h over the neighbours of i
    (Hamilton et al. 2017); the weights of a mean are the edges over their absolute sum."""

    def __init__(self, n_in: int, n_out: int, n_measures: int) -> None:
        super().__init__()
        self.own = nn.Linear(n_in, n_out)
        self.maps = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for _ in range(n_measures))
        self.n_copies = n_measures + 1

    def gather(self, h: Tensor, graph: Graph) -> Tensor:
        return torch.cat([h, *(graph.shares[:, m] @ h for m in range(len(self.maps)))], dim=2)

    def mix(self, gathered: Tensor) -> Tensor:
        weights = torch.cat([self.own.weight, *(part for one in self.maps for part in one.parameters())], dim=1)
        return thin_linear(gathered, weights, self.own.bias)

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        out = self.own(h)
        for m, one in enumerate(self.maps):
            out = out + graph.shares[:, m] @ one(h)
        return out
