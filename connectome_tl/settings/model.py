"""The network: one encoder per modality, fusion, heads."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings

# Other rooms import what all encoders share from here.
from connectome_tl.settings.encoders import Count as Count
from connectome_tl.settings.encoders import EncoderSettings as EncoderSettings
from connectome_tl.settings.encoders import Norm, Probability
from connectome_tl.settings.images import DenseNetEncoder, ImageEncoder, ResNetEncoder, ScaleDenseEncoder, SfcnEncoder


class GraphEncoder(EncoderSettings):
    """Dense graph convolutions over the connectome.

    `node_features: profile` gives each region its scaled row of connections, so the weights belong
    to one atlas; `strength` gives it only atlas-free summaries, so the weights carry over to any
    number of regions and the output does not change when regions are shuffled; `measures` gives it its
    own measures (`region_features`) and leaves the edges to carry messages. `readout: regional`
    weighs each region by its own learned factors (atlas-bound), `mean` does not. `direct` adds a
    linear map of the edges (with `measures`: of those) to the embedding. `messages: false` leaves the
    message passing out, which is the control of the graph part.
    """

    kind: Literal["graph"] = "graph"
    node_features: Literal["profile", "strength", "measures"] = "profile"
    direct: bool = True
    messages: bool = True
    n_layers: Annotated[int, Field(ge=1, le=8)] = 2
    width: Count = 16
    embedding: Count = 32
    readout: Literal["mean", "regional"] = "regional"
    norm: Literal["layer", "none"] = "layer"
    dropout: Probability = 0.5
    engine: Literal["dense", "pyg"] = "dense"

    @property
    def is_atlas_bound(self) -> bool:
        return self.node_features == "profile" or self.readout == "regional" or self.direct

    def describe(self) -> str:
        direct = ", beside a linear map of the edges" if self.direct else ""
        messages = "" if self.messages else ", without messages between regions"
        return (
            f"a dense graph network of {self.n_layers} layers (width {self.width}, {self.readout} readout)"
            f"{messages}{direct}"
        )


class FlatEncoder(EncoderSettings):
    """The connectome branch of He et al. 2020 (doi:10.1038/s41598-020-71914-x): upper-triangle edges
    through dense layers without bias, normalised, ReLU. The published demo has widths 128 and 32 and
    batch normalisation; layer normalisation is our default, since a batch of one breaks the other."""

    kind: Literal["flat"] = "flat"
    widths: tuple[Count, ...] = (128, 32)
    norm: Norm = "layer"
    dropout: Probability = 0.0

    def describe(self) -> str:
        return f"a dense network on upper-triangle edges (widths {', '.join(map(str, self.widths))})"


class ClinicalEncoder(EncoderSettings):
    """One dense layer on the encoded covariates."""

    modality: ClassVar[str] = "clinical"
    kind: Literal["dense"] = "dense"
    width: Count = 16
    norm: Norm = "none"

    @property
    def is_atlas_bound(self) -> bool:
        return False

    def describe(self) -> str:
        return f"a dense layer of width {self.width} on the clinical covariates"


AnyImageEncoder = Annotated[
    ResNetEncoder | SfcnEncoder | DenseNetEncoder | ScaleDenseEncoder, Field(discriminator="kind")
]
AnyEncoder = Annotated[
    GraphEncoder | FlatEncoder | ResNetEncoder | SfcnEncoder | DenseNetEncoder | ScaleDenseEncoder,
    Field(discriminator="kind"),
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

    encoder: AnyEncoder = GraphEncoder()
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
