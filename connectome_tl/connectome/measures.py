"""Graph measures of whole cohorts, on arrays of shape (n_subjects, n_regions, n_regions).

All take non-negative symmetric weights, ignore the diagonal, and leave out missing regions (`node_mask` False):
these are NaN in nodal measures and excluded from global ones. Values per subject equal those of networkx or bctpy
for one graph. They raise `DataError` for weights of another shape, and for negative or non-finite weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError

_BLOCK_BYTES = 1 << 20  # blocks of subjects that stay in the cache: Floyd-Warshall is bound by memory


def strength(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Sum of the weights of each region, (n_subjects, n_regions)."""
    weights, mask = _checked(weights, node_mask)
    return np.where(mask, weights.sum(axis=2), np.nan)


def degree(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Number of edges of each region, (n_subjects, n_regions)."""
    weights, mask = _checked(weights, node_mask)
    return np.where(mask, (weights > 0).sum(axis=2).astype(float), np.nan)


def density(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Fraction of possible edges that are present, (n_subjects,)."""
    weights, mask = _checked(weights, node_mask)
    n = mask.sum(axis=1)
    return (weights > 0).sum(axis=(1, 2)) / np.maximum(n * (n - 1), 1)


def clustering(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Weighted clustering coefficient, (n_subjects, n_regions), 0 below degree 2.

    Geometric mean of the triangles' weights, each divided by the subject's largest weight
    (Onnela et al. 2005, doi:10.1103/PhysRevE.71.065103), as networkx's `clustering(weight=...)`.
    """
    weights, mask = _checked(weights, node_mask)
    out = np.full(mask.shape, np.nan)
    for rows in _blocks(weights):
        part = weights[rows]
        largest = part.max(axis=(1, 2), initial=0.0)
        root = np.cbrt(part / np.where(largest > 0, largest, 1.0)[:, None, None])
        triangles = ((root @ root) * root).sum(axis=2)
        k = (part > 0).sum(axis=2)
        pairs = k * (k - 1)
        out[rows] = np.where(pairs > 0, triangles / np.maximum(pairs, 1), 0.0)
    return np.where(mask, out, np.nan)


def distances(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Lengths of shortest paths for edge lengths of 1 / weight, (n_subjects, n_regions, n_regions).

    Infinite where there is no path, 0 on the diagonal. Uses the Floyd-Warshall algorithm in blocks of subjects
    (doi:10.1145/367766.368168).
    """
    weights, _ = _checked(weights, node_mask)
    out = np.empty(weights.shape)
    for rows in _blocks(weights):
        out[rows] = _floyd_warshall(weights[rows])
    return out


def global_efficiency(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Mean inverse shortest path over all pairs of regions, (n_subjects,).

    Latora and Marchiori 2001 (doi:10.1103/PhysRevLett.87.198701), weighted as bctpy's `efficiency_wei`.
    """
    return _path_measures(*_checked(weights, node_mask))[0]


def path_length(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Mean shortest path over connected pairs of regions, (n_subjects,), as bctpy's `charpath`."""
    return _path_measures(*_checked(weights, node_mask))[1]


def local_efficiency(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Efficiency among the neighbours of each region, (n_subjects, n_regions), 0 below degree 2.

    Weighted as by Wang et al. 2017 (doi:10.1162/NECO_a_00914) and bctpy's `efficiency_wei(local=True)`: edges have the
    length 1 / cbrt(weight), and a pair of neighbours is weighted by the cube root of its weights to the region. With
    binary weights the mean over regions equals networkx's `local_efficiency`.
    """
    weights, mask = _checked(weights, node_mask)
    out = np.zeros(mask.shape)
    root = np.cbrt(weights)
    degrees = (weights > 0).sum(axis=2)
    for region in range(weights.shape[1]):
        rows = np.flatnonzero(degrees[:, region] > 1)
        for some in np.array_split(rows[np.argsort(degrees[rows, region])], max(1, len(rows) // 64)):
            if len(some):
                out[some, region] = _among_neighbours(root[some], root[some, region], degrees[some, region])
    return np.where(mask, out, np.nan)


def _among_neighbours(root: np.ndarray, to_region: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Local efficiency of one region, from cube roots of all weights, of those to the region, and its degrees."""
    widest = int(degrees.max())
    first = np.argsort(to_region == 0, axis=1, kind="stable")[:, :widest]  # the neighbours, padded with other regions
    subject = np.arange(len(root))[:, None, None]
    there = np.take_along_axis(to_region, first, axis=1)
    among = root[subject, first[:, :, None], first[:, None, :]]
    among = among * (there[:, :, None] > 0) * (there[:, None, :] > 0)
    length = _floyd_warshall(among)
    inverse = np.zeros_like(length)
    np.divide(1.0, length, out=inverse, where=length > 0)
    pairs = np.einsum("si,sij,sj->s", there, inverse, there)
    return pairs / (degrees * (degrees - 1))


def rich_club(weights: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Rich-club coefficient for every degree, (n_subjects, n_regions).

    Column k is the density among regions with more than k edges, NaN for fewer than two regions.

    Unweighted and not normalised, as networkx's `rich_club_coefficient(normalized=False)`
    (Colizza et al. 2006, doi:10.1038/nphys209).
    """
    weights, mask = _checked(weights, node_mask)
    n_subjects, n_regions = mask.shape
    there = weights > 0
    k = there.sum(axis=2)
    first, second = np.triu_indices(n_regions, 1)
    edges = there[:, first, second]
    poorest = np.minimum(k[:, first], k[:, second])
    subject = np.broadcast_to(np.arange(n_subjects)[:, None], edges.shape)
    shape = (n_subjects, n_regions)
    by_degree = np.bincount((subject * n_regions + poorest)[edges], minlength=n_subjects * n_regions).reshape(shape)
    rows = np.broadcast_to(np.arange(n_subjects)[:, None], k.shape)
    of_degree = np.bincount((rows * n_regions + k)[mask], minlength=n_subjects * n_regions).reshape(shape)
    n_edges = edges.sum(axis=1)[:, None] - by_degree.cumsum(axis=1)
    n_nodes = mask.sum(axis=1)[:, None] - of_degree.cumsum(axis=1)
    return np.where(n_nodes > 1, 2 * n_edges / np.maximum(n_nodes * (n_nodes - 1), 1), np.nan)


def modularity(weights: np.ndarray, partition: np.ndarray, node_mask: np.ndarray | None = None) -> np.ndarray:
    """Newman's modularity of a given partition, (n_subjects,), NaN without edges.

    As networkx's `community.modularity` (doi:10.1103/PhysRevE.69.026113).

    Args:
        partition: (n_regions,) community label of each region (lobes, hemispheres, modules), or
        (n_subjects, n_regions) for a partition per subject, as from `communities`.
    """
    weights, _ = _checked(weights, node_mask)
    given = np.asarray(partition)
    if given.shape not in (weights.shape[1:2], weights.shape[:2]):
        raise DataError("the partition has the wrong size", expected=f"({weights.shape[1]},)", got=str(given.shape))
    labels, found = np.unique(given, return_inverse=True)
    community = np.broadcast_to(found.reshape(given.shape), weights.shape[:2])
    total = weights.sum(axis=(1, 2))
    scale = np.where(total > 0, total, np.nan)
    member = community[:, :, None] == np.arange(len(labels))  # (n_subjects, n_regions, n_communities)
    inside = ((weights @ member) * member).sum(axis=(1, 2))
    ends = (weights.sum(axis=2)[:, :, None] * member).sum(axis=1)
    return inside / scale - ((ends / scale[:, None]) ** 2).sum(axis=1)


def communities(
    weights: np.ndarray, node_mask: np.ndarray | None = None, *, resolution: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Communities of each subject, (n_subjects, n_regions) whole numbers from 0, -1 for missing regions.

    Uses the Louvain method (Blondel et al. 2008, doi:10.1088/1742-5468/2008/10/P10008) of networkx for each subject.
    The result depends on the subject's matrix and `seed` only. Communities are numbered by their first region.
    """
    import networkx as nx

    weights, mask = _checked(weights, node_mask)
    out = np.full(mask.shape, -1)
    for i, (matrix, there) in enumerate(zip(weights, mask, strict=True)):
        nodes = np.flatnonzero(there)
        graph = nx.from_numpy_array(matrix[np.ix_(nodes, nodes)])
        found = nx.community.louvain_communities(graph, resolution=resolution, seed=seed) if len(nodes) else []
        for number, members in enumerate(sorted(found, key=min)):
            out[i, nodes[sorted(members)]] = number
    return out


def small_world(
    weights: np.ndarray, node_mask: np.ndarray | None = None, *, n_null: int = 20, seed: int = 0
) -> np.ndarray:
    """Small-worldness sigma = (C / C_null) / (L / L_null), (n_subjects,).

    C is the mean weighted clustering and L the characteristic path length. Null networks have the subject's weights
    and density, assigned to random pairs of regions (Humphries and Gurney 2008, doi:10.1371/journal.pone.0002051).
    Draws depend on `seed` only.
    """
    weights, mask = _checked(weights, node_mask)
    own_c, own_l = _mean(clustering(weights, mask)), _path_measures(weights, mask)[1]
    null_c, null_l = np.zeros(len(weights)), np.zeros(len(weights))
    for draw in range(n_null):
        shuffled = shuffled_weights(weights, mask, seed=seed, draw=draw)
        null_c += _mean(clustering(shuffled, mask)) / n_null
        null_l += _path_measures(shuffled, mask)[1] / n_null
    with np.errstate(divide="ignore", invalid="ignore"):
        return (own_c / null_c) / (own_l / null_l)


def shuffled_weights(weights: np.ndarray, node_mask: np.ndarray, *, seed: int, draw: int) -> np.ndarray:
    """Each subject's edges permuted over pairs of its present regions; same shape as `weights`."""
    out = np.zeros(weights.shape)
    for i, (matrix, there) in enumerate(zip(weights, node_mask, strict=True)):
        nodes = np.flatnonzero(there)
        first, second = np.triu_indices(len(nodes), 1)
        at = nodes[first], nodes[second]
        out[i][at] = np.random.default_rng([seed, draw, i]).permutation(matrix[at])
        out[i] += out[i].T
    return out


def graph_measures(
    weights: np.ndarray, node_mask: np.ndarray | None = None, *, partition: np.ndarray | None = None
) -> pd.DataFrame:
    """Global measures, one row per subject.

    Columns: density, mean strength and clustering, efficiency, path length, largest rich-club coefficient, and
    modularity where a partition is given.

    `local_efficiency`, `communities` and `small_world` are much slower and are called separately.
    """
    weights, mask = _checked(weights, node_mask)
    efficiency, length = _path_measures(weights, mask)
    rich = rich_club(weights, mask)
    table = {
        "density": density(weights, mask),
        "strength": _mean(strength(weights, mask)),
        "clustering": _mean(clustering(weights, mask)),
        "global_efficiency": efficiency,
        "path_length": length,
        "rich_club": np.where(np.isnan(rich).all(axis=1), np.nan, np.nanmax(np.nan_to_num(rich, nan=-1.0), axis=1)),
    }
    if partition is not None:
        table["modularity"] = modularity(weights, partition, mask)
    return pd.DataFrame(table)


def _checked(weights: np.ndarray, node_mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights as float64 with 0 on the diagonal and at missing regions, and the mask (n_subjects, n_regions)."""
    weights = np.asarray(weights)
    if weights.ndim != 3 or weights.shape[1] != weights.shape[2]:
        raise DataError(
            "graph measures take one measure of many subjects",
            expected="(n_subjects, n_regions, n_regions)",
            got=str(weights.shape),
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise DataError(
            "graph measures need finite weights of 0 and more",
            got=f"a least weight of {np.min(weights):g}",
            remedy="Negative correlations have no length; take them out or use their absolute value.",
        )
    mask = np.ones(weights.shape[:2], dtype=bool) if node_mask is None else np.asarray(node_mask, dtype=bool)
    clean = weights.astype(float, copy=True)
    diagonal = np.arange(weights.shape[1])
    clean[:, diagonal, diagonal] = 0.0
    clean *= mask[:, :, None] & mask[:, None, :]
    return clean, mask


def _blocks(weights: np.ndarray) -> Iterator[slice]:
    size = max(1, _BLOCK_BYTES // max(1, weights[:1].nbytes))
    for start in range(0, len(weights), size):
        yield slice(start, start + size)


def _floyd_warshall(weights: np.ndarray) -> np.ndarray:
    """Shortest paths of one block, for edge lengths of 1 / weight."""
    length = np.full(weights.shape, np.inf)
    np.divide(1.0, weights, out=length, where=weights > 0)
    diagonal = np.arange(weights.shape[1])
    length[:, diagonal, diagonal] = 0.0
    through = np.empty_like(length)
    for k in range(weights.shape[1]):
        np.add(length[:, :, k, None], length[:, None, k, :], out=through)
        np.minimum(length, through, out=length)
    return length


def _path_measures(weights: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Global efficiency and path length, (n_subjects,) each, from the same shortest paths."""
    efficiency, mean_length = np.zeros(len(weights)), np.full(len(weights), np.nan)
    n = mask.sum(axis=1)
    off_diagonal = ~np.eye(weights.shape[1], dtype=bool)
    for rows in _blocks(weights):
        length = _floyd_warshall(weights[rows])
        inverse = np.zeros_like(length)
        np.divide(1.0, length, out=inverse, where=(length > 0) & off_diagonal)
        efficiency[rows] = inverse.sum(axis=(1, 2))
        reached = np.isfinite(length) & off_diagonal
        count = reached.sum(axis=(1, 2))
        total = np.where(reached, length, 0.0).sum(axis=(1, 2))
        mean_length[rows] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return efficiency / np.maximum(n * (n - 1), 1), mean_length


def _mean(nodal: np.ndarray) -> np.ndarray:
    """Mean over the present regions, NaN without any."""
    there = ~np.isnan(nodal)
    return np.where(there, nodal, 0.0).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)
