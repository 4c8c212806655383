"""Settings of the adaptation objectives."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count, Probability
from connectome_tl.settings.images.contrast import VoxelContrast

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class ObjectiveSettings(Settings):
    """Settings of an objective of adaptation.

    `source_replay` asks for a batch of the source cohort beside each batch of the pool; a control without
    stage 1 gets none. `needs_age` asks for the ages of the pool as targets. `modality` is what it learns from.
    """

    modality: ClassVar[str] = "connectome"

    @property
    def source_replay(self) -> bool:
        return False

    @property
    def needs_age(self) -> bool:
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


class MaskedNodes(ObjectiveSettings):
    """Hide a share of regions with all their edges, predict those edges from the rest."""

    kind: Literal["masked_nodes"] = "masked_nodes"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    rank: Count = 16

    def describe(self) -> str:
        return f"reconstruction of hidden regions ({self.share:.0%} of the regions hidden with all their edges)"


class GraphContrast(ObjectiveSettings):
    """Tell two views of one connectome from those of others (You et al. 2020, arXiv:2010.13902).

    Args:
        drop_edges, drop_nodes: share of edges and of regions that a view lacks.
        temperature: of the similarity.
    """

    kind: Literal["graph_contrast"] = "graph_contrast"
    drop_edges: Probability = 0.2
    drop_nodes: Probability = 0.1
    temperature: Positive = 0.5

    def describe(self) -> str:
        return (
            f"a contrast of two views of each connectome ({self.drop_edges:.0%} of the edges and "
            f"{self.drop_nodes:.0%} of the regions hidden in each)"
        )


class ReplaySettings(ObjectiveSettings):
    """Base of the objectives that see labelled source rows beside the pool: masked-edge reconstruction of the pool,
    the source's outcomes (so that stage 1 is not forgotten), and one further term.

    Without stage 1 the reconstruction is left.

    Args:
        weight: of the further term. replay: of the source's outcomes. reconstruct: of the pool.
    """

    weight: Positive = 1.0
    replay: NonNegative = 1.0
    reconstruct: MaskedEdges = MaskedEdges()

    @property
    def source_replay(self) -> bool:
        return True

    def _described(self, added: str) -> str:
        replay = ", replay of the source's outcomes" if self.replay else ""
        return f"{self.reconstruct.describe()}{replay} and {added}"


class Coral(ReplaySettings):
    """Covariances of the embeddings of pool and source made equal (CORAL, Sun and Saenko 2016,
    doi:10.1007/978-3-319-49409-8_35)."""

    kind: Literal["coral"] = "coral"
    weight: Positive = 10.0

    def describe(self) -> str:
        return self._described("equal covariances of the embeddings of both cohorts (CORAL)")


class Mmd(ReplaySettings):
    """Maximum mean discrepancy between the embeddings of pool and source made small (Gretton et al. 2012,
    https://jmlr.org/papers/v13/gretton12a.html)."""

    kind: Literal["mmd"] = "mmd"

    def describe(self) -> str:
        return self._described("a small maximum mean discrepancy between the embeddings of both cohorts (MMD)")


class Adversarial(ReplaySettings):
    """A classifier that tells pool from source, and an encoder that prevents it (gradient reversal, Ganin et al.
    2016, arXiv:1505.07818).

    Args:
        weight: factor on the reversed gradient. hidden: width of the classifier.
    """

    kind: Literal["adversarial"] = "adversarial"
    weight: Positive = 0.3
    hidden: Count = 16

    def describe(self) -> str:
        return self._described("embeddings that a classifier of the cohort cannot tell apart (gradient reversal)")


class SelfTraining(ReplaySettings):
    """Soft pseudo-labels: the network before adaptation predicts the source's outcomes for the pool, and the network
    learns them from connectomes that lack a share of their edges (noisy student, Xie et al. 2020, arXiv:1911.04252).

    Args:
        drop: share of the edges that the network does not see.
    """

    kind: Literal["self_training"] = "self_training"
    drop: Probability = 0.3

    def describe(self) -> str:
        return self._described(
            "self-training on soft pseudo-labels (the network's own predictions of the source's outcomes, learnt "
            f"without {self.drop:.0%} of the edges)"
        )


class ScanAge(ObjectiveSettings):
    """Predict the age at the scan, which a pool without outcomes still knows (for neonates the postmenstrual age)."""

    kind: Literal["scan_age"] = "scan_age"

    @property
    def needs_age(self) -> bool:
        return True

    def describe(self) -> str:
        return "prediction of the age at the scan"


class MaskedVolume(ObjectiveSettings):
    """Hide a share of the blocks of a volume, predict a coarse version of the whole from its embedding."""

    modality: ClassVar[str] = "image"
    kind: Literal["masked_volume"] = "masked_volume"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    blocks: Annotated[int, Field(ge=2, le=32)] = 8
    coarse: Annotated[int, Field(ge=2, le=32)] = 6

    def describe(self) -> str:
        return f"reconstruction of coarse volumes of which {self.share:.0%} of the blocks are hidden"


class VolumeContrast(ObjectiveSettings):
    """Pull features of voxels of one class together over several volumes (Wang et al. 2021, arXiv:2108.06522).

    Classes are ranks of the smoothed grey level within each head, since a pool has no label maps. It needs an image
    encoder of kind resnet.

    Args:
        classes: grey-level classes. stage: of the residual network, whose maps are compared.
    """

    modality: ClassVar[str] = "image"
    kind: Literal["voxel_contrast"] = "voxel_contrast"
    classes: Annotated[int, Field(ge=2, le=32)] = 4
    stage: Annotated[int, Field(ge=1, le=4)] = 2
    contrast: VoxelContrast = VoxelContrast()

    def describe(self) -> str:
        scope = "over several volumes" if self.contrast.scope == "across" else "within each volume"
        return f"contrast between voxels of {self.classes} grey-level classes {scope}"


AnyObjective = Annotated[
    MaskedEdges
    | DenoisingAutoencoder
    | MaskedNodes
    | GraphContrast
    | Coral
    | Mmd
    | Adversarial
    | SelfTraining
    | ScanAge
    | MaskedVolume
    | VolumeContrast,
    Field(discriminator="kind"),
]
