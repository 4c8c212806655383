"""What adaptation minimises."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count, Probability


class ObjectiveSettings(Settings):
    """Settings of an unsupervised objective.

    `source_replay` asks for a batch of the source cohort beside each batch of the pool; a control without
    stage 1 gets none. `modality` is what it learns from.
    """

    modality: ClassVar[str] = "connectome"

    @property
    def source_replay(self) -> bool:
        return False

    def describe(self) -> str:
        """A noun phrase for the methods section of a report."""
        raise NotImplementedError(f"{type(self).__name__} has no describe()")


class MaskedEdges(ObjectiveSettings):
    """Hide a share of edges, predict their scaled values from the rest."""

    kind: Literal["masked_edges"] = "masked_edges"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    rank: Count = 16

    def describe(self) -> str:
        return f"masked-edge reconstruction ({self.share:.0%} of the edges hidden)"


class DenoisingAutoencoder(ObjectiveSettings):
    """Reconstruct clean edges from noisy ones through the embedding (the founding paper's kind of
    second stage; its own noise and objective were not published, so these are settings)."""

    kind: Literal["denoising"] = "denoising"
    noise: Annotated[float, Field(ge=0)] = 0.5
    drop: Probability = 0.1
    hidden: Count = 64

    def describe(self) -> str:
        return "a denoising autoencoder"


class MaskedVolume(ObjectiveSettings):
    """Hide a share of the blocks of a volume, predict a coarse version of the whole from its embedding."""

    modality: ClassVar[str] = "image"
    kind: Literal["masked_volume"] = "masked_volume"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    blocks: Annotated[int, Field(ge=2, le=32)] = 8
    coarse: Annotated[int, Field(ge=2, le=32)] = 6

    def describe(self) -> str:
        return f"reconstruction of coarse volumes of which {self.share:.0%} of the blocks are hidden"


AnyObjective = Annotated[MaskedEdges | DenoisingAutoencoder | MaskedVolume, Field(discriminator="kind")]
