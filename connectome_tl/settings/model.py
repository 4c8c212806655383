"""The network: one encoder per modality, fusion, heads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

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
from connectome_tl.settings.images import (
    DenseNetEncoder,
    ImageEncoder,
    ResNetEncoder,
    ScaleDenseEncoder,
    SfcnEncoder,
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


AnyImageEncoder = Annotated[
    ResNetEncoder | SfcnEncoder | DenseNetEncoder | ScaleDenseEncoder, Field(discriminator="kind")
]


class ModelSettings(Settings):
    """Encoders, fusion and heads.

    The published demo of He et al. 2020 has a fused layer of 8 and batch normalisation after every
    dense layer. Here the fused layer is wider and not normalised: with some thirty subjects that
    keeps the model near a linear one (measured on the development children of ABIDE-33).

    Args:
        encoder: of the connectome; one of volumes makes it a study of images.
        clinical: of the covariates; used where the target cohort has some.
        others: encoders of further modalities: of volumes beside the connectome, or registered by an extension.
    """

    encoder: Annotated[AnyEncoder | AnyImageEncoder, Field(discriminator="kind")] = GraphEncoder()
    clinical: ClinicalEncoder = ClinicalEncoder()
    others: tuple[AnyImageEncoder, ...] = ()
    fused_width: Count = 32
    norm: Norm = "none"
    dropout: Probability = 0.0

    @property
    def branches(self) -> dict[str, EncoderSettings]:
        """Encoder settings by modality."""
        return {branch.modality: branch for branch in (self.encoder, self.clinical, *self.others)}

    @property
    def reads_volumes(self) -> bool:
        """Whether an encoder of this package reads volumes (an extension may read embeddings instead)."""
        return isinstance(self.branches.get("image"), ImageEncoder)

    @property
    def compared(self) -> ModelSettings:
        """The same without where weight files lie: their content is in the settings, too."""
        encoder, others = _placeless(self.encoder), tuple(_placeless(other) for other in self.others)
        return self.model_copy(update={"encoder": encoder, "others": others})

    @property
    def parts(self) -> tuple[str, ...]:
        """Names that learning rates and freezing refer to: the modalities, `fusion` and `heads`."""
        return (*self.branches, "fusion", "heads")


def _placeless(encoder: EncoderSettings) -> EncoderSettings:
    if isinstance(encoder, ImageEncoder) and encoder.weights_hash:
        return encoder.model_copy(update={"weights": ""})
    return encoder
