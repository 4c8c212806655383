"""Matrices as graphs: GraphML of Connectome Mapper, of networkx, of this package."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.naming import MatrixFile
from connectome_tl.errors import DataError
from connectome_tl.files import read_text

_MAX_BYTES = 1_000_000_000
_NAME_KEYS = ("name", "dn_name", "dn_fsname", "label")


def read_graphml(path: Path) -> MatrixFile:
    """An undirected graph: nodes by name (attribute `name` or `dn_name`, else their id), one measure
    per numeric edge attribute. An edge that is not there is 0; a node with `missing` true is masked.

    Raises:
        DataError: damaged, directed, with parallel edges, or without a numeric edge attribute.
    """
    import networkx as nx

    text = read_text(path, limit=_MAX_BYTES)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("declares entities, which are not read", file=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # networkx guesses where a key is not declared
            graph = nx.parse_graphml(text)
    except Exception as error:  # networkx and the XML parser raise many kinds for a damaged file
        raise DataError(f"cannot be read as GraphML: {' '.join(str(error).split())[:200]}", file=path) from error
    if graph.is_directed() or graph.is_multigraph():
        raise DataError("a directed graph, or one with parallel edges", file=path, expected="an undirected graph")
    return graph_matrix(graph, path)


def graph_matrix(graph: Any, path: str | Path) -> MatrixFile:
    """A networkx graph as a matrix file; see `read_graphml`."""
    nodes = list(graph.nodes(data=True))
    if len(nodes) < 2:
        raise DataError("a graph without nodes", file=path, got=str(len(nodes)))
    key = next((key for key in _NAME_KEYS if all(key in data for _, data in nodes)), None)
    names = tuple(str(node if key is None else data[key]).strip() for node, data in nodes)
    measures: dict[str, None] = {}
    for _, _, data in graph.edges(data=True):
        numeric = [k for k, value in data.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]
        measures |= dict.fromkeys(k for k in numeric if k != "id")
    if not measures:
        raise DataError("no edge carries a number", file=path)
    position = {node: i for i, (node, _) in enumerate(nodes)}
    values = np.zeros((len(measures), len(nodes), len(nodes)))
    for first, second, data in graph.edges(data=True):
        i, j = position[first], position[second]
        for m, measure in enumerate(measures):
            values[m, i, j] = values[m, j, i] = float(data.get(measure, 0.0))
    missing = [i for i, (_, data) in enumerate(nodes) if data.get("missing") is True]
    values[:, missing, :] = np.nan
    values[:, :, missing] = np.nan
    if key is None and all(name.isdigit() for name in names):
        return MatrixFile(values, tuple(measures), labels=tuple(int(name) for name in names))
    numbers = [data.get("dn_multiscaleID") for _, data in nodes]
    whole = all(isinstance(number, int) for number in numbers)
    labels = tuple(int(number) for number in numbers if number is not None) if whole else None
    return MatrixFile(values, tuple(measures), names=names, labels=labels, nan_is_missing=bool(missing))


def to_networkx(connectome: Connectome, atlas: Atlas | None = None) -> Any:
    """A networkx graph: one node per region in row order, one edge attribute per measure.

    Nodes carry `name`, `missing`, and with an atlas `hemisphere`, `lobe`, `x`, `y`, `z` (mm, if known). An edge
    is there where any measure is not 0. The node's key is its name, as networkx users expect.
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
    if graph.number_of_edges() == 0:  # so that the measures are known where nothing is connected
        graph.add_edge(connectome.regions[0], connectome.regions[0], **dict.fromkeys(connectome.measures, 0.0))
    return graph


def from_networkx(graph: Any, *, subject: str | None = None) -> Connectome:
    """A networkx graph back to a connectome; the inverse of `to_networkx`.

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
