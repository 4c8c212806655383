"""Settings of the network: one encoder per modality, fusion, heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

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
from connectome_tl.settings.fusion import DenseFusion
from connectome_tl.settings.images.embedding import EmbeddingEncoder
from connectome_tl.settings.images.volumes import (
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
    "DistributionHead",
    "EncoderSettings",
    "GraphEncoder",
    "ModelSettings",
    "Norm",
    "Probability",
    "ValueHead",
]


AnyImageEncoder = Annotated[
    ResNetEncoder | SfcnEncoder | DenseNetEncoder | ScaleDenseEncoder | EmbeddingEncoder, Field(discriminator="kind")
]


EncoderT = TypeVar("EncoderT", bound=EncoderSettings)


class ValueHead(Settings):
    """One output per regression, trained by squared error."""

    kind: Literal["value"] = "value"

    def describe(self) -> str:
        """What follows "the network" in the methods section; empty for the default."""
        return ""


class DistributionHead(Settings):
    """A distribution over bins of a regression's outcome; its mean is the prediction (soft labels).

    The head is trained by the Kullback-Leibler divergence from a normal distribution around the true value (Peng et al.
    2021, doi:10.1016/j.media.2020.101871, for age, with 40 bins of one year and a standard deviation of one bin).

    Args:
        bins: number of bins of equal width over the range of the training rows.
        spread: standard deviation of the soft label, in bins.
        margin: share of the range that is added on each side; predictions cannot be outside the bins.
    """

    kind: Literal["distribution"] = "distribution"
    bins: Annotated[int, Field(ge=4, le=400)] = 40
    spread: Annotated[float, Field(gt=0)] = 1.0
    margin: Annotated[float, Field(ge=0, le=1)] = 0.1

    def describe(self) -> str:
        """What follows "the network" in the methods section."""
        return (
            f"Regressions were predicted as distributions over {self.bins} bins, trained on soft labels (Peng et al. "
            "2021, doi:10.1016/j.media.2020.101871)."
        )


class ModelSettings(Settings):
    """Encoders, fusion and heads.

    The published demo of He et al. 2020 has a fused layer of width 8 and batch normalisation after every dense layer.
    Here, the fused layer is wider and not normalised, which keeps the model close to a linear one with about thirty
    subjects (chosen on the development children of ABIDE-33).

    Args:
        encoder: encoder of the connectome, or of volumes in a study of images.
        clinical: encoder of the covariates, used if the target cohort has any.
        others: encoders of further modalities: of volumes in addition to the connectome, or of an extension.
        fusion: how embeddings of the modalities become one, of width `fused_width`.
        regression: output of a regression's head: a value, or a distribution over bins.
        fused_width: width of the fused embedding. norm, dropout: of the fused layer.
        modality_dropout: probability that a modality of a training row is dropped; at least one modality of a row is
            always kept (Neverova et al. 2016, doi:10.1109/TPAMI.2015.2461544).
    """

    encoder: Annotated[AnyEncoder | AnyImageEncoder, Field(discriminator="kind")] = GraphEncoder()
    clinical: ClinicalEncoder = ClinicalEncoder()
    others: tuple[AnyImageEncoder, ...] = ()
    fusion: DenseFusion = DenseFusion()
    fused_width: Count = 32
    norm: Norm = "none"
    dropout: Probability = 0.0
    modality_dropout: Probability = 0.0
    regression: Annotated[ValueHead | DistributionHead, Field(discriminator="kind")] = ValueHead()

    @property
    def branches(self) -> dict[str, EncoderSettings]:
        """Encoder settings by modality."""
        return {branch.modality: branch for branch in (self.encoder, self.clinical, *self.others)}

    @property
    def reads_volumes(self) -> bool:
        """Whether an encoder of this package reads volumes (an extension may read embeddings instead)."""
        return isinstance(self.branches.get("image"), ImageEncoder)

    @property
    def reads_embeddings(self) -> bool:
        """Whether precomputed embeddings replace volumes."""
        return isinstance(self.branches.get("image"), EmbeddingEncoder)

    @property
    def compared(self) -> ModelSettings:
        """The same settings without paths of weight files, whose hashes are also in the settings."""
        return self.with_weights(lambda _: "")

    def with_weights(self, moved: Callable[[str], str]) -> ModelSettings:
        """The same settings with other paths of the weight files whose hashes are also in the settings."""

        def one(encoder: EncoderT) -> EncoderT:
            if isinstance(encoder, ImageEncoder) and encoder.weights and encoder.weights_hash:
                return encoder.model_copy(update={"weights": moved(encoder.weights)})
            return encoder

        return self.model_copy(update={"encoder": one(self.encoder), "others": tuple(map(one, self.others))})

    @property
    def parts(self) -> tuple[str, ...]:
        """Names that learning rates and freezing refer to: the modalities, `fusion` and `heads`."""
        return (*self.branches, "fusion", "heads")
