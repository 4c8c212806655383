"""Settings of the fusion of modalities."""

from __future__ import annotations

from typing import Literal

from connectome_tl.settings.base import Settings


class FusionSettings(Settings):
    """Settings of a fusion: how the embeddings of the modalities become one of width `fused_width`."""

    def describe(self) -> str:
        """What follows "fused by" in the methods section."""
        raise NotImplementedError


class DenseFusion(FusionSettings):
    """One dense layer on all embeddings, with `norm` and `dropout` of the model."""

    kind: Literal["dense"] = "dense"

    def describe(self) -> str:
        return "a dense layer"
