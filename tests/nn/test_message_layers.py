"""Every dense layer equals the torch_geometric layer of its name, as do readouts and encodings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from network_cases import FEATURES, MEASURES, REGIONS, N, make_batch
from torch import Tensor, nn

from connectome_tl.nn.adjacency import Graph
from connectome_tl.nn.attention_layers import GATv2Layer, TransformerLayer
from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.encoders.brainnetcnn import EdgeToEdge, EdgeToNode
from connectome_tl.nn.message_layers import GCNLayer, GINLayer, SAGELayer
from connectome_tl.nn.pooling import AttentionReadout, ClusterReadout

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
WIDTH, HEADS = 6, 2


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def rows(n_measures: int = 1, *, signed: bool = True, binary: bool = False) -> ConnectomeRows:
    """Of subjects without a missing region, unscaled edges symmetric, some of them absent."""
    found = make_batch(masked=False).connectome
    edges = found.edges[:, :n_measures]
    edges = (edges != 0).float() if binary else edges if signed else edges.abs()
    shape = (n_measures, REGIONS, REGIONS)
    return replace(found, edges=edges, mean=torch.zeros(shape), scale=torch.ones(shape))


def sparse(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Messages of a batch (n, n_regions, n_regions) as one graph, from column to row."""
    from torch_geometric.utils import dense_to_sparse

    return dense_to_sparse(weights.transpose(1, 2).contiguous())


