"""Read matrices described by a sidecar or their file name: BIDS relmat, XCP-D, qsiparc, dipy."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from connectome_tl.connectome.formats.arrays import load_array, matrix_of
from connectome_tl.connectome.formats.text import read_text_matrix
from connectome_tl.connectome.matrix_file import MatrixFile, RowOrder
from connectome_tl.connectome.names.labels import listed, read_labels
from connectome_tl.errors import DataError
from connectome_tl.files import is_there, matching, read_json_object
from connectome_tl.provenance import sidecar_path

_MEASURE = re.compile(r"_(?:meas|stat|measure)-([A-Za-z0-9+]+)")
_GIGA = re.compile(r"_meas-PearsonCorrelation_desc-denoise[^_]*_relmat\.tsv$")
_MAX_BYTES = 50_000_000


def read_relmat(path: Path) -> MatrixFile:
    """Read a BIDS-style `*_relmat.tsv` (draft BEP017; also of giga_connectome and XCP-D).

    The header, and optionally the first column, holds region names; `n/a` marks missing regions.

    The measure is taken from the sidecar or from the `meas-` or `stat-` entity. giga_connectome numbers its columns
    from 0; its rows are in label order, as from nilearn's masker.

    Raises:
        DataError: damaged, directed, or with rows and columns of different names.
    """
    matrix = read_text_matrix(path)
    sidecar = sidecar_path(path)
    said = read_json_object(sidecar, limit=_MAX_BYTES) if is_there(sidecar) else {}
    if said.get("Directed") is True:
        raise DataError("a directed matrix; only undirected connectomes are supported", file=path)
    entity = _MEASURE.search(path.name)
    measure = entity.group(1) if entity else str(said.get("RelationshipMeasure", "")) or ""
    order: RowOrder | None = "label" if _GIGA.search(path.name) else matrix.order
    return replace(matrix, measures=(measure,) if measure else (), nan_is_missing=True, order=order)


def is_qsiparc(path: Path) -> bool:
    """Whether a file has the name of a qsiparc matrix and a JSON file with `region_labels`."""
    if not path.name.endswith("_connmatrix.csv") or not is_there(sidecar_path(path)):
        return False
    return "region_labels" in read_json_object(sidecar_path(path), limit=_MAX_BYTES)


def read_qsiparc(path: Path) -> MatrixFile:
    """Read a `*_connmatrix.csv` of qsiparc, with region names in the JSON of the same folder.

    Raises:
        DataError: no such JSON, or inconsistent sizes.
    """
    said = read_json_object(sidecar_path(path), limit=_MAX_BYTES)
    names = said.get("region_labels")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("no list region_labels", file=sidecar_path(path))
    matrix = read_text_matrix(path)
    if said.get("n_regions") not in (None, len(names)):
        raise DataError(
            "n_regions and region_labels differ",
            file=sidecar_path(path),
            expected=str(said["n_regions"]),
            got=str(len(names)),
        )
    if matrix.names is not None and matrix.names != tuple(names):
        raise DataError("the names in the file and in its JSON file differ", file=path)
    measure = said.get("measure")
    return replace(matrix, names=tuple(names), labels=None, measures=(measure,) if isinstance(measure, str) else ())


def read_mrtrix(path: Path) -> MatrixFile:
    """Read a `tck2connectome` matrix without names: row k is label k, upper triangle or symmetric.

    Raises:
        DataError: damaged, or not square.
    """
    matrix = read_text_matrix(path)
    _bare(matrix, path)
    if matrix.labels not in (None, tuple(range(1, matrix.row_counts[0] + 1))):
        return replace(matrix, triangle=True)
    return replace(matrix, order="label", triangle=True, labels=None)


def read_from_zero(path: Path) -> MatrixFile:
    """Read a matrix whose row k is label k from 0, the background, which is left out.

    Written by dipy's `connectivity_matrix` and `tck2connectome -keep_unassigned`.

    Raises:
        DataError: damaged, or not square.
    """
    matrix = matrix_of(load_array(path), path) if path.suffix == ".npy" else read_text_matrix(path)
    _bare(matrix, path)
    if matrix.labels not in (None, tuple(range(matrix.row_counts[0]))):
        raise DataError(
            "the rows are numbered, and not by label from 0",
            file=path,
            got=listed(matrix.labels),
            remedy="Set format: auto, which uses the numbers.",
        )
    used = (matrix.values != 0).any(axis=(0, 2))
    used[0] = False
    labels = np.arange(matrix.row_counts[0])
    # Rows of zeros are gaps of the numbering or empty regions. Both are left out here; empty regions
    # become masked nodes when the rows are aligned with the atlas.
    values = matrix.values[:, used][:, :, used]
    if not used.any():
        raise DataError("no connection at all", file=path)
    return MatrixFile(values, matrix.measures, labels=tuple(int(label) for label in labels[used]))


def _bare(matrix: MatrixFile, path: Path) -> None:
    """Refuse a list of values, and rows with names, which would be ignored.

    Raises:
        DataError: the file holds a list of values or has named rows.
    """
    if matrix.values.ndim != 3:
        raise DataError("not a matrix", file=path)
    if matrix.names is not None:
        raise DataError(
            "the rows have names, and this format goes by row number",
            file=path,
            got=listed(matrix.names, 3),
            remedy="Set format: auto, which uses the names.",
        )


def has_label_list(path: Path) -> bool:
    """Whether a list of labels, `NAME_labels.txt`, is beside the file `NAME.npy`."""
    return is_there(path.with_name(f"{path.stem}_labels.txt"))


def read_scilpy(path: Path) -> MatrixFile:
    """Read a `.npy` of scilpy or nf-pediatric, with a list of labels (one per line) in the same folder.

    The list is `<stem>_labels.txt` or the only `*labels*.txt` in the folder.

    Raises:
        DataError: no list, several lists, or a list of another length.
    """
    own = path.with_name(f"{path.stem}_labels.txt")
    lists = [own] if is_there(own) else matching(path.parent, "*labels*.txt")
    if len(lists) != 1:
        raise DataError(
            "no list of labels in its folder" if not lists else "several lists of labels in its folder",
            file=path,
            expected=own.name,
        )
    table = read_labels(lists[0])
    matrix = matrix_of(load_array(path), path)
    if table.numbers is not None:
        return replace(matrix, labels=table.numbers)
    return replace(matrix, names=table.names)
