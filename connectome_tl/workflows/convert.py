"""`connectome-tl convert`: any matrix file to one that names its rows and says what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from connectome_tl.atlas import load_atlas, order_of
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.connectome.export import write_connectome
from connectome_tl.connectome.formats import read_matrix
from connectome_tl.connectome.labels import read_labels
from connectome_tl.connectome.naming import MatrixFile, RowNames, connectome_from
from connectome_tl.connectome.row_order import check_row_order
from connectome_tl.errors import UsageError
from connectome_tl.provenance import file_hash

_MEASURE = re.compile(r"_meas-([A-Za-z0-9+]+)")


def convert_file(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "auto",
    labels: str | Path | None = None,
    atlas: str | None = None,
) -> tuple[Path, ...]:
    """Convert one matrix file.

    Args:
        out: its ending says what is written: .tsv (BIDS relmat style), .csv, .npy, .npz, .mat, .graphml.
        format: `auto`, a name of `formats.FORMATS`, or `NAME:CHOICE`.
        labels: table of the rows, for files that do not name them.
        atlas: lines the rows up with this atlas, and names them where the file does not.

    Returns:
        The files written; one per measure where the output holds one measure only.

    Raises:
        UsageError: no such format, atlas or ending. MissingInputError: no such file. DataError:
            damaged, unnamed rows without labels or atlas, or rows that do not fit.
    """
    file, target = Path(source), Path(out)
    if target.resolve() == file.resolve():
        raise UsageError("input and output are the same file", file=file)
    matrix = read_matrix(file, format=format)
    layout, notes = _layout(matrix)
    known = RowNames(
        atlas=None if atlas is None else load_atlas(atlas), table=None if labels is None else read_labels(labels)
    )
    if known.atlas is not None and known.table is not None:
        order_of(known.atlas.resolved(known.table.names), known.atlas.names, where=f"atlas {atlas}")
    entity = _MEASURE.search(target.name)
    single = entity.group(1) if entity else "weight"  # what the file does not say, the name asked for may
    measures = tuple(f"measure{i + 1}" for i in range(len(matrix.values))) if len(matrix.values) > 1 else (single,)
    connectome = connectome_from(matrix, known, measures=measures, layout=layout, file=file)
    if matrix.names is None and matrix.labels is None and matrix.order is None:
        check_row_order(connectome.weights[0][upper_indices(connectome.n_regions)], known, file)
    missing = [name for name, there in zip(connectome.regions, connectome.node_mask, strict=True) if not there]
    if missing:
        notes += (f"{len(missing)} regions are missing and masked: {', '.join(missing)}",)
    linked = (connectome.weights != 0).any(axis=(0, 1))
    lonely = [connectome.regions[i] for i in np.flatnonzero(connectome.node_mask & ~linked)]
    if lonely:
        notes += (f"{len(lonely)} regions without an edge, isolated or not measured: {', '.join(lonely)}",)
    inputs = {file.name: file_hash(file)}
    if labels is not None:
        inputs[Path(labels).name] = file_hash(labels)
    return write_connectome(
        connectome,
        target,
        atlas=atlas or "",
        inputs=inputs,
        settings={"format": format, "atlas": atlas, "labels": None if labels is None else Path(labels).name},
        notes=(*matrix.notes, *notes),
    )


def _layout(matrix: MatrixFile) -> tuple[Literal["full", "upper"], tuple[str, ...]]:
    """An upper triangle is mirrored knowingly: a list of edges, or a square with nothing below the diagonal."""
    if matrix.values.ndim == 2:
        return "upper", ("the upper triangle was mirrored",)
    lower, upper = np.tril(matrix.values, -1), np.triu(matrix.values, 1)
    if not np.nan_to_num(lower).any() and np.nan_to_num(upper).any():
        return "upper", ("the upper triangle was mirrored",)
    return "full", ()