def random_weights(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


H = torch.randn(N, REGIONS, FEATURES, generator=torch.Generator().manual_seed(5))


def test_gcn_is_gcnconv_per_measure_on_weights_that_are_positive() -> None:
    from torch_geometric.nn import GCNConv

    layer, graph = random_weights(GCNLayer(FEATURES, WIDTH, MEASURES)), Graph(rows(MEASURES, signed=False))
    assert isinstance(layer, GCNLayer)
    want = layer.bias.expand(N, REGIONS, WIDTH)
    for m, own in enumerate(layer.maps):
        conv = GCNConv(FEATURES, WIDTH, bias=False)
        conv.lin.weight.data = own.weight.data
        edge_index, weight = sparse(graph.weights[:, m])
        want = want + conv(H.reshape(-1, FEATURES), edge_index, weight).reshape(N, REGIONS, WIDTH)
    torch.testing.assert_close(layer(H, graph), want, rtol=1e-5, atol=1e-5)


def test_gcn_keeps_the_sign_of_negative_edges() -> None:
    layer = random_weights(GCNLayer(FEATURES, WIDTH, 1))
    found = [layer(H, Graph(replace(one, edges=sign * one.edges))) for one in (rows(),) for sign in (1, -1)]
    assert torch.isfinite(found[0]).all()
    alone = GCNLayer(FEATURES, WIDTH, 0)
    alone.load_state_dict(layer.state_dict())
    # Contributions of other regions change sign, that of the region does not.
    strength = Graph(rows()).weights.abs().sum(dim=3)[:, 0, :, None] + 1
    own = H @ layer.maps[0].weight.T / strength + layer.bias  # type: ignore[union-attr, operator]
    torch.testing.assert_close((found[0] + found[1]) / 2, own, rtol=1e-4, atol=1e-5)


def test_gin_is_ginconv_on_unweighted_and_densegin_on_weighted_edges() -> None:
    from torch_geometric.nn import DenseGINConv, GINConv

    layer = random_weights(GINLayer(FEATURES, WIDTH, 1))
    assert isinstance(layer, GINLayer)
    assert layer.factors is not None
    layer.factors.data.fill_(1.0)
    binary, weighted = rows(binary=True), rows()
    graph = Graph(binary)
    unit = graph.weights.max()
    conv = GINConv(layer.dense, eps=float(layer.own.detach()))
    edge_index, _ = sparse((graph.weights[:1, 0] > 0).float())
    layer.factors.data.fill_(1.0 / float(graph.weights[0].max()))
    want = conv(H[:1].reshape(-1, FEATURES), edge_index).reshape(1, REGIONS, WIDTH)
    torch.testing.assert_close(layer(H, graph)[:1], want, rtol=1e-5, atol=1e-5)
    assert unit > 0
    layer.factors.data.fill_(1.0)
    dense = DenseGINConv(layer.dense, eps=float(layer.own.detach()))
    want = dense(H, Graph(weighted).weights[:, 0])
    torch.testing.assert_close(layer(H, Graph(weighted)), want, rtol=1e-5, atol=1e-5)


def test_graphsage_is_sageconv_on_unweighted_edges_and_a_weighted_mean_else() -> None:
    from torch_geometric.nn import SAGEConv, SimpleConv

    layer = random_weights(SAGELayer(FEATURES, WIDTH, 1))
    assert isinstance(layer, SAGELayer)
    graph = Graph(rows(binary=True))
    conv = SAGEConv(FEATURES, WIDTH)
    conv.lin_r.weight.data, conv.lin_l.bias.data = layer.own.weight.data, layer.own.bias.data
    conv.lin_l.weight.data = layer.maps[0].weight.data  # type: ignore[assignment]
    edge_index, _ = sparse(graph.weights[:, 0])
    want = conv(H.reshape(-1, FEATURES), edge_index).reshape(N, REGIONS, WIDTH)
    torch.testing.assert_close(layer(H, graph), want, rtol=1e-5, atol=1e-5)
    graph = Graph(rows())
    weights = graph.weights[:, 0] / graph.weights[:, 0].abs().sum(dim=2, keepdim=True)
    edge_index, weight = sparse(weights)
    summed = SimpleConv(aggr="sum")(H.reshape(-1, FEATURES), edge_index, weight).reshape(N, REGIONS, FEATURES)
    torch.testing.assert_close(layer(H, graph), layer.own(H) + layer.maps[0](summed), rtol=1e-5, atol=1e-5)


def test_gatv2_is_gatv2conv_with_edge_attributes() -> None:
    from torch_geometric.nn import GATv2Conv

    layer, graph = random_weights(GATv2Layer(FEATURES, WIDTH, MEASURES, HEADS)), Graph(rows(MEASURES))
    assert isinstance(layer, GATv2Layer)
    conv = GATv2Conv(FEATURES, WIDTH // HEADS, heads=HEADS, edge_dim=2 * MEASURES, fill_value=0.0)
    conv.lin_l.load_state_dict(layer.send.state_dict())
    conv.lin_r.load_state_dict(layer.receive.state_dict())
    conv.lin_edge.weight.data, conv.bias.data = layer.edge.weight.data, layer.bias.data
    conv.att.data = layer.attention.data[None]
    assert not graph.linked.all()
    edge_index, _ = sparse(graph.linked.float())
    receiver, sender = edge_index[1], edge_index[0]
    channels = graph.channels[receiver // REGIONS, receiver % REGIONS, sender % REGIONS]
    want = conv(H.reshape(-1, FEATURES), edge_index, channels).reshape(N, REGIONS, WIDTH)
    torch.testing.assert_close(layer(H, graph), want, rtol=1e-5, atol=1e-5)


def test_the_transformer_s_attention_is_transformerconv_over_all_regions() -> None:
    from torch_geometric.nn import TransformerConv

    layer, graph = random_weights(TransformerLayer(FEATURES, WIDTH, MEASURES, HEADS)), Graph(rows(MEASURES))
    assert isinstance(layer, TransformerLayer)
    conv = TransformerConv(FEATURES, WIDTH // HEADS, heads=HEADS, edge_dim=2 * MEASURES)
    for theirs, ours in (("lin_query", "query"), ("lin_value", "value"), ("lin_skip", "own")):
        getattr(conv, theirs).load_state_dict(getattr(layer, ours).state_dict())
    conv.lin_key.weight.data, conv.lin_edge.weight.data = layer.key.weight.data, layer.edge.weight.data
    conv.lin_key.bias.data.fill_(3.0)  # cancels
    edge_index, _ = sparse(torch.ones(N, REGIONS, REGIONS))
    receiver, sender = edge_index[1], edge_index[0]
    channels = graph.channels[receiver // REGIONS, receiver % REGIONS, sender % REGIONS]
    want = conv(H.reshape(-1, FEATURES), edge_index, channels).reshape(N, REGIONS, WIDTH)
    torch.testing.assert_close(layer.attend(H, graph), want, rtol=1e-5, atol=1e-5)


def test_readouts_are_those_of_torch_geometric() -> None:
    from torch_geometric.nn import AttentionalAggregation, dense_diff_pool

    h, mask = torch.randn(N, REGIONS, WIDTH), make_batch().connectome.node_mask
    attention = AttentionReadout(WIDTH)
    gate = nn.Sequential(attention.hidden, nn.Tanh(), attention.score)
    there = mask.bool()
    index = torch.arange(N)[:, None].expand(N, REGIONS)[there]
    want = AttentionalAggregation(gate)(h[there], index)
    torch.testing.assert_close(attention(h, mask), want, rtol=1e-5, atol=1e-5)
    clusters = ClusterReadout(WIDTH, 3)
    summed, *_ = dense_diff_pool(h, torch.zeros(N, REGIONS, REGIONS), clusters.assign(h), there)
    size, *_ = dense_diff_pool(torch.ones(N, REGIONS, 1), torch.zeros(N, REGIONS, REGIONS), clusters.assign(h), there)
    torch.testing.assert_close(clusters(h, mask), (summed / size).flatten(1), rtol=1e-5, atol=1e-5)


def test_random_walk_encodings_are_powers_of_the_transition_matrix() -> None:
    connectome = make_batch(dtype=torch.float64).connectome
    found = Graph(connectome).returns(3)
    assert found.shape == (N, REGIONS, MEASURES * 3)
    weights = (connectome.unscaled * connectome.present)[2, 1].abs().numpy()
    np.fill_diagonal(weights, 0)
    there = connectome.node_mask[2].bool().numpy()
    step = weights[np.ix_(there, there)]
    step = step / step.sum(axis=1, keepdims=True)
    want = [np.linalg.matrix_power(step, k).diagonal() * there.sum() for k in (2, 3, 4)]
    np.testing.assert_allclose(found[2, there, 1::MEASURES].numpy(), np.array(want).T, rtol=1e-10)
    assert (found[2, ~there] == 0).all()


def test_hidden_edges_are_in_no_view_of_a_graph() -> None:
    connectome = rows(MEASURES)
    kept = (torch.rand(N, 1, REGIONS, REGIONS) > 0.4).float().triu(1)
    kept = kept + kept.transpose(2, 3)
    graph = Graph(connectome.with_edges(connectome.edges * kept, kept))
    hidden = kept[:, 0] == 0
    assert (graph.weights[:, 0][hidden] == 0).all()
    assert (graph.channels[hidden] == 0).all()
    assert not graph.linked[hidden].any()
    for subject in range(N):
        assert graph.weights[subject, 0].abs().sum(dim=1).mean().item() == pytest.approx(1.0, abs=1e-5)


def test_edge_filters_are_the_published_convolutions_with_one_vector_for_rows_and_columns() -> None:
    edges = make_batch(masked=False).connectome.edges
    layer = random_weights(EdgeToEdge(MEASURES, 3, REGIONS))
    row, column = nn.Conv2d(MEASURES, 3, (1, REGIONS)), nn.Conv2d(MEASURES, 3, (REGIONS, 1))
    weight, bias = layer.filters.weight, layer.filters.bias  # type: ignore[union-attr]
    row.weight.data, column.weight.data = weight[:, :, None], weight[..., None]  # type: ignore[index]
    row.bias.data = column.bias.data = bias[:, 0]  # type: ignore[union-attr, index, assignment]
    found = layer(edges)
    torch.testing.assert_close(found, row(edges) + column(edges), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, found.transpose(2, 3))
    node = EdgeToNode(MEASURES, 3, REGIONS)
    node.load_state_dict(layer.filters.state_dict())  # type: ignore[union-attr]
    torch.testing.assert_close(node(edges), row(edges)[..., 0], rtol=1e-5, atol=1e-5)
