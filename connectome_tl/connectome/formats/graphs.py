"""Read GraphML files of Connectome Mapper, networkx and this package."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.formats.name_lists import row_lists
from connectome_tl.connectome.matrix_file import MatrixFile
from connectome_tl.errors import DataError
from connectome_tl.files import read_text
from connectome_tl.plurals import counted

_MAX_BYTES = 200_000_000
_NAME_KEYS = ("name", "dn_name", "dn_fsname", "label")
_MOST_NODES = 5_000
_MOST_VALUES = 50_000_000
_COUNTED = re.compile(r"n?([0-9]{1,6})")


def read_graphml(path: Path) -> MatrixFile:
    """Read an undirected graph with one measure per numeric edge attribute.

    Nodes are named by the attribute `name` or `dn_name`, by another one that all nodes have, or else by their id.
    Absent edges are 0; a node with `missing` true is masked. Ids 0 to n - 1 (networkx) and n0 to n(n - 1) (igraph) are
    positions.

    Raises:
        DataError: damaged, directed, with parallel edges, or without a numeric edge attribute.
    """
    import networkx as nx

    text = read_text(path, limit=_MAX_BYTES)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("declares entities, which are not read", file=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # networkx guesses undeclared keys
            graph = nx.parse_graphml(text)
    except Exception as error:  # networkx and the XML parser raise many types for a damaged file
        raise DataError(f"cannot be read as GraphML: {' '.join(str(error).split())[:200]}", file=path) from error
    if graph.is_directed() or graph.is_multigraph():
        raise DataError(
            "a directed graph, or one with parallel edges",
            file=path,
            expected="an undirected graph",
            remedy="If both directions of each edge have one weight, save networkx.Graph(graph).",
        )
    return graph_matrix(graph, path)


def graph_matrix(graph: Any, path: str | Path) -> MatrixFile:
    """A networkx graph as a matrix file; see `read_graphml`."""
    nodes = list(graph.nodes(data=True))
    if not 2 <= len(nodes) <= _MOST_NODES:
        raise DataError(f"expected 2 to {_MOST_NODES} nodes", file=path, got=str(len(nodes)))
    values, measures = _edges(graph, [node for node, _ in nodes], path)
    missing = [i for i, (_, data) in enumerate(nodes) if data.get("missing") is True]
    values[:, missing, :] = np.nan
    values[:, :, missing] = np.nan
    matrix = MatrixFile(values, measures, nan_is_missing=bool(missing))
    key = next((key for key in _NAME_KEYS if all(key in data for _, data in nodes)), None)
    if key is not None:
        names = tuple(str(data[key]).strip() for _, data in nodes)
        whole = [number for _, data in nodes if type(number := data.get("dn_multiscaleID")) is int]
        return replace(matrix, names=names, labels=tuple(whole) if len(whole) == len(nodes) else None)
    ids = [str(node).strip() for node, _ in nodes]
    counted = [_COUNTED.fullmatch(one) for one in ids]
    if not all(counted):
        return replace(matrix, names=tuple(ids))
    shared = [key for key in nodes[0][1] if all(key in data for _, data in nodes)]
    lists = row_lists({key: [data[key] for _, data in nodes] for key in shared}, (len(nodes),), ("missing",))
    numbers = tuple(int(match[1]) for match in counted if match is not None)
    named = [one for one in lists if (one.names is not None and len(one) == len(nodes)) or one.tells]
    return replace(matrix, lists=tuple(named)) if named else replace(matrix, labels=numbers)


def _edges(graph: Any, nodes: list[Any], path: str | Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values (n_measures, n_nodes, n_nodes) and names of all numeric edge attributes."""
    measures: dict[str, None] = {}
    for _, _, data in graph.edges(data=True):
        numeric = [k for k, value in data.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]
        measures |= dict.fromkeys(k for k in numeric if k != "id")
    if not measures:
        raise DataError("no edge has a number", file=path)
    if len(measures) * len(nodes) ** 2 > _MOST_VALUES:
        raise DataError(
            "too large for a connectome",
            file=path,
            got=f"{counted(len(measures), 'measure')}, {counted(len(nodes), 'node')}",
        )
    position = {node: i for i, node in enumerate(nodes)}
    values = np.zeros((len(measures), len(nodes), len(nodes)))
    for first, second, data in graph.edges(data=True):
        i, j = position[first], position[second]
        for m, measure in enumerate(measures):
            values[m, i, j] = values[m, j, i] = float(data.get(measure, 0.0))
    return values, tuple(measures)


def to_networkx(connectome: Connectome, atlas: Atlas | None = None) -> Any:
    """Convert to a networkx graph: one node per region in row order, one edge attribute per measure.

    Nodes have the attributes `name`, `missing`, and with an atlas `hemisphere`, `lobe`, `x`, `y`, `z` (mm, if known).
    Pairs of regions with a non-zero value of any measure have an edge. The key of a node is its name.
    """
    import networkx as nx

    graph = nx.Graph()
    about = {} if atlas is None else {region.name: region for region in atlas.regions}
    for name, there in zip(connectome.regions, connectome.node_mask, strict=True):
        region = about.get(name)
        place: dict[str, Any] = {} if region is None else {"hemisphere": region.hemisphere, "lobe": region.lobe}
        if region is not None and atlas is not None and atlas.has_centroids:
            place |= {"x": region.x, "y": region.y, "z": region.z}
        graph.add_node(name, name=name, missing=not bool(there), **place)
    weights = connectome.weights
    for i, j in np.argwhere(np.triu((weights != 0).any(axis=0))):
        edge = {measure: float(weights[m, i, j]) for m, measure in enumerate(connectome.measures)}
        graph.add_edge(connectome.regions[i], connectome.regions[j], **edge)
    if graph.number_of_edges() == 0:  # keeps the names of the measures in a graph without edges
        graph.add_edge(connectome.regions[0], connectome.regions[0], **dict.fromkeys(connectome.measures, 0.0))
    return graph


def from_networkx(graph: Any, *, subject: str | None = None) -> Connectome:
    """Convert a networkx graph to a connectome; the inverse of `to_networkx`.

    Raises:
        DataError: directed, with parallel edges, or without a numeric edge attribute.
    """
    if graph.is_directed() or graph.is_multigraph():
        raise DataError("a directed graph, or one with parallel edges", subject=subject)
    matrix = graph_matrix(graph, "the graph")
    names = matrix.names or tuple(str(label) for label in matrix.labels or ())
    there = ~np.isnan(matrix.values).all(axis=(0, 2))
    values = np.where(there[None, :, None] & there[None, None, :], matrix.values, 0.0)
    return Connectome(values, names, matrix.measures, there, subject=subject)
