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
    """Settings of a branch, with its modality and a phrase for the methods section."""

    modality: ClassVar[str] = "connectome"

    @property
    def is_atlas_bound(self) -> bool:
        """Whether the weights depend on one set of regions in one order."""
        return True

    @property
    def needs_places(self) -> bool:
        """Whether the atlas must provide the location of its regions."""
        return False

    @property
    def takes_bf16(self) -> bool:
        """Whether it can be trained on edges in bfloat16."""
        return False

    def describe(self) -> str:
        """One sentence for the methods section of a report."""
        raise NotImplementedError(f"{type(self).__name__} has no describe()")


class MessageSettings(EncoderSettings):
    """Settings shared by all graph encoders: node features, number of layers, pooling of regions.

    Args:
        node_features: initial features of a region. `profile` is its row of scaled edges, so that the weights
            depend on the atlas. `strength` is the mean, standard deviation and maximum of its scaled edges.
            `identity` adds the location of the region (centroid, hemisphere and lobe from the atlas) to
            `strength`. `measures` is its regional measures (`region_features`) alone. Regional measures of a
            cohort are also added to the other kinds.
        walk: number of steps of a random walk over the edges; the return probabilities after 2, 3, ... steps are
            added to the node features (positional encoding of Dwivedi et al. 2022, arXiv:2110.07875).
        messages: false disables message passing, as a control for the graph part.
        readout: pooling of regions. `mean`; `attention` (Ilse et al. 2018, arXiv:1802.04712); `clusters`, the
            means of learned soft clusters (Ying et al. 2018, arXiv:1806.08804); `regional`, with separate
            factors for each region (atlas-bound).
        clusters: number of clusters of that readout.
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
        places = ", regions identified by centroid, hemisphere and lobe" if self.needs_places else ""
        walk = f", positional encodings of {self.walk} steps of a random walk" if self.walk else ""
        messages = "" if self.messages else ", without messages between regions"
        return f"a {self.noun} of {self.n_layers} layers (width {self.width}, {readout}){places}{walk}{messages}"


class DirectSettings(MessageSettings):
    """A graph encoder with an optional parallel linear map of the edges.

    Args:
        direct: add a linear map of the edges (with `node_features: measures`, of the measures) to the embedding.
    """

    direct: bool = True

    @property
    def is_atlas_bound(self) -> bool:
        return super().is_atlas_bound or self.direct

    def describe(self) -> str:
        mapped = "regional measures" if self.node_features == "measures" else "edges"
        return super().describe() + (f", in parallel to a linear map of the {mapped}" if self.direct else "")


class GraphEncoder(DirectSettings):
    """Graph convolutions with one weight matrix per edge measure and one for self-connections (relational form of
    Schlichtkrull et al. 2018, doi:10.1007/978-3-319-93417-4_38), on symmetrically normalised edges.

    `engine: pyg` computes the same messages with torch_geometric.
    """

    noun: ClassVar[str] = "dense graph network"
    kind: Literal["graph"] = "graph"
    engine: Literal["dense", "pyg"] = "dense"

    @property
    def takes_bf16(self) -> bool:
        return self.engine == "dense"


class GCNEncoder(DirectSettings):
    """Graph convolutional network (Kipf and Welling 2017, arXiv:1609.02907) with self-loops whose weight is the
    mean strength of the regions."""

    noun: ClassVar[str] = "graph convolutional network (GCN)"
    kind: Literal["gcn"] = "gcn"


class GINEncoder(DirectSettings):
    """Graph isomorphism network (Xu et al. 2019, arXiv:1810.00826): a dense network on a region's features plus the
    weighted sum of those of its neighbours."""

    noun: ClassVar[str] = "graph isomorphism network (GIN)"
    kind: Literal["gin"] = "gin"


class SAGEEncoder(DirectSettings):
    """GraphSAGE (Hamilton et al. 2017, arXiv:1706.02216) with the weighted mean over neighbours."""

    noun: ClassVar[str] = "GraphSAGE network"
    kind: Literal["graphsage"] = "graphsage"


class AttentionSettings(MessageSettings):
    """Settings of graph attention; `width` is divided by the number of `heads`."""

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
    arXiv:2009.03509), with random-walk positional encodings (`walk`) and a feed-forward block in each layer."""

    noun: ClassVar[str] = "graph transformer"
    kind: Literal["graph_transformer"] = "graph_transformer"
    walk: Annotated[int, Field(ge=0, le=16)] = 8


class DualEncoder(AttentionSettings):
    """A linear map of the edges and a graph attention network (GATv2) in parallel, proposed by Han et al. 2025
    (arXiv:2501.17207) for data where message passing lowers the scores; each gives half of the embedding.

    Args:
        embedding: width of the embedding of each path.
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

    The edge-to-edge filter shares one weight vector for rows and columns, so that a symmetric connectome gives
    symmetric feature maps (unlike the published filter, which has two).

    Args:
        filters: number of filters of each edge-to-edge layer. nodes: number of edge-to-node filters.
        embedding: width of the last layer.
        n_layers: number of edge-to-edge layers. messages: false omits these layers.
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
    """A linear model of the edges with few parameters: u'Eu for `rank` regional factors u per measure, followed by
    a linear map."""

    kind: Literal["low_rank"] = "low_rank"
    rank: Count = 8
    embedding: Count = 32
    dropout: Probability = 0.0

    def describe(self) -> str:
        return f"a linear map of the edges of rank {self.rank}"


class FlatEncoder(EncoderSettings):
    """The connectome branch of He et al. 2020 (doi:10.1038/s41598-020-71914-x): upper-triangle edges
    through dense layers without bias, normalised, ReLU. The published demo has widths 128 and 32 and
    batch normalisation; layer normalisation is the default here, since batch normalisation fails for a batch of one."""

    kind: Literal["flat"] = "flat"
    widths: tuple[Count, ...] = (128, 32)
    norm: Norm = "layer"
    dropout: Probability = 0.0

    def describe(self) -> str:
        return f"a dense network on upper-triangle edges (widths {', '.join(map(str, self.widths))})"


class ComponentsEncoder(EncoderSettings):
    """Leading principal components of the edges, scaled to unit variance, through dense layers with ReLU.

    They are those of the training rows of the first stage, and are transferred with the weights. It can learn products
    of components, such as interactions of traits, from a few hundred subjects.
    """

    kind: Literal["components"] = "components"
    components: Count = 16
    widths: tuple[Count, ...] = (32, 16)
    dropout: Probability = 0.0

    def describe(self) -> str:
        widths = ", ".join(map(str, self.widths))
        return f"a dense network on the {self.components} leading principal components of the edges (widths {widths})"


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
    | LowRankEncoder
    | ComponentsEncoder,
    Field(discriminator="kind"),
]
