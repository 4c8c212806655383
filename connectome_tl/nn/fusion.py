"""Fusion: from the embeddings of the modalities to one; table of settings and fusions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from connectome_tl.errors import InternalError
from connectome_tl.nn.branch import Encoded
from connectome_tl.nn.layers import SharedDropout, norm_layer
from connectome_tl.settings.fusion import DenseFusion, FusionSettings
from connectome_tl.settings.model import ModelSettings


class Fusion(nn.Module):
    """Base of all fusions."""

    def forward(self, encoded: Mapping[str, Encoded], present: Mapping[str, Tensor]) -> Tensor:
        """(batch, fused_width).

        Args:
            encoded: embeddings by modality. A stage or a batch may lack some of the modalities of the model.
            present: (batch,) bool by modality; the embedding of a subject without a modality has to be ignored.
        """
        raise NotImplementedError


class Dense(Fusion):
    """The dense layer of He et al. 2020.

    It is implemented as one linear map per modality, so that stages without some modality can share the others. For
    a subject without a modality, a learned vector replaces the embedding.
    """

    def __init__(self, settings: ModelSettings, widths: Mapping[str, int]) -> None:
        super().__init__()
        fused = settings.fused_width
        self.maps = nn.ModuleDict({name: nn.Linear(width, fused, bias=False) for name, width in widths.items()})
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(fused)) for name in widths})
        self.norm = norm_layer(settings.norm, fused)
        self.dropout = SharedDropout(settings.dropout)

    def forward(self, encoded: Mapping[str, Encoded], present: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for name, one in encoded.items():
            part = self.maps[name](one.embedding)
            parts.append(torch.where(present[name][:, None], part, self.absent[name]))
        fused: Tensor = self.dropout(torch.relu(self.norm(torch.stack(parts).sum(dim=0))))
        return fused


FusionFactory = Callable[[Any, Mapping[str, int]], Fusion]
FUSIONS: dict[type[FusionSettings], FusionFactory] = {DenseFusion: Dense}
"""From the settings of the model (whose `fusion` has this class) and the widths of its embeddings to the fusion."""


def register_fusion(settings: type[FusionSettings], factory: FusionFactory) -> None:
    """Register the fusion of a settings class."""
    FUSIONS[settings] = factory


def build_fusion(settings: ModelSettings, widths: Mapping[str, int]) -> Fusion:
    """Build the fusion of these settings with newly initialised weights.

    Raises:
        InternalError: no fusion is registered for them.
    """
    if type(settings.fusion) not in FUSIONS:
        raise InternalError(f"no fusion is registered for {type(settings.fusion).__name__}")
    return FUSIONS[type(settings.fusion)](settings, widths)


def hidden(present: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Drop modalities at random; a row whose modalities would all be dropped keeps them.

    Args:
        present: (batch,) bool by modality. share: probability to drop a modality, drawn by torch's global generator.
    """
    there = torch.stack(list(present.values()))
    kept = there & (torch.rand(there.shape, device=there.device) >= share)
    kept = torch.where(kept.any(dim=0), kept, there)
    return dict(zip(present, kept, strict=True))
