"""Read matrices in MATLAB and HDF5 files: QSIRecon, Connectome Mapper, CONN, or one plain matrix."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.connectome.formats.arrays import measures_first
from connectome_tl.connectome.formats.mat4 import is_mat4, parse_mat4
from connectome_tl.connectome.formats.mat5 import DamagedMat, parse_mat
from connectome_tl.connectome.formats.mat73 import is_mat73, open_stack, parse_mat73
from connectome_tl.connectome.formats.name_lists import row_lists, texts_of, whole_of
from connectome_tl.connectome.formats.narrow import refuse_narrow
from connectome_tl.connectome.formats.stacks import StackedArray, in_memory
from connectome_tl.connectome.matrix_file import MatrixFile, RowList
from connectome_tl.connectome.names.labels import listed
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.files import read_bytes
from connectome_tl.plurals import counted

_MAX_BYTES = 4_000_000_000
_MOST_INSIDE = 100_000  # values in structures and cells
_SHOWN = 10
HDF5 = (".h5", ".hdf5", ".hdf")
_NAME_KEYS = ("regions", "names", "labels", "region_labels", "region_names", "label", "roi_names")


def read_mat(path: Path) -> dict[str, Any]:
    """All variables of a MATLAB file of version 4 to 7.3, or of an HDF5 file.

    Raises:
        MissingInputError: no such file. DataError: damaged, or of another version.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise MissingInputError("file not found", file=path) from error
    return _parsed(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)  # recognising and reading a file need the same content
def _parsed(path: Path, changed: int, size: int) -> dict[str, Any]:
    del changed
    if size > _MAX_BYTES:
        raise DataError("too large for such a file", file=path, expected=f"at most {_MAX_BYTES} bytes", got=str(size))
    try:
        if is_mat73_file(path):
            return parse_mat73(path)
        data = read_bytes(path)
        if path.suffix.lower() in HDF5:
            got = f"first bytes {data[:8]!r}" if data else "no bytes"
            remedy = "Save the matrix as a .csv file with the names of its regions."
            raise DataError("not an HDF5 file", file=path, got=got, remedy=remedy)
        return parse_mat4(data) if is_mat4(data[:20]) else parse_mat(data)
    except NotImplementedError as error:
        raise DataError(str(error), file=path, remedy="Save it again with -v7, or as CSV with names.") from error
    except DamagedMat as error:
        kind = "an HDF5 file" if path.suffix.lower() in HDF5 else "a MATLAB file"
        raise DataError(f"cannot be read as {kind}: {error}", file=path, remedy="It may be cut off.") from error
    except MemoryError as error:
        raise DataError(
            "is larger than memory according to its header", file=path, remedy="It is probably damaged."
        ) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error}", file=path) from error


