"""Convert connectomes to PyTorch Geometric data and back.

networkx both ways is `connectome.formats.graphs.to_networkx` and `from_networkx`; it needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.errors import DataError

if TYPE_CHECKING:
    from torch_geometric.data import Data


def to_pyg(connectome: Connectome, atlas: Atlas | None = None, *, target: np.ndarray | None = None) -> Data:
    """One connectome as a PyG graph.

    Every edge with a nonzero weight in any measure occurs in both directions (a self-loop once). Regions keep
    their order; a missing region is a node without edges and with `node_mask` False.

    Args:
        atlas: adds `pos`, centroids in mm (n_regions, 3).
        target: (n_tasks,) with NaN where missing, kept as `y` (1, n_tasks).

    Returns:
        Data with `x` (n_regions, n_measures * n_regions) the region's rows, `edge_index`,
        `edge_attr` (n_edges, n_measures), `edge_weight` (n_edges,) of the first measure, `node_mask`,
        and the texts `regions`, `measures`, `subject`.

    Raises:
        DataError: the atlas lacks a region.
    """
    import torch
    from torch_geometric.data import Data

    weights = connectome.weights
    first, second = np.nonzero((weights != 0).any(axis=0))
    attributes = weights[:, first, second].T
    rows = weights.transpose(1, 0, 2).reshape(connectome.n_regions, -1)
    extra: dict[str, Any] = {}
    if atlas is not None and atlas.has_centroids:
        extra["pos"] = torch.from_numpy(atlas.coordinates[atlas.order_of(connectome.regions)]).float()
    if target is not None:
        extra["y"] = torch.from_numpy(np.asarray(target, dtype=np.float32))[None]
    return Data(
        x=torch.from_numpy(np.ascontiguousarray(rows)).float(),
        edge_index=torch.from_numpy(np.stack([first, second])).long(),
        edge_attr=torch.from_numpy(np.ascontiguousarray(attributes)),
        edge_weight=torch.from_numpy(np.ascontiguousarray(attributes[:, 0])).float(),
        node_mask=torch.from_numpy(connectome.node_mask.copy()),
        num_nodes=connectome.n_regions,
        regions=list(connectome.regions),
        measures=list(connectome.measures),
        subject=connectome.subject or "",
        **extra,
    )


def from_pyg(data: Data) -> Connectome:
    """The inverse of `to_pyg`; weights keep the precision of `edge_attr`.

    A graph from another source needs `regions`; without `edge_attr`, `edge_weight` is the only measure.

    Raises:
        DataError: no names, no weights, or edges that do not occur in both directions with equal weights.
    """
    regions = getattr(data, "regions", None)
    if regions is None or len(regions) != data.num_nodes:
        raise DataError("the graph does not name its regions", expected=f"a list `regions` of {data.num_nodes}")
    attributes = data.edge_attr if data.edge_attr is not None else getattr(data, "edge_weight", None)
    if attributes is None:
        raise DataError("the graph has no edge weights", expected="edge_attr or edge_weight")
    values = attributes.detach().cpu().numpy()
    values = values[:, None] if values.ndim == 1 else values
    first, second = data.edge_index.detach().cpu().numpy()
    n_regions = len(regions)
    weights = np.zeros((values.shape[1], n_regions, n_regions), dtype=values.dtype)
    weights[:, first, second] = values.T
    measures = getattr(data, "measures", None) or [f"measure{m + 1}" for m in range(values.shape[1])]
    mask = getattr(data, "node_mask", None)
    return Connectome(
        weights,
        tuple(regions),
        tuple(measures),
        np.ones(n_regions, dtype=bool) if mask is None else mask.detach().cpu().numpy().astype(bool),
        subject=getattr(data, "subject", "") or None,
    )
