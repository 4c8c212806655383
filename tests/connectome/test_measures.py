"""Measures of a whole cohort equal networkx and bctpy, subject by subject."""

from __future__ import annotations

import bct
import networkx as nx
import numpy as np
import pytest

from connectome_tl.connectome import measures
from connectome_tl.errors import DataError

N = 24


def cohort(n_subjects: int = 4, share: float = 0.3, seed: int = 0, n_regions: int = N) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.gamma(1.0, 5.0, (n_subjects, n_regions, n_regions)) * (
        rng.random((n_subjects, n_regions, n_regions)) < share
    )
    upper = np.triu(values, 1)
    return upper + upper.swapaxes(1, 2)


def graphs(weights: np.ndarray) -> list[nx.Graph]:
    made = []
    for matrix in weights:
        graph = nx.from_numpy_array(matrix)
        for _, _, data in graph.edges(data=True):
            data["length"] = 1 / data["weight"]
        made.append(graph)
    return made


@pytest.fixture(params=[0.05, 0.3, 1.0], ids=["nearly empty", "sparse", "complete"])
def weights(request: pytest.FixtureRequest) -> np.ndarray:
    return cohort(share=request.param)


def test_strength_and_degree(weights: np.ndarray) -> None:
    for i, graph in enumerate(graphs(weights)):
        assert measures.strength(weights)[i] == pytest.approx([v for _, v in graph.degree(weight="weight")])
        assert measures.degree(weights)[i] == pytest.approx([v for _, v in graph.degree()])
        assert measures.density(weights)[i] == pytest.approx(nx.density(graph))


def test_clustering_is_networkx_and_bct(weights: np.ndarray) -> None:
    found = measures.clustering(weights)
    for i, graph in enumerate(graphs(weights)):
        assert found[i] == pytest.approx(list(nx.clustering(graph, weight="weight").values()), abs=1e-12)
        with np.errstate(invalid="ignore", divide="ignore"):
            theirs = bct.clustering_coef_wu(weights[i] / max(weights[i].max(), 1e-300))
        assert found[i] == pytest.approx(np.nan_to_num(np.asarray(theirs).ravel()), abs=1e-12)


def test_distances_and_what_follows_from_them(weights: np.ndarray) -> None:
    found = measures.distances(weights)
    for i, graph in enumerate(graphs(weights)):
        theirs = np.full((N, N), np.inf)
        for a, lengths in nx.all_pairs_dijkstra_path_length(graph, weight="length"):
            for b, length in lengths.items():
                theirs[a, b] = length
        np.testing.assert_allclose(found[i], theirs, rtol=1e-12)
        with np.errstate(divide="ignore"):
            assert measures.global_efficiency(weights)[i] == pytest.approx(bct.efficiency_wei(weights[i].copy()))
        finite = theirs[np.isfinite(theirs) & (theirs > 0)]
        if finite.size:
            assert measures.path_length(weights)[i] == pytest.approx(finite.mean())


def test_rich_club_is_networkx(weights: np.ndarray) -> None:
    found = measures.rich_club(weights)
    for i, graph in enumerate(graphs(weights)):
        theirs = nx.rich_club_coefficient(graph, normalized=False)
        for k, value in theirs.items():
            assert found[i, k] == pytest.approx(value), k


def test_modularity_is_networkx(weights: np.ndarray) -> None:
    partition = np.array(["a", "b", "c"])[np.arange(N) % 3]
    communities = [set(np.flatnonzero(partition == label)) for label in "abc"]
    found = measures.modularity(weights, partition)
    for i, graph in enumerate(graphs(weights)):
        if graph.number_of_edges():
            assert found[i] == pytest.approx(nx.community.modularity(graph, communities, weight="weight"))


def test_local_efficiency_is_bcts_and_unweighted_networkxs(weights: np.ndarray) -> None:
    found = measures.local_efficiency(weights)
    there = (weights > 0).astype(float)
    unweighted = measures.local_efficiency(there).mean(axis=1)
    for i in range(len(weights)):
        assert found[i] == pytest.approx(np.asarray(bct.efficiency_wei(weights[i], local=True)).ravel(), abs=1e-12)
        assert unweighted[i] == pytest.approx(nx.local_efficiency(nx.from_numpy_array(there[i])), abs=1e-12)


