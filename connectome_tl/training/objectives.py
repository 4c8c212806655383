"""What adaptation minimises. An objective owns its extra parameters; it sees an encoder and a batch, no labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from connectome_tl.nn.layers import Inputs
from connectome_tl.nn.model import Sizes
from connectome_tl.settings.study import DenoisingAutoencoder, MaskedEdges


class MaskedEdgeReconstruction(nn.Module):
    """Hide a random share of edges, predict their scaled values from the embedding of the rest.

    The decoder is a symmetric low-rank form: regional factors weighted by the embedding.
    """

    def __init__(self, settings: MaskedEdges, sizes: Sizes, embedding: int) -> None:
        super().__init__()
        self.share = settings.share
        self.weigh = nn.Linear(embedding, sizes.n_measures * settings.rank)
        self.factors = nn.Parameter(torch.randn(sizes.n_measures, sizes.n_regions, settings.rank))

    def forward(self, encoder: nn.Module, inputs: Inputs) -> Tensor:
        """Mean squared error over hidden edges that exist, () scalar."""
        hidden = torch.rand_like(inputs.edges) < self.share
        hidden = hidden.triu(1)
        hidden = hidden | hidden.transpose(2, 3)
        kept = (~hidden).to(inputs.edges.dtype)
        embedding = encoder(inputs.with_edges(inputs.edges * kept, kept))
        n_measures, _, rank = self.factors.shape
        weights = self.weigh(embedding).view(-1, n_measures, 1, rank)
        predicted = (self.factors * weights) @ self.factors.transpose(1, 2) / rank
        return _masked_error(predicted, inputs.edges, hidden & _present(inputs))


class DenoisingReconstruction(nn.Module):
    """Reconstruct clean scaled edges from noisy, partly dropped ones through the embedding."""

    rows: Tensor
    columns: Tensor

    def __init__(self, settings: DenoisingAutoencoder, sizes: Sizes, embedding: int) -> None:
        super().__init__()
        self.noise, self.drop = settings.noise, settings.drop
        rows, columns = torch.triu_indices(sizes.n_regions, sizes.n_regions, offset=1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.decoder = nn.Sequential(
            nn.Linear(embedding, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, sizes.n_measures * len(rows))
        )

    def forward(self, encoder: nn.Module, inputs: Inputs) -> Tensor:
        """Mean squared error over all edges that exist, () scalar."""
        noise = torch.randn_like(inputs.edges).triu(1) * self.noise
        keep = (torch.rand_like(inputs.edges) >= self.drop).triu(1)
        keep = (keep | keep.transpose(2, 3)).to(inputs.edges.dtype)
        noisy = (inputs.edges + noise + noise.transpose(2, 3)) * keep * _present(inputs)
        embedding = encoder(inputs.with_edges(noisy, keep))
        predicted = self.decoder(embedding).view(len(noisy), -1, len(self.rows))
        clean = inputs.edges[:, :, self.rows, self.columns]
        present = _present(inputs)[:, :, self.rows, self.columns].expand_as(clean)
        return _masked_error(predicted, clean, present)


def build_objective(settings: MaskedEdges | DenoisingAutoencoder, sizes: Sizes, embedding: int) -> nn.Module:
    """The objective of these settings."""
    if isinstance(settings, MaskedEdges):
        return MaskedEdgeReconstruction(settings, sizes, embedding)
    return DenoisingReconstruction(settings, sizes, embedding)


def _present(inputs: Inputs) -> Tensor:
    """(batch, 1, n_regions, n_regions) bool: edges whose two regions exist, without the diagonal."""
    mask = inputs.node_mask.bool()
    present = mask[:, :, None] & mask[:, None, :]
    return (present & ~torch.eye(mask.shape[1], dtype=torch.bool))[:, None]


def _masked_error(predicted: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    return (((predicted - truth) ** 2) * where).sum() / where.sum().clamp_min(1)
