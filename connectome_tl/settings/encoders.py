"""Settings of encoders, one class per kind."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from connectome_tl.settings.base import Settings

Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Layers = Annotated[int, Field(ge=1, le=8)]
Norm = Literal["layer", "batch", "none"]
NodeFeatures = Literal["profile", "strength", "measures", "identity"]
Readout = Literal["mean", "regional", "attention", "clusters"]


class EncoderSettings(Settings):
    """Settings of a branch: which modality it reads, and a sentence for the methods section."""

    modality: ClassVar[str] = "connectome"

    @property
    def is_atlas_bound(self) -> bool:
        """Whether the weights belong to one set of regions in one order."""
        return True

    @property
    def needs_places(self) -> bool:
        """Whether the atlas must say where its regions lie."""
        return False

    @property
    def takes_bf16(self) -> bool:
        """Whether it can be trained on edges in bfloat16."""
        return False

    def describe(self) -> str:
        """One sentence for the methods section of a report."""
        raise NotImplementedError(f"{type(self).__name__} has no describe()")


class MessageSettings(EncoderSettings):
    """What all graph encoders share: what a region starts from, how many layers, how regions are pooled.

    Args:
        node_features: what a region starts from. `profile` is its scaled row of connections, so the weights
            belong to one atlas. `strength` is the mean, spread and largest of its scaled connections.
            `identity` is that with the region's place in the brain (centroid, hemisphere and lobe from the
            atlas). `measures` is its own measures (`region_features`) alone. Where the cohort has regional
            measures they are added to the others.
        walk: steps of a random walk over the connections; the chance of being back after 2, 3, ... steps
            is added to each region's features (positional encoding of Dwivedi et al. 2022, arXiv:2110.07875).
        messages: false leaves the message passing out, which is the control of the graph part.
        readout: how regions become one vector. `mean`; `attention` (Ilse et al. 2018, arXiv:1802.04712);
            `clusters`, the means of learned soft groups (Ying et al. 2018, arXiv:1806.08804); `regional`,
            factors of each region of its own (atlas-bound).
        clusters: number of groups of that readout.
    """

    noun: ClassVar[str] = "graph network"

    node_features: NodeFeatures = "profile"
    walk: Annotated[int, Field(ge=0, le=16)] = 0
    messages: bool = True
    n_layers: Layers = 2
    width: Count = 16
    embedding: Count = 32
    readout: Readout = "regional"
    clusters: Count = 8
    norm: Literal["layer", "none"] = "layer"
    dropout: Probability = 0.5

    @property
    def is_atlas_bound(self) -> bool:
        return self.node_features == "profile" or self.readout == "regional"

    @property
    def needs_places(self) -> bool:
        return self.node_features == "identity"

    def describe(self) -> str:
        readout = f"{self.clusters} clusters" if self.readout == "clusters" else f"{self.readout} readout"
        places = ", regions told apart by centroid, hemisphere and lobe" if self.needs_places else ""
        walk = f", positional encodings of {self.walk} steps of a random walk" if self.walk else ""
        messages = "" if self.messages else ", without messages between regions"
        return f"a {self.noun} of {self.n_layers} layers (width {self.width}, {readout}){places}{walk}{messages}"


class DirectSettings(MessageSettings):
    """A graph encoder that may have a linear map of the edges beside it.

    Args:
        direct: add a linear map of the edges (with `node_features: measures`, of those) to the embedding.
    """

    direct: bool = True

    @property
    def is_atlas_bound(self) -> bool:
        return super().is_atlas_bound or self.direct

    def describe(self) -> str:
        return super().describe() + (", beside a linear map of the edges" if self.direct else "")


class GraphEncoder(DirectSettings):
    """Graph convolutions with a weight matrix per edge measure and one for the region itself (the relational
    form of Schlichtkrull et al. 2018, doi:10.1007/978-3-319-93417-4_38), on symmetrically normalised edges.

    `engine: pyg` passes the same messages through torch_geometric.
    """

    noun: ClassVar[str] = "dense graph network"
    kind: Literal["graph"] = "graph"
    engine: Literal["dense", "pyg"] = "dense"

    @property
    def takes_bf16(self) -> bool:
        return self.engine == "dense"


class GCNEncoder(DirectSettings):
    """Graph convolutional network (Kipf and Welling 2017, arXiv:1609.02907): each region is its own neighbour,
    as strongly connected to itself as the mean region is to all others together."""

    noun: ClassVar[str] = "graph convolutional network (GCN)"
    kind: Literal["gcn"] = "gcn"


class GINEncoder(DirectSettings):
    """Graph isomorphism network (Xu et al. 2019, arXiv:1810.00826): a small dense network of a region's features
    and the weighted sum of its neighbours'."""

    noun: ClassVar[str] = "graph isomorphism network (GIN)"
    kind: Literal["gin"] = "gin"