def is_mat73_file(path: Path) -> bool:
    """Whether a file is a MATLAB file of version 7.3, by its first bytes.

    Raises:
        MissingInputError: it cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            return is_mat73(stream.read(520))
    except OSError as error:
        raise MissingInputError(f"cannot be opened: {error.strerror}", file=path) from error


def is_conn(path: Path) -> bool:
    """Whether the variables are those of the CONN toolbox (`Z`, `names`)."""
    return {"Z", "names"} <= variable_names(path)


def is_mapper(path: Path) -> bool:
    """Whether the variables are those of Connectome Mapper (`sc` or `fc`, and `nodes`)."""
    return {"sc", "nodes"} <= variable_names(path) or {"fc", "nodes"} <= variable_names(path)


def variable_names(path: Path) -> set[str]:
    """Return the names of the variables; unreadable files are reported by the importer."""
    try:
        return set(read_mat(path))
    except DataError:
        return set()


def read_mapper(path: Path) -> MatrixFile:
    """Connectome Mapper 3: structures `sc` (or `fc`) with one matrix per measure, and `nodes`.

    Raises:
        DataError: damaged, or without these structures.
    """
    variables = read_mat(path)
    edges = variables.get("sc", variables.get("fc"))
    nodes = variables.get("nodes")
    if not isinstance(edges, dict) or not isinstance(nodes, dict) or not edges:
        raise DataError("not a Connectome Mapper file", file=path, expected="structures sc (or fc) and nodes")
    key = next((key for key in ("dn_name", "dn_fsname", "name") if key in nodes), None)
    if key is None:
        raise DataError("the nodes have no names", file=path, expected="dn_name")
    values = np.stack([square_of(value, path, str(name)) for name, value in edges.items()])
    numbers = whole_or_none(nodes.get("dn_multiscaleID"))
    return MatrixFile(values, tuple(str(name) for name in edges), names=names_of(nodes[key], path), labels=numbers)


def read_conn(path: Path) -> MatrixFile:
    """One subject of CONN: `Z` (n, n2), Fisher-transformed correlations, and `names`.

    Columns beyond the n sources are left out; the diagonal, NaN in the file, becomes 0.

    Raises:
        DataError: damaged, or several subjects (these are read as a stack).
    """
    stack, names = conn_stack(path)
    if stack.shape[0] != 1:
        raise _many_subjects(path, counted(stack.shape[0], "subject"))
    return MatrixFile(next(stack.blocks()), ("fisher_z",), names=names, notes=("CONN values are Fisher's z already",))


def _many_subjects(path: Path, got: str) -> DataError:
    remedy = (
        "In cohort.yaml give it as stack, with a row table; or `connectome-tl init --matrices FILE`. If the last axis "
        "counts measures of one subject, save their names too: measures = {'count', 'fa'}."
    )
    return DataError("holds many subjects", file=path, got=got, remedy=remedy)


def conn_stack(path: Path) -> tuple[StackedArray, tuple[str, ...]]:
    """Z of CONN as (n_subjects, n, n), and names (n,); a 7.3 file is read in blocks of subjects."""
    large: StackedArray | None = None
    if is_mat73_file(path):
        try:
            large = open_stack(path, "Z")
            variables = parse_mat73(path, skip=("Z", "SE") if large is not None else ())
        except DamagedMat as error:
            raise DataError(f"cannot be read as a MATLAB file: {error}", file=path) from error
    else:
        variables = read_mat(path)
    if large is None:
        z = np.asarray(variables.get("Z"))
        if z.dtype.kind == "f" and z.ndim in (2, 3):
            large = in_memory(np.moveaxis(z if z.ndim == 3 else z[:, :, None], 2, 0))
    if large is None:
        raise DataError("not a CONN file", file=path, expected="Z (n, n2) or (n, n2, n_subjects), and names")
    names = names_of(variables.get("names"), path)
    n = len(names)
    if n != large.shape[1] or large.shape[2] < n:
        shape = f"{large.shape[1:]} for each of {large.shape[0]} subjects"
        raise DataError("Z and names differ in size", file=path, expected=counted(n, "row"), got=shape)
    second = variables.get("names2")
    if second is not None and names_of(second, path)[:n] != names:
        raise DataError("rows and columns of Z have different names", file=path)

    def source(n_rows: int) -> Iterator[np.ndarray]:
        diagonal = np.arange(n)
        for block in large.source(n_rows):
            square = np.array(block[:, :, :n], dtype=float)
            own = square[:, diagonal, diagonal]
            square[:, diagonal, diagonal] = np.where(np.isnan(own), 0.0, own)
            yield square

    return StackedArray((large.shape[0], n, n), np.dtype(float), source), names


def square_variables(path: Path) -> tuple[str, ...]:
    """Names of the square matrices of a plain MATLAB file."""
    return tuple(_squares(read_mat(path)))


def _squares(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """The square matrices by name; those inside structures (`data.SC`) and cells (`M{1}`) if there are no others."""
    found = {name: value for name, value in variables.items() if _is_square(value)}
    inner = (pair for name, value in variables.items() for pair in _inside(name, value))
    return found or {name: value for name, value in itertools.islice(inner, _MOST_INSIDE) if _is_square(value)}


def _is_square(value: Any) -> bool:
    numeric = isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.ndim in (2, 3)
    return numeric and value.shape[-1] == value.shape[-2] > 1


def _cell_members(name: str, value: Any) -> list[tuple[str, Any]]:
    """The members of a cell array that holds a matrix, among which may be the names of its rows."""
    holds = isinstance(value, list) and any(map(_is_square, value))
    return [(f"{name}{{{i}}}", member) for i, member in enumerate(value, 1)] if holds else []


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Values inside structures and cells, named as in MATLAB; a single cell has the name of its variable."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _inside(f"{name}.{key}", member)
    elif isinstance(value, list):
        marks = "()" if value and isinstance(value[0], dict) else "{}"
        for i, member in enumerate(value, 1):
            yield from _inside(name if len(value) == 1 else f"{name}{marks[0]}{i}{marks[1]}", member)
    else:
        yield name, value


def read_plain_mat(path: Path, choice: str = "") -> MatrixFile:
    """Read a MATLAB or HDF5 file with one square matrix, also in a structure, cell or group; a text variable of
    matching length names its rows.

    Args:
        choice: names of the matrices, separated by commas; several are measures of these names.

    Raises:
        DataError: no such matrix, or several and none chosen.
    """
    variables = read_mat(path)
    said = texts_of(_cells(variables.get("measures"))) or ()
    variables = {k: measures_first(v, said) if isinstance(v, np.ndarray) else v for k, v in variables.items()}
    many = [key for key, one in variables.items() if isinstance(one, np.ndarray) and one.ndim == 3]
    if not _squares(variables) and many:
        raise _many_subjects(path, f"{many[0]} {variables[many[0]].shape}")
    keys, parts = _chosen(_squares(variables), choice, path)
    values = parts[0] if parts[0].ndim == 3 else np.stack(parts)
    named = keys if len(parts) > 1 else said if len(said) == len(values) else ()
    members = {name: member for key in variables for name, member in _cell_members(key, variables[key])}
    lists = row_lists(variables | members, (values.shape[-1],), (*keys, "measures"))
    names = _row_names(variables, lists)
    return MatrixFile(values, named, lists=lists) if names is None else MatrixFile(values, named, names=names)


def _chosen(square: dict[str, np.ndarray], choice: str, path: Path) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """The chosen matrices, or the only one, with their names."""
    absent = [key for key in choice.split(",") if choice and key not in square]
    if absent:
        raise DataError(
            f"no square matrix is called {absent[0]!r}", file=path, expected=listed(list(square), _SHOWN) or "one"
        )
    if not choice and len(square) != 1:
        raise DataError(
            "not exactly one square matrix in the file",
            file=path,
            got=listed(list(square), _SHOWN) or "none",
            remedy=_choose_one(path, square) if square else "Complex matrices are not read.",
        )
    keys = tuple(choice.split(",") if choice else square)
    for key in keys:
        refuse_narrow(square[key], path)
    parts = [square[key].astype(float) for key in keys]
    if len(parts) > 1 and any(part.ndim != 2 or part.shape != parts[0].shape for part in parts):
        raise DataError("the matrices differ in shape", file=path, got=", ".join(str(part.shape) for part in parts))
    return keys, parts


def _choose_one(path: Path, square: dict[str, np.ndarray]) -> str:
    kind = "hdf5" if path.suffix.lower() in HDF5 else "mat"
    many = " If each is one subject's: save them as one array (n_subjects, n, n), which `stack` reads."
    return f"Choose it: format: {kind}:{next(iter(square))}.{many if kind == 'hdf5' else ''}"


def plain_names(variables: dict[str, Any], n_regions: int) -> tuple[str, ...] | None:
    """Names of the rows of matrices of this size in the other variables of their file."""
    return _row_names(variables, row_lists(variables, (n_regions,)))


def _row_names(variables: dict[str, Any], lists: Sequence[RowList]) -> tuple[str, ...] | None:
    """Names of the rows from a variable with one of the usual names; None without one."""
    clear = [one for name in _NAME_KEYS for one in lists if one.where.lower() == name and one.names is not None]
    if clear:
        return clear[0].names
    for name in variables:  # a list of names of another length is kept too: it shows a truncated or wrong list
        own = any(one.where.startswith(f"{name}.") for one in lists)  # a table
        names = texts_of(_cells(variables[name])) if name.lower() in _NAME_KEYS and not own else None
        if names is not None:
            return names
    return None


def _cells(value: Any) -> Any:
    """Wrap a single text without separators as a list of one name."""
    return [value] if isinstance(value, str) and texts_of(value) is None else value


def names_of(value: Any, path: Path) -> tuple[str, ...]:
    """Names in a cell array of text or in rows of letters."""
    names = texts_of(_cells(value))
    if not names:
        raise DataError("the region names are not text", file=path)
    return names


def whole_or_none(value: Any) -> tuple[int, ...] | None:
    """Integers of an array or of a cell array of scalars; None for anything else."""
    return None if value is None else whole_of(value)


def square_of(value: Any, path: Path, key: str) -> np.ndarray:
    """A variable as a square matrix of float64.

    Raises:
        DataError: it is not a square numeric matrix; the message contains `key`.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise DataError(f"{key} is not a square matrix", file=path, got=f"{array.dtype} {array.shape}")
    return array.astype(float)
