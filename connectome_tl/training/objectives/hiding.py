"""Random masking of parts of a connectome; draws use torch's current random state."""

from __future__ import annotations

import torch
from torch import Tensor

from connectome_tl.nn.batch import ConnectomeRows


def random_edges(rows: ConnectomeRows, share: float) -> Tensor:
    """Draw a fraction of the edges: (batch, n_measures, n_regions, n_regions) bool, symmetric."""
    drawn = (torch.rand_like(rows.edges) < share).triu(1)
    return drawn | drawn.transpose(2, 3)


def without_edges(rows: ConnectomeRows, hidden: Tensor) -> ConnectomeRows:
    """The rows without the `hidden` edges (bool)."""
    kept = (~hidden).to(rows.edges.dtype)
    return rows.with_edges(rows.edges * kept, kept)


def random_regions(rows: ConnectomeRows, share: float) -> Tensor:
    """Draw a fraction of the regions: (batch, n_regions) bool."""
    return torch.rand_like(rows.node_mask) < share


def between_regions(rows: ConnectomeRows) -> Tensor:
    """(batch, 1, n_regions, n_regions) bool: edges between present regions, without the diagonal."""
    n_regions = rows.node_mask.shape[1]
    return rows.present.bool() & ~torch.eye(n_regions, dtype=torch.bool, device=rows.edges.device)


def masked_error(predicted: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """() mean squared error over the elements `where`; 0 without any."""
    return (((predicted - truth) ** 2) * where).sum() / where.sum().clamp_min(1)
