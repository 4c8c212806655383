"""The network: one encoder per modality, fusion, heads."""

from __future__ import annotations

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import (
    AnyEncoder,
    ClinicalEncoder,
    Count,
    EncoderSettings,
    GraphEncoder,
    Norm,
    Probability,
)

__all__ = [
    "AnyEncoder",
    "ClinicalEncoder",
    "Count",
    "EncoderSettings",
    "GraphEncoder",
    "ModelSettings",
    "Norm",
    "Probability",
]


class ModelSettings(Settings):
    """Encoders, fusion and heads.

    The published demo of He et al. 2020 has a fused layer of 8 and batch normalisation after every
    dense layer. Here the fused layer is wider and not normalised: with some thirty subjects that
    keeps the model near a linear one (measured on the development children of ABIDE-33).

    Args:
        encoder: of the connectome.
        clinical: of the covariates; used where the target cohort has some.
        others: encoders of further modalities, each registered by an extension.
    """

    encoder: AnyEncoder = GraphEncoder()
    clinical: ClinicalEncoder = ClinicalEncoder()
    others: tuple[EncoderSettings, ...] = ()
    fused_width: Count = 32
    norm: Norm = "none"
    dropout: Probability = 0.0

    @property
    def branches(self) -> dict[str, EncoderSettings]:
        """Encoder settings by modality."""
        return {branch.modality: branch for branch in (self.encoder, self.clinical, *self.others)}

    @property
    def parts(self) -> tuple[str, ...]:
        """Names that learning rates and freezing refer to: the modalities, `fusion` and `heads`."""
        return (*self.branches, "fusion", "heads")
