"""Table of all matrix formats and their importers.

An importer returns the values of a file and, where available, the names or label numbers of its rows. Naming,
alignment and checks are the same for all formats (`naming.connectome_from`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from connectome_tl.connectome.formats.arrays import matrix_arrays, read_npy, read_npz
from connectome_tl.connectome.formats.beside import lists_beside
from connectome_tl.connectome.formats.edges import is_edge_list, read_edges
from connectome_tl.connectome.formats.graphs import read_graphml
from connectome_tl.connectome.formats.matlab import (
    HDF5,
    is_conn,
    is_mapper,
    read_conn,
    read_mapper,
    read_plain_mat,
    square_variables,
)
from connectome_tl.connectome.formats.qsirecon import atlases_in, is_qsirecon, read_qsirecon
from connectome_tl.connectome.formats.series import read_series
from connectome_tl.connectome.formats.sidecars import (
    has_label_list,
    is_qsiparc,
    read_from_zero,
    read_mrtrix,
    read_qsiparc,
    read_relmat,
    read_scilpy,
)
from connectome_tl.connectome.formats.text import read_text_matrix
from connectome_tl.connectome.names.naming import MatrixFile
from connectome_tl.errors import DataError, UsageError
from connectome_tl.files import imported_by, regular_file


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        suffixes: endings of its file names.
        read: the importer; takes the path, and the choice where `chooses` is set.
        recognises: inspects the content; None where the ending identifies the format.
        automatic: False where only the user can know (a bare matrix whose row 0 is the background).
        chooses: meaning of CHOICE in `format: NAME:CHOICE`, if any.
        choices: lists the choices that a file offers.
        plain: True where the ending does not show whether the file is a matrix.
        names_rows: whether the file itself names its rows.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    read: Callable[..., MatrixFile]
    recognises: Callable[[Path], bool] | None = None
    automatic: bool = True
    chooses: str = ""
    choices: Callable[[Path], tuple[str, ...]] | None = None
    names_rows: bool = False
    plain: bool = False


_TEXT = (".csv", ".tsv", ".txt", ".dat")
_MAT = (".mat",)
_SERIES = (".1d", ".tsv", ".csv", ".txt", ".npy")
_BIDS = ("_relmat.tsv", "_conmat.tsv")
_RECON = "QSIRecon connectivity.mat"
_MAPPER_EDGES = "_connectivity.tsv"  # of Connectome Mapper 3
_WHICH_FORMAT = "If you know the format, set format: text (--format text) or another one."
_OTHER_FILES = (
    ((".xlsx", ".xls", ".ods"), "Save the sheet as a .csv file."),
    ((".csv.gz", ".tsv.gz", ".txt.gz", ".npy.gz", ".mat.gz", ".zip"), "Unpack it."),
    ((".gexf", ".gml", ".net"), "Save the graph as .graphml."),
    ((".edgelist", ".edges"), "Set format: edges for lines of two nodes and a weight; name the columns in a header."),
    ((".rds", ".rdata", ".rda", ".parquet", ".feather", ".sav", ".dta"), "Save the matrix as a .csv file with names."),
    ((".mtx", ".json"), "Save the matrix, or a list of edges, as a .csv file with the names of its regions."),
    (
        (".nii", ".gii", ".nii.gz", ".mgz"),
        "Volumes are not matrices: name them in `volumes` of cohort.yaml (init --images FOLDER). If it holds a matrix, "
        "save that as a .csv file with the names of its regions.",
    ),
)
FORMATS: list[Format] = [
    Format("relmat", "BIDS relmat table (also giga_connectome, XCP-D)", _BIDS, read_relmat, names_rows=True),
    Format("qsiparc", "qsiparc CSV with JSON", ("_connmatrix.csv",), read_qsiparc, is_qsiparc, names_rows=True),
    Format(
        "qsirecon", _RECON, (".mat",), read_qsirecon, is_qsirecon, chooses="atlas", choices=atlases_in, names_rows=True
    ),
    Format("cmp3", "Connectome Mapper 3 MAT", _MAT, read_mapper, is_mapper, names_rows=True),
    Format("conn", "CONN resultsROI MAT, one subject", _MAT, read_conn, is_conn, names_rows=True),
    Format(
        "mat", "MATLAB file with one matrix", (".mat",), read_plain_mat, chooses="variable", choices=square_variables
    ),
    Format("hdf5", "HDF5 file with one matrix", HDF5, read_plain_mat, chooses="variable", choices=square_variables),
    Format("graphml", "GraphML (Connectome Mapper 3, networkx)", (".graphml",), read_graphml, names_rows=True),
    Format(
        "npz", "NumPy archive with weights and regions", (".npz",), read_npz, chooses="array", choices=matrix_arrays
    ),
    Format("mrtrix", "tck2connectome CSV, row k is label k", _TEXT, read_mrtrix, automatic=False),
    Format("dipy", "rows by label from 0 (dipy, -keep_unassigned)", (*_TEXT, ".npy"), read_from_zero, automatic=False),
    Format("series", "region time series, one column each", _SERIES, read_series, automatic=False, chooses="kind"),
    Format(
        "edges", "list of edges (Connectome Mapper 3)", _TEXT, read_edges, is_edge_list, names_rows=True, plain=True
    ),
    Format("scilpy", "NPY with labels in its folder", (".npy",), read_scilpy, has_label_list, names_rows=True),
    Format("npy", "NumPy array", (".npy",), read_npy, plain=True),
    Format("text", "CSV, TSV or blanks, with or without names", (*_TEXT, ".edge"), read_text_matrix, plain=True),
]


def register_format(added: Format) -> None:
    """Add the importer of an extension before the others; it replaces one of the same name."""
    FORMATS[:] = [added, *(known for known in FORMATS if known.name != added.name)]


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: unknown format; the message suggests the most similar name.
    """
    for known in FORMATS:
        if known.name == name:
            return known
    names = [known.name for known in FORMATS]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    raise UsageError(
        f"no matrix format is called {name!r}",
        expected=f"auto or one of {', '.join(names)}",
        remedy=f"Did you mean {near[0]}?" if near else None,
    )


