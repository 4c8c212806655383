"""Settings of the adaptation objectives."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from connectome_tl.settings.base import Settings, given_of
from connectome_tl.settings.encoders import Count, Probability
from connectome_tl.settings.images.contrast import VoxelContrast

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class ObjectiveSettings(Settings):
    """Settings of an objective of adaptation.

    With `source_replay`, each batch of the pool is paired with a batch of the source cohort, except in a control
    without stage 1. With `needs_age`, the ages of the pool are targets. With `needs_black_background`, voxels outside
    the head have to be 0. With `needs_labels`, the pool has label maps. `modality` is the input of the objective.
    """

    modality: ClassVar[str] = "connectome"

    @property
    def source_replay(self) -> bool:
        """Whether each batch is paired with a batch of the source cohort."""
        return False

    @property
    def needs_age(self) -> bool:
        """Whether the ages of the pool are targets."""
        return False

    @property
    def needs_black_background(self) -> bool:
        """Whether voxels outside the head have to be 0."""
        return False

    @property
    def needs_labels(self) -> bool:
        """Whether the pool has to have label maps."""
        return False

    def describe(self) -> str:
        """A noun phrase for the methods section of a report."""
        raise NotImplementedError(f"{type(self).__name__} has no describe()")


class MaskedEdges(ObjectiveSettings):
    """Mask a fraction of edges and predict their scaled values from the remaining edges."""

    kind: Literal["masked_edges"] = "masked_edges"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    rank: Count = 16

    def describe(self) -> str:
        return f"masked-edge reconstruction ({self.share:.0%} of the edges hidden)"


class DenoisingAutoencoder(ObjectiveSettings):
    """Reconstruct clean edges from noisy ones through the embedding.

    The founding paper uses such a second stage. Its noise and objective are not published and therefore are settings.
    """

    kind: Literal["denoising"] = "denoising"
    noise: Annotated[float, Field(ge=0)] = 0.5
    drop: Probability = 0.1
    hidden: Count = 64

    def describe(self) -> str:
        return "a denoising autoencoder"


class MaskedNodes(ObjectiveSettings):
    """Mask a fraction of regions with all their edges, and predict these edges from the rest."""

    kind: Literal["masked_nodes"] = "masked_nodes"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    rank: Count = 16

    def describe(self) -> str:
        return f"reconstruction of hidden regions ({self.share:.0%} of the regions hidden with all their edges)"


class GraphContrast(ObjectiveSettings):
    """Contrast two views of one connectome with those of others (You et al. 2020, arXiv:2010.13902).

    Args:
        drop_edges, drop_nodes: fractions of edges and regions removed from a view.
        temperature: temperature of the similarity.
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
    """Base of the objectives that use labelled source rows in addition to the pool.

    Their terms are masked-edge reconstruction of the pool, the outcomes of the source (against forgetting of stage 1),
    and one further term.

    They need stage 1; in controls without it only the reconstruction is used.

    Args:
        weight: weight of the further term. replay: weight of the source's outcomes. reconstruct: weight of the
        reconstruction of the pool.
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
    """Align covariances of the embeddings of pool and source (CORAL, Sun and Saenko 2016,
    doi:10.1007/978-3-319-49409-8_35)."""

    kind: Literal["coral"] = "coral"
    weight: Positive = 10.0

    def describe(self) -> str:
        return self._described("equal covariances of the embeddings of both cohorts (CORAL)")


class Mmd(ReplaySettings):
    """Minimise the maximum mean discrepancy between embeddings of pool and source (Gretton et al. 2012,
    https://jmlr.org/papers/v13/gretton12a.html)."""

    kind: Literal["mmd"] = "mmd"

    def describe(self) -> str:
        return self._described("a small maximum mean discrepancy between the embeddings of both cohorts (MMD)")


class Adversarial(ReplaySettings):
    """Train a classifier of pool against source, with reversed gradients for the encoder (Ganin et al. 2016,
    arXiv:1505.07818).

    Args:
        weight: factor on the reversed gradient. hidden: width of the classifier.
    """

    kind: Literal["adversarial"] = "adversarial"
    weight: Positive = 0.3
    hidden: Count = 16

    def describe(self) -> str:
        return self._described("embeddings from which a classifier cannot predict the cohort (gradient reversal)")


class SelfTraining(ReplaySettings):
    """Train on soft pseudo-labels (noisy student, Xie et al. 2020, arXiv:1911.04252).

    The network before adaptation predicts the source's outcomes for the pool. These are targets for connectomes in
    which a fraction of the edges is masked.

    Args:
        drop: fraction of masked edges.
    """

    kind: Literal["self_training"] = "self_training"
    drop: Probability = 0.3

    def describe(self) -> str:
        return self._described(
            "self-training on soft pseudo-labels (the network's own predictions of the source's outcomes, learned "
            f"without {self.drop:.0%} of the edges)"
        )


class ScanAge(ObjectiveSettings):
    """Predict the age at scan, which is known in a pool without outcomes (postmenstrual age for neonates)."""

    kind: Literal["scan_age"] = "scan_age"

    @property
    def needs_age(self) -> bool:
        return True

    def describe(self) -> str:
        return "prediction of the age at the scan"


class MaskedVolume(ObjectiveSettings):
    """Mask a fraction of the blocks of a volume, and predict a coarse version of the whole volume from its
    embedding.
    """

    modality: ClassVar[str] = "image"
    kind: Literal["masked_volume"] = "masked_volume"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    blocks: Annotated[int, Field(ge=2, le=32)] = 8
    coarse: Annotated[int, Field(ge=2, le=32)] = 6

    def describe(self) -> str:
        return f"reconstruction of coarse volumes of which {self.share:.0%} of the blocks are hidden"


class VolumeContrast(ObjectiveSettings):
    """Make features of voxels of one class similar across volumes (Wang et al. 2021, arXiv:2108.06522).

    Classes are ranks of the smoothed intensity within each head, or the labels of the pool's label maps
    (`volumes.labels` of its cohort.yaml). An image encoder of kind resnet is required.

    Args:
        classes: number of intensity classes, or `labels`. stage: stage of the residual network whose maps are compared.
    """

    modality: ClassVar[str] = "image"
    kind: Literal["voxel_contrast"] = "voxel_contrast"
    classes: Annotated[int, Field(ge=2, le=32)] | Literal["labels"] = 4
    stage: Annotated[int, Field(ge=1, le=4)] = 2
    contrast: VoxelContrast = VoxelContrast()

    @property
    def needs_black_background(self) -> bool:
        return True

    @property
    def needs_labels(self) -> bool:
        return self.classes == "labels"

    @model_validator(mode="after")
    def _is_the_only_term(self) -> VolumeContrast:
        unused = given_of(self.contrast, ("weight", "width"))
        if unused:
            raise ValueError(
                f"contrast: {', '.join(unused)} cannot be set here: the contrast is the only term of the loss, and the "
                "maps are compared without a projection"
            )
        return self

    def describe(self) -> str:
        scope = "over several volumes" if self.contrast.scope == "across" else "within each volume"
        classes = "the classes of label maps" if self.needs_labels else f"{self.classes} grey-level classes"
        return f"contrast between voxels of {classes} {scope}"


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
