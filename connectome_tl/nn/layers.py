"""Layers over dense connectomes: message passing is a matrix product."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class GraphConv(nn.Module):
    """h_i' = W_0 h_i + sum over measures m and regions j of a_mij W_m h_j.

    Shapes: h (batch, n_regions, n_in), adjacency (batch, n_measures, n_regions, n_regions), output
    (batch, n_regions, n_out). `engine="pyg"` passes the same messages along sparse edges through
    torch_geometric, with the same weights: for large sparse atlases, and as the check of this one.
    With `n_measures` 0 no messages are passed.
    """

    def __init__(self, n_in: int, n_out: int, n_measures: int, engine: str = "dense") -> None:
        super().__init__()
        self.own = nn.Linear(n_in, n_out)
        self.messages = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for _ in range(n_measures))
        self.engine = engine

    def forward(self, h: Tensor, adjacency: Tensor) -> Tensor:
        # One product for the region itself and all messages: the features are read once.
        weights = torch.cat([self.own.weight, *(part for message in self.messages for part in message.parameters())])
        out, *sent = (h @ weights.T).split(self.own.out_features, dim=-1)
        out = out + self.own.bias
        for m, message in enumerate(sent):
            out = out + (adjacency[:, m] @ message if self.engine == "dense" else _sparse_sum(message, adjacency[:, m]))
        return out


def _sparse_sum(sent: Tensor, adjacency: Tensor) -> Tensor:
    from torch_geometric.nn import SimpleConv
    from torch_geometric.utils import dense_to_sparse

    n_batch, n_regions, n_out = sent.shape
    edge_index, edge_weight = dense_to_sparse(adjacency.transpose(1, 2).contiguous())  # PyG sends from row to column
    summed = SimpleConv(aggr="sum")(sent.reshape(n_batch * n_regions, n_out), edge_index, edge_weight)
    return summed.reshape(n_batch, n_regions, n_out)


class RegionalReadout(nn.Module):
    """Each region weighs its features by its own learned factors; absent regions are left out.

    Shapes: (batch, n_regions, width) and (batch, n_regions) to (batch, width).
    """

    def __init__(self, n_regions: int, width: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.empty(n_regions, width))
        nn.init.normal_(self.factors)

    def forward(self, h: Tensor, node_mask: Tensor) -> Tensor:
        n_present = node_mask.sum(dim=1, keepdim=True).clamp_min(1)
        return (h * node_mask[..., None] * self.factors).sum(dim=1) / n_present.sqrt()


class MeanReadout(nn.Module):
    """Mean over the regions that exist: the same whatever the order and number of regions."""

    def forward(self, h: Tensor, node_mask: Tensor) -> Tensor:
        n_present = node_mask.sum(dim=1, keepdim=True).clamp_min(1)
        return (h * node_mask[..., None]).sum(dim=1) / n_present


class SharedDropout(nn.Module):
    """Dropout with one mask for the whole batch: (batch, ...) features, a mask of (...).

    Drawing a mask per row costs more than the rest of a small network; a mask per step regularises
    the same weights.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x * self._mask(x) if self.training and self.share else x

    def before(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """`linear(self(x))` for (batch, n_in) features.

        The mask is the same for all rows, so that it can be put on the weights: for many rows of wide input, such
        as edges, that costs less than a second copy of the input.
        """
        if not (self.training and self.share) or len(x) <= 2 * linear.out_features:
            return linear(self(x))
        return functional.linear(x, linear.weight * self._mask(x), linear.bias)

    def _mask(self, x: Tensor) -> Tensor:
        keep = torch.rand(x.shape[1:], dtype=x.dtype, device=x.device) >= self.share
        return keep / (1 - self.share)


def norm_layer(kind: str, width: int) -> nn.Module:
    """Layer or batch normalisation of (batch, width) features, or nothing."""
    if kind == "layer":
        return nn.LayerNorm(width)
    return nn.BatchNorm1d(width) if kind == "batch" else nn.Identity()
