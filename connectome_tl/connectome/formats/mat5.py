"""Read MATLAB files of versions 5 to 7, with all lengths checked before use.

scipy's reader does not check the lengths stated in a file, so that a damaged file can crash the process. This
reader raises an error that names the damaged file. It reads numbers, sparse matrices, text, cells and structures;
any other type is None. The layout follows the MAT-File Format document of The MathWorks.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np

from connectome_tl.plurals import counted

_HEADER = 128
_STORED = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _SPARSE = 1, 2, 4, 5
# By class; a file may store the numbers of a class in a shorter type that holds them.
_NUMERIC = dict(zip(range(6, 16), ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), strict=True))
_MOST_BYTES = 4_000_000_000
_MOST_TOGETHER = 250_000_000  # bytes of all variables when expanded, or
_RATIO = 20  # times the size of the file: real matrices do not compress better
_MOST_DENSE = 100_000_000  # entries of a dense matrix made from a sparse one
_DEEPEST = 20


class DamagedMat(ValueError):
    """The lengths in the file contradict its content."""


def parse_mat(data: bytes) -> dict[str, Any]:
    """Variables by name.

    Numbers and sparse matrices become arrays of at least two dimensions, text a str (several rows: a list), cells a
    list in column order, and a structure a dict (several: a list of dicts).

    Raises:
        DamagedMat: truncated, or inconsistent lengths. NotImplementedError: another version.
    """
    if len(data) < _HEADER:
        raise DamagedMat("shorter than its header")
    if data[_HEADER - 2 : _HEADER] != b"IM":
        raise NotImplementedError("not a little-endian MATLAB file of version 5 to 7")
    found: dict[str, Any] = {}
    left = max(_MOST_TOGETHER, _RATIO * len(data))
    view, at = memoryview(data), _HEADER
    while at < len(view):
        kind, body, at = _element(view, at, padded=False)
        if kind == _COMPRESSED:
            inflated = zlib.decompressobj()
            try:
                block = memoryview(inflated.decompress(body, min(left, _MOST_BYTES)))
            except zlib.error as error:
                raise DamagedMat(str(error)) from error
            left -= len(block)
            if not inflated.eof and left <= 0:
                raise DamagedMat("the variables together are far larger than the file")
            if not inflated.eof:
                raise DamagedMat("a compressed variable is cut off")
            kind, body, _ = _element(block, 0, padded=False)
        if kind != _MATRIX:
            raise DamagedMat(f"element of type {kind} where a variable belongs")
        name, value = _matrix(body, 0)
        found[name] = value
    return found


def _element(view: memoryview, at: int, *, padded: bool = True) -> tuple[int, memoryview, int]:
    """Type, body and end of the data element that begins here."""
    if at + 8 > len(view):
        raise DamagedMat("an element is cut off")
    kind, size = struct.unpack_from("<II", view, at)
    if kind >> 16:  # small element: four bytes of data inside the tag
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise DamagedMat("a small element is too large")
        return kind, view[at + 4 : at + 4 + size], at + 8
    end = at + 8 + size
    if end > len(view):
        raise DamagedMat("an element is cut off")
    following = end + (-size % 8 if padded or kind != _COMPRESSED else 0)
    return kind, view[at + 8 : end], min(following, len(view))


def _numbers(view: memoryview, at: int) -> tuple[np.ndarray, int]:
    kind, body, at = _element(view, at)
    if kind not in _STORED:
        raise DamagedMat(f"numbers of unknown type {kind}")
    stored = np.dtype(_STORED[kind])
    if len(body) % stored.itemsize:
        raise DamagedMat("a broken number of values")
    return np.frombuffer(body, dtype=stored), at


def _matrix(view: memoryview, depth: int) -> tuple[str, Any]:
    """Name and value of one array, which may be nested."""
    if len(view) == 0:
        return "", np.zeros((0, 0))
    if depth > _DEEPEST:
        raise DamagedMat("nested too deeply")
    flags, at = _numbers(view, 0)
    if flags.size != 2:
        raise DamagedMat("an array without flags")
    dimensions, at = _numbers(view, at)
    shape = tuple(int(n) for n in dimensions)
    if not 2 <= len(shape) <= 8 or min(shape) < 0 or math.prod(shape) > _MOST_BYTES:
        raise DamagedMat(f"an array of shape {shape}")
    _, name_bytes, at = _element(view, at)
    name = bytes(name_bytes).decode("utf-8", "replace")
    kind, size = int(flags[0]) & 0xFF, math.prod(shape)
    if kind in _NUMERIC:
        values, _ = _numbers(view, at)
        if values.size != size:
            raise DamagedMat(f"{counted(values.size, 'value')} for shape {shape}")
        if int(flags[0]) & 0x0800:
            return name, None  # complex matrices are not supported
        return name, values.astype(_NUMERIC[kind], copy=False).reshape(shape, order="F")
    if kind == _CHAR:
        return name, _text(view, at, shape) if size else ""
    if kind == _SPARSE:
        return name, _sparse(view, at, shape, bool(int(flags[0]) & 0x0800))
    if kind == _CELL:
        return name, [value for value, at in _cells(view, at, size, depth)]
    if kind == _STRUCT:
        return name, _structure(view, at, size, depth)
    return name, None


def _text(view: memoryview, at: int, shape: tuple[int, ...]) -> str | list[str]:
    kind, body, _ = _element(view, at)
    if kind not in _TEXT or len(shape) != 2:
        raise DamagedMat(f"text of unknown type {kind}")
    try:
        letters = bytes(body).decode(_TEXT[kind])
    except UnicodeDecodeError as error:
        raise DamagedMat(str(error)) from error
    if shape[0] == 1:
        return letters
    if len(letters) != shape[0] * shape[1]:
        raise DamagedMat(f"{len(letters)} letters for shape {shape}")
    return [letters[row :: shape[0]] for row in range(shape[0])]


def _sparse(view: memoryview, at: int, shape: tuple[int, ...], is_complex: bool) -> np.ndarray | None:
    rows, at = _numbers(view, at)
    starts, at = _numbers(view, at)
    values, _ = _numbers(view, at)
    if len(shape) != 2 or len(starts) != shape[1] + 1:
        raise DamagedMat(f"a sparse matrix of shape {shape} with {counted(len(starts) - 1, 'column')}")
    return None if is_complex else dense(shape[0], values, rows, starts)


def dense(n_rows: int, values: np.ndarray, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Dense form of a sparse matrix: column j holds `values[a:b]` at `rows[a:b]`, a = starts[j], b = starts[j + 1].

    Raises:
        DamagedMat: indices of columns or rows outside the matrix.
    """
    n_columns = len(starts) - 1
    if n_columns < 0 or n_rows < 0 or n_rows * n_columns > _MOST_DENSE:
        raise DamagedMat(f"a sparse matrix of {n_rows} rows and {counted(n_columns, 'column')}")
    starts, rows = starts.astype(np.int64), rows.astype(np.int64)
    n_values = int(starts[-1])
    if starts[0] != 0 or (np.diff(starts) < 0).any() or n_values > min(len(rows), len(values)):
        raise DamagedMat("columns of a sparse matrix that do not fit together")
    rows = rows[:n_values]
    if ((rows < 0) | (rows >= n_rows)).any():
        raise DamagedMat("a row beyond a sparse matrix")
    out = np.zeros((n_rows, n_columns))
    out[rows, np.repeat(np.arange(n_columns), np.diff(starts))] = values[:n_values]
    return out


