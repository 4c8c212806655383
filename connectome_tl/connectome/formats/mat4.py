"""Read MATLAB files of version 4 (DSI Studio), with all lengths checked before use.

The layout follows the chapter on level 4 of the MAT-File Format document of The MathWorks.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from connectome_tl.connectome.formats.mat5 import DamagedMat

_STORED = ("f8", "f4", "i4", "i2", "u2", "u1")
_HEADER = 20
_LONGEST_NAME = 256
_NUMBERS, _TEXT = 0, 1


def is_mat4(head: bytes) -> bool:
    """Whether the first 20 bytes are the header of a variable of version 4."""
    return len(head) >= _HEADER and _order(head) is not None


def _order(head: bytes) -> str | None:
    for order in "<>":
        kind, n_rows, n_columns, is_complex, length = struct.unpack_from(f"{order}5i", head)
        thousands, hundreds, tens, units = kind // 1000, kind // 100 % 10, kind // 10 % 10, kind % 10
        expected = 0 if order == "<" else 1
        fits = thousands == expected and hundreds == 0 and 0 <= tens < len(_STORED) and units in (0, 1, 2)
        if kind >= 0 and fits and min(n_rows, n_columns) >= 0 and is_complex in (0, 1) and 0 < length <= _LONGEST_NAME:
            return order
    return None


def parse_mat4(data: bytes) -> dict[str, Any]:
    """Variables by name: numbers as arrays (n_rows, n_columns), text as a str (several rows: a list).

    Raises:
        DamagedMat: truncated, or inconsistent lengths.
    """
    found: dict[str, Any] = {}
    at = 0
    while at < len(data):
        order = _order(data[at : at + _HEADER]) if len(data) - at >= _HEADER else None
        if order is None:
            raise DamagedMat("a variable is cut off")
        kind, n_rows, n_columns, is_complex, length = struct.unpack_from(f"{order}5i", data, at)
        stored = np.dtype(order + _STORED[kind // 10 % 10])
        start = at + _HEADER + length
        size = n_rows * n_columns
        end = start + size * stored.itemsize * (1 + is_complex)
        if end > len(data):
            raise DamagedMat("a variable is cut off")
        name = data[at + _HEADER : start].split(b"\x00")[0].decode("utf-8", "replace")
        values = np.frombuffer(data, dtype=stored, count=size, offset=start).reshape((n_rows, n_columns), order="F")
        found[name] = _value(values, kind % 10) if not is_complex else None
        at = end
    return found


def _is_text(values: np.ndarray) -> bool:
    """Whether a row of bytes is text in lines, as DSI Studio writes names of regions as numbers."""
    codes = values.ravel()
    letters = (codes >= 32) & (codes < 256)
    return len(values) == 1 < (codes == 10).sum() and bool((letters | np.isin(codes, (9, 10, 13))).all())


def _value(values: np.ndarray, kind: int) -> Any:
    if kind == _NUMBERS and values.dtype.kind == "u" and _is_text(values):
        return bytes(values.astype(np.uint8)).decode("utf-8", "replace")
    if kind == _NUMBERS:
        return values.astype(float)  # numbers of any class are stored in a type that holds them
    if kind != _TEXT:
        return None  # sparse matrices are triplets in version 4; no tool writes them for connectomes
    if values.size and not ((values >= 0) & (values < 256)).all():
        raise DamagedMat("text with codes that are no letters")
    rows = [bytes(row.astype(np.uint8)).decode("utf-8", "replace") for row in values]
    return rows[0] if len(rows) == 1 else rows
