"""A connectome on disk: one table per measure with region names, a sidecar, and a table of its regions.

Names and keys follow BIDS's proposal for relation matrices (BEP017, a draft): `relmat`, `nodeindices`,
`Directed`, `Weighted`, `ValidDiagonal`, `NonNegative`, `RelationshipMeasure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.provenance import write_sidecar, write_table

UNITS = {"count": "streamlines", "length": "mm", "invnodevol": "streamlines per voxel"}


def write_relmat(
    path: str | Path,
    connectome: Connectome,
    measure: str,
    *,
    inputs: Mapping[str, str],
    settings: Any = None,
    seed: int | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Path:
    """Write one measure: a square table whose header names the regions, and its sidecar.

    Rows and columns of a masked region are `n/a`: not measured is not zero.

    Args:
        inputs: name to SHA-256.
        fields: further keys of the sidecar.

    Raises:
        OutputError: the folder cannot be written.
    """
    matrix = connectome.weights[connectome.measures.index(measure)].copy()
    matrix[~connectome.node_mask] = np.nan
    matrix[:, ~connectome.node_mask] = np.nan
    file = write_table(path, pd.DataFrame(_whole(matrix), columns=list(connectome.regions)))
    write_sidecar(
        file,
        inputs=inputs,
        settings=settings,
        seed=seed,
        units=UNITS.get(measure, "as in the image"),
        RelationshipMeasure=measure,
        Directed=False,
        Weighted=True,
        ValidDiagonal=bool(np.diagonal(connectome.weights, axis1=1, axis2=2).any()),
        NonNegative=bool((connectome.weights >= 0).all()),
        MissingRegions=[n for n, present in zip(connectome.regions, connectome.node_mask, strict=True) if not present],
        **dict(fields or {}),
    )
    return file


def write_regions(path: str | Path, connectome: Connectome, columns: Mapping[str, Any]) -> Path:
    """Write the table of the rows: position, name, whether the subject has the region, and further columns."""
    table = pd.DataFrame(
        {
            "index": range(1, connectome.n_regions + 1),
            "name": list(connectome.regions),
            "present": connectome.node_mask.astype(int),
            **columns,
        }
    )
    return write_table(path, table)


def _whole(matrix: np.ndarray) -> np.ndarray:
    """Counts are written without a decimal point where every value is whole."""
    if np.isfinite(matrix).all() and np.array_equal(matrix, np.rint(matrix)) and np.abs(matrix).max(initial=0) < 2**53:
        return matrix.astype(np.int64)
    return matrix
