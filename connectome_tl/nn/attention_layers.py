"""Graph attention over dense connectomes, with edges as channels.

Layers as in `message_layers`: features h (batch, n_regions, n_in) and a `Graph` to (batch, n_regions, n_out);
with `n_measures` 0, no messages are passed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.nn.adjacency import Graph


class GATv2Layer(nn.Module):
    """h_i' = b + sum over j of w_ij V h_j, w_ij the softmax over j of u' LeakyReLU(Q h_i + V h_j + E c_ij).

    j runs over the regions that i is connected to, and i itself (with c = 0); c are the edge channels
    (Brody et al. 2022, arXiv:2105.14491).
    """

    def __init__(self, n_in: int, n_out: int, n_measures: int, n_heads: int) -> None:
        super().__init__()
        self.heads, self.messages = n_heads, n_measures > 0
        self.send = nn.Linear(n_in, n_out)
        self.bias = nn.Parameter(torch.zeros(n_out))
        if self.messages:
            self.receive = nn.Linear(n_in, n_out)
            self.edge = nn.Linear(2 * n_measures, n_out, bias=False)
            self.attention = nn.Parameter(torch.empty(n_heads, n_out // n_heads))
            nn.init.xavier_uniform_(self.attention)

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        sent = self.send(h)
        if not self.messages:
            return sent + self.bias
        met = self.receive(h)[:, :, None] + sent[:, None] + self.edge(graph.channels)
        score = torch.einsum("bijhc,hc->bhij", _headed(functional.leaky_relu(met, 0.2), self.heads), self.attention)
        oneself = torch.eye(h.shape[1], dtype=torch.bool, device=h.device)
        weights = torch.softmax(score.masked_fill(~(graph.linked | oneself)[:, None], -torch.inf), dim=3)
        return torch.einsum("bhij,bjhc->bihc", weights, _headed(sent, self.heads)).flatten(2) + self.bias


class TransformerLayer(nn.Module):
    """h_i' = S h_i + sum over j of w_ij (V h_j + E c_ij), w_ij the softmax over j of Q h_i (K h_j + E c_ij) / sqrt(d);
    then h' + MLP(norm h').

    j runs over all regions that exist (Shi et al. 2021, arXiv:2009.03509). The edge terms are summed before they
    are mapped, so that no tensor of size n_regions^2 times n_out is needed.
    """

    def __init__(self, n_in: int, n_out: int, n_measures: int, n_heads: int) -> None:
        super().__init__()
        self.heads, self.messages = n_heads, n_measures > 0
        self.own = nn.Linear(n_in, n_out)
        if self.messages:
            self.query, self.value = nn.Linear(n_in, n_out), nn.Linear(n_in, n_out)
            self.key = nn.Linear(n_in, n_out, bias=False)  # a bias would cancel
            self.edge = nn.Linear(2 * n_measures, n_out, bias=False)
        self.norm = nn.LayerNorm(n_out)
        self.dense = nn.Sequential(nn.Linear(n_out, 2 * n_out), nn.ReLU(), nn.Linear(2 * n_out, n_out))

    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        h = self.attend(h, graph)
        return h + self.dense(self.norm(h))

    def attend(self, h: Tensor, graph: Graph) -> Tensor:
        """The layer before its dense part."""
        if not self.messages:
            return self.own(h)
        query, key, value = (_headed(one(h), self.heads) for one in (self.query, self.key, self.value))
        channels = graph.channels
        edge = self.edge.weight.view(self.heads, -1, channels.shape[3])
        score = torch.einsum("bihc,bjhc->bhij", query, key)
        score = score + torch.einsum("bihm,bijm->bhij", torch.einsum("bihc,hcm->bihm", query, edge), channels)
        score = score / query.shape[3] ** 0.5
        weights = torch.softmax(score.masked_fill(graph.mask[:, None, None] == 0, -1e9), dim=3)
        carried = torch.einsum("bhij,bijm->bihm", weights, channels)
        read = torch.einsum("bhij,bjhc->bihc", weights, value) + torch.einsum("bihm,hcm->bihc", carried, edge)
        return self.own(h) + read.flatten(2)


def _headed(x: Tensor, n_heads: int) -> Tensor:
    """(..., n_out) to (..., n_heads, n_out / n_heads)."""
    return x.unflatten(-1, (n_heads, -1))