def test_communities_that_are_there_are_found_and_their_modularity_is_bcts() -> None:
    rng = np.random.default_rng(1)
    block = np.kron(np.eye(4), np.ones((6, 6))) * 8 + 1
    upper = np.triu(rng.gamma(20.0, 0.05, (3, N, N)) * block, 1)
    made = upper + upper.swapaxes(1, 2)
    found = measures.communities(made, seed=3)
    assert (found == np.repeat(np.arange(4), 6)).all()
    np.testing.assert_array_equal(found[1:2], measures.communities(made[1:2], seed=3))
    ours = measures.modularity(made, found)
    for i, (_, theirs) in enumerate(bct.modularity_louvain_und(matrix, seed=1) for matrix in made):
        assert ours[i] == pytest.approx(theirs)
    mask = np.ones(made.shape[:2], dtype=bool)
    mask[:, 5] = False
    masked = measures.communities(made, mask)
    assert (masked[:, 5] == -1).all()
    np.testing.assert_array_equal(np.delete(masked, 5, axis=1), np.delete(found, 5, axis=1))
    assert np.isnan(measures.modularity(np.zeros((1, 3, 3)), measures.communities(np.zeros((1, 3, 3))))).all()


def test_small_world_from_networkx_on_the_same_null_networks() -> None:
    weights = cohort(2, 0.4)
    mask = np.ones(weights.shape[:2], dtype=bool)
    found = measures.small_world(weights, n_null=3, seed=5)

    def c_and_l(matrix: np.ndarray) -> tuple[float, float]:
        (graph,) = graphs(matrix[None])
        lengths = [v for _, d in nx.all_pairs_dijkstra_path_length(graph, weight="length") for v in d.values() if v]
        return nx.average_clustering(graph, weight="weight"), float(np.mean(lengths))

    for i in range(2):
        null = [c_and_l(measures.shuffled_weights(weights, mask, seed=5, draw=d)[i]) for d in range(3)]
        c, length = c_and_l(weights[i])
        null_c, null_l = np.mean(null, axis=0)
        assert found[i] == pytest.approx((c / null_c) / (length / null_l))


def test_a_lattice_is_a_small_world_and_a_random_graph_is_not() -> None:
    lattice = nx.to_numpy_array(nx.watts_strogatz_graph(60, 8, 0.05, seed=1))
    random = nx.to_numpy_array(nx.gnm_random_graph(60, 240, seed=1))
    ring, noise = measures.small_world(np.stack([lattice, random]), n_null=10)
    assert ring > 2
    assert noise == pytest.approx(1, abs=0.25)


def test_a_missing_region_leaves_the_measures_of_the_others_alone() -> None:
    """Masking a region equals leaving it out; a zero row does not."""
    weights = cohort(3, 0.5)
    mask = np.ones(weights.shape[:2], dtype=bool)
    mask[:, 5] = False
    keep = np.delete(np.arange(N), 5)
    without = weights[:, keep[:, None], keep[None, :]]
    partition = np.arange(N) % 2
    masked = measures.graph_measures(weights, mask, partition=partition)
    np.testing.assert_allclose(masked, measures.graph_measures(without, partition=partition[keep]))
    zeroed = np.where(mask[:, :, None] & mask[:, None, :], weights, 0)
    assert (measures.graph_measures(zeroed)["density"] < masked["density"]).all()
    for nodal in (measures.strength, measures.clustering, measures.degree, measures.local_efficiency):
        assert np.isnan(nodal(weights, mask)[:, 5]).all()
        np.testing.assert_allclose(nodal(weights, mask)[:, keep], nodal(without))


def test_subjects_do_not_see_each_other_and_the_diagonal_does_not_count() -> None:
    weights = cohort(5)
    whole = measures.graph_measures(weights)
    np.testing.assert_array_equal(whole.iloc[2], measures.graph_measures(weights[2:3]).iloc[0])
    with_diagonal = weights + 7 * np.eye(N)
    np.testing.assert_array_equal(whole, measures.graph_measures(with_diagonal))
    turn = np.random.default_rng(0).permutation(N)
    np.testing.assert_allclose(whole, measures.graph_measures(weights[:, turn[:, None], turn[None, :]]))


def test_empty_graphs_give_numbers_and_not_warnings() -> None:
    table = measures.graph_measures(np.zeros((2, 6, 6)), partition=np.arange(6) % 2)
    assert (table[["density", "strength", "clustering", "global_efficiency"]] == 0).all(axis=None)
    assert table[["path_length", "modularity"]].isna().all(axis=None)


def test_negative_weights_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="0 and more"):
        measures.strength(-cohort(1))
    with pytest.raises(DataError, match="many subjects"):
        measures.strength(np.ones((3, 4)))
    with pytest.raises(DataError, match="partition"):
        measures.modularity(cohort(1), np.zeros(3))