def _cells(view: memoryview, at: int, count: int, depth: int) -> list[tuple[Any, int]]:
    """`count` consecutive arrays, each with the offset of the next."""
    if count > len(view) - at:  # an array takes at least a tag
        raise DamagedMat(f"{counted(count, 'cell')} in {len(view) - at} bytes")
    found = []
    for _ in range(count):
        kind, body, at = _element(view, at)
        if kind != _MATRIX:
            raise DamagedMat(f"element of type {kind} in a cell")
        found.append((_matrix(body, depth + 1)[1], at))
    return found


def _structure(view: memoryview, at: int, count: int, depth: int) -> Any:
    length, at = _numbers(view, at)
    if length.size != 1 or length[0] <= 0:
        raise DamagedMat("a structure without field names")
    _, packed, at = _element(view, at)
    width = int(length[0])
    if len(packed) % width:
        raise DamagedMat("field names of a broken length")
    names = [
        bytes(packed[i : i + width]).split(b"\x00")[0].decode("utf-8", "replace") for i in range(0, len(packed), width)
    ]
    members = []
    for _ in range(count if names else 0):
        cells = _cells(view, at, len(names), depth)
        at = cells[-1][1]
        members.append({name: value for name, (value, _) in zip(names, cells, strict=True)})
    return members[0] if len(members) == 1 else members