class SAGEEncoder(DirectSettings):
    """GraphSAGE (Hamilton et al. 2017, arXiv:1706.02216) with the weighted mean over neighbours."""

    noun: ClassVar[str] = "GraphSAGE network"
    kind: Literal["graphsage"] = "graphsage"


class AttentionSettings(MessageSettings):
    """Graph attention: `heads` divide `width` among them."""

    heads: Count = 2

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> AttentionSettings:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, and {self.heads} does not divide {self.width}")
        return self


class GATv2Encoder(AttentionSettings, DirectSettings):
    """Graph attention of Brody et al. 2022 (GATv2, arXiv:2105.14491). A region attends to those that it is
    connected to; scaled and unscaled edges enter the attention."""

    noun: ClassVar[str] = "graph attention network (GATv2)"
    kind: Literal["gatv2"] = "gatv2"


class TransformerEncoder(AttentionSettings, DirectSettings):
    """Graph transformer: every region attends to every other, edges enter keys and values (Shi et al. 2021,
    arXiv:2009.03509), random-walk positional encodings (`walk`); an own feed-forward block in each layer."""

    noun: ClassVar[str] = "graph transformer"
    kind: Literal["graph_transformer"] = "graph_transformer"
    walk: Annotated[int, Field(ge=0, le=16)] = 8


class DualEncoder(AttentionSettings):
    """A linear map of the edges and a graph attention network (GATv2) side by side, as Han et al. 2025
    (arXiv:2501.17207) propose where message passing lowers the scores: the embedding has one half of each.

    Args:
        embedding: of each path.
    """

    noun: ClassVar[str] = "graph attention network (GATv2)"
    kind: Literal["dual"] = "dual"
    embedding: Count = 16

    @property
    def is_atlas_bound(self) -> bool:
        return True

    def describe(self) -> str:
        return f"a dual path: a linear map of the edges, and {super().describe()}"


class BrainNetEncoder(EncoderSettings):
    """BrainNetCNN (Kawahara et al. 2017, doi:10.1016/j.neuroimage.2016.09.046): edge-to-edge, edge-to-node and
    node-to-graph filters.

    The edge-to-edge filter has one weight vector for rows and columns, so that a symmetric connectome gives
    symmetric feature maps (the published one has two, and does not).

    Args:
        filters: of each edge-to-edge layer. nodes: edge-to-node filters. embedding: width of the last layer.
        n_layers: edge-to-edge layers. messages: false leaves these layers out.
    """

    kind: Literal["brainnetcnn"] = "brainnetcnn"
    filters: Count = 16
    nodes: Count = 32
    embedding: Count = 30
    n_layers: Layers = 1
    messages: bool = True
    slope: Annotated[float, Field(ge=0, lt=1)] = 0.33
    dropout: Probability = 0.5

    def describe(self) -> str:
        layers = "layer" if self.n_layers == 1 else "layers"
        first = (
            f"{self.n_layers} edge-to-edge {layers} of {self.filters} symmetric filters"
            if self.messages
            else "no edge-to-edge layer"
        )
        return f"a BrainNetCNN ({first}, {self.nodes} edge-to-node filters)"


class LowRankEncoder(EncoderSettings):
    """A linear model of the edges with few parameters: `rank` regional factors per measure, u'Eu of each, and one
    linear map of these. Nothing in it is nonlinear."""

    kind: Literal["low_rank"] = "low_rank"
    rank: Count = 8
    embedding: Count = 32
    dropout: Probability = 0.0

    def describe(self) -> str:
        return f"a linear map of the edges of rank {self.rank}"


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


AnyEncoder = Annotated[
    GraphEncoder
    | FlatEncoder
    | GCNEncoder
    | GINEncoder
    | SAGEEncoder
    | GATv2Encoder
    | TransformerEncoder
    | DualEncoder
    | BrainNetEncoder
    | LowRankEncoder,
    Field(discriminator="kind"),
]
