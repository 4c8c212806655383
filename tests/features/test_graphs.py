"""PyG graphs contain all data of the connectome, form PyG batches, and can be converted back."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.errors import DataError
from connectome_tl.features.pyg import from_pyg, to_pyg

# Importing torch_geometric causes deprecation warnings of torch.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
ATLAS = load_atlas("aal90")


def connectome(seed: int = 0, *, dtype: type = np.float64) -> Connectome:
    rng = np.random.default_rng(seed)
    values = rng.gamma(1, 5, (2, 90, 90)) * (rng.random((90, 90)) < 0.2)
    upper = np.triu(values)
    weights = (upper + np.triu(values, 1).swapaxes(1, 2)).astype(dtype)
    mask = np.ones(90, dtype=bool)
    mask[13] = False
    weights[:, 13], weights[:, :, 13] = 0, 0
    return Connectome(weights, ATLAS.names, ("count", "fa"), mask, subject="sub-1")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_there_and_back(dtype: type) -> None:
    one = connectome(dtype=dtype)
    back = from_pyg(to_pyg(one, ATLAS))
    np.testing.assert_array_equal(back.weights, one.weights)
    np.testing.assert_array_equal(back.node_mask, one.node_mask)
    assert (back.regions, back.measures, back.subject) == (one.regions, one.measures, one.subject)


def test_edges_stand_both_ways_and_nodes_keep_their_order() -> None:
    one = connectome()
    data = to_pyg(one, ATLAS, target=np.array([1.0, np.nan]))
    assert data.is_undirected()
    assert data.num_edges == int((one.weights[0] != 0).sum())
    first, second = data.edge_index
    np.testing.assert_allclose(data.edge_weight, one.weights[0, first, second], rtol=1e-6)
    np.testing.assert_allclose(data.pos[5], ATLAS.coordinates[5], rtol=1e-6)
    np.testing.assert_allclose(data.x[7, 90:], one.weights[1, 7], rtol=1e-6)
    assert data.y.shape == (1, 2)
    assert not data.node_mask[13]


def test_a_batch_of_graphs_is_what_pyg_makes_of_it() -> None:
    from torch_geometric.data import Batch
    from torch_geometric.utils import to_dense_adj

    several = [connectome(seed) for seed in range(3)]
    batch = Batch.from_data_list([to_pyg(one) for one in several])
    dense = to_dense_adj(batch.edge_index, batch.batch, batch.edge_weight, max_num_nodes=90)
    for i, one in enumerate(several):
        np.testing.assert_allclose(dense[i], one.weights[0], rtol=1e-6)


def test_graphs_without_names_or_weights_are_refused() -> None:
    data = to_pyg(connectome())
    data.regions = None
    with pytest.raises(DataError, match="name its regions"):
        from_pyg(data)
    data = to_pyg(connectome())
    data.edge_attr, data.edge_weight = None, None
    with pytest.raises(DataError, match="no edge weights"):
        from_pyg(data)
    data = to_pyg(connectome())
    data.edge_index = data.edge_index[:, :5]
    data.edge_attr = data.edge_attr[:5]
    with pytest.raises(DataError, match="not symmetric"):
        from_pyg(data)