def recognised(path: Path) -> Format:
    """The format of a file, by its ending and, where several formats share it, by content.

    Raises:
        DataError: no known format.
    """
    name = path.name.lower()
    if name.endswith((".gpickle", ".pkl", ".pickle", ".pt", ".joblib")):
        raise DataError("pickle files can run code when they are loaded and are not read", file=path)
    for known in FORMATS:
        fits = known.automatic and name.endswith(known.suffixes)
        if fits and (known.recognises is None or known.recognises(path)):
            return known
    endings = sorted({suffix for known in FORMATS for suffix in known.suffixes})
    remedy = next((said for suffixes, said in _OTHER_FILES if name.endswith(suffixes)), _WHICH_FORMAT)
    raise DataError("no matrix format has this extension", file=path, expected=", ".join(endings), remedy=remedy)


def is_matrix_name(path: Path) -> bool:
    """Return whether the name alone identifies a matrix file; a plain CSV or NPY may be anything."""
    name = path.name.lower()
    if name.endswith(".npy"):
        return has_label_list(path)
    if name.endswith(_MAPPER_EDGES):
        return is_edge_list(path)
    return any(known.automatic and not known.plain and name.endswith(known.suffixes) for known in FORMATS)


def formats_of(path: Path) -> tuple[str, ...]:
    """The values of `format` among which a file leaves the choice: one per atlas, variable or array; empty for none."""
    known = recognised(path)
    choices = () if known.choices is None else known.choices(path)
    return tuple(f"{known.name}:{choice}" for choice in choices) if len(choices) > 1 else ()


def read_matrix(path: str | Path, *, format: str = "auto") -> MatrixFile:
    """Read one matrix file.

    Args:
        format: `auto`, the name of a format, or `NAME:CHOICE` (`qsirecon:4S156Parcels`, `mat:SC`).

    Raises:
        MissingInputError: no such file. DataError: damaged, or not of that format.
        UsageError: no such format, or a choice for a format without choices.
    """
    file = Path(path)
    name, _, choice = format.partition(":")
    asked = None if name == "auto" else format_named(name)
    regular_file(file)
    known = asked or recognised(file)
    imported_by(known.name)
    if choice and not known.chooses:
        raise UsageError(f"format {known.name} has nothing to choose", got=format)
    matrix = known.read(file, choice) if choice else known.read(file)
    if matrix.is_named:
        return matrix
    return replace(matrix, lists=(*matrix.lists, *lists_beside(file, matrix.row_counts)))
