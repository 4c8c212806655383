"""Find lists in an archive that may name the rows of its matrix."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from connectome_tl.connectome.matrix_file import RowList

_TELLING = re.compile(r"name|label|region|roi|node|parcel|area|index|id(s|x|$|_)|number", re.IGNORECASE)
_DEEPEST = 4
_MOST_COLUMNS = 12


def row_lists(variables: Mapping[str, Any], counts: tuple[int, ...], skip: tuple[str, ...] = ()) -> tuple[RowList, ...]:
    """Find lists of texts, and lists of distinct integers with as many values as the matrix may have rows.

    Structures are searched too. Lists in which most values repeat (hemispheres, lobes) are left out. Lists of names of
    another length are kept, since they show that a name is missing. Each column of a table is a list, except one that
    only counts the rows.

    Args:
        counts: numbers of rows that the matrix may have.
        skip: variables known to hold something else.
    """
    found = []
    for where, value in _lists(variables, "", 0):
        if where in skip:
            continue
        columns = _columns(value, counts)
        if columns is None:
            found += _list_of(where, value, counts)
            continue
        lists = [one for name, column in columns.items() for one in _list_of(f"{where}.{name}", column, counts)]
        found += [one for one in lists if one.numbers is None or not _counts(one.numbers)] or lists
    return tuple(found)


def _counts(numbers: tuple[int, ...]) -> bool:
    """Whether numbers only count the rows."""
    return numbers in (tuple(range(len(numbers))), tuple(range(1, len(numbers) + 1)))


def _list_of(where: str, value: Any, counts: tuple[int, ...]) -> list[RowList]:
    tells = bool(_TELLING.search(where))
    names = texts_of(value)
    if names is not None:
        return [RowList(where, names=names, tells=tells)] if len(names) > 1 and 2 * len(set(names)) > len(names) else []
    whole = whole_of(value)
    if whole is not None and len(whole) in counts and len(set(whole)) == len(whole) and min(whole) >= 0:
        return [RowList(where, numbers=whole, tells=tells)]
    return []


def _columns(value: Any, counts: tuple[int, ...]) -> dict[str, Any] | None:
    """Columns of a table with a row per region: a structured or 2-D array, rows, or cells in column order."""
    if isinstance(value, np.ndarray) and value.dtype.names:
        return {name: value[name] for name in value.dtype.names}
    if isinstance(value, np.ndarray) and value.ndim == 2:
        table = value if value.shape[0] in counts else value.T
        fits = table.shape[0] in counts and 1 < table.shape[1] <= _MOST_COLUMNS
        return {str(k): column for k, column in enumerate(table.T, 1)} if fits else None
    if not isinstance(value, list) or len(value) < 2:
        return None
    widths = {len(row) if isinstance(row, list) else 1 for row in value}
    if len(value) in counts and len(widths) == 1 and 1 < min(widths) <= _MOST_COLUMNS:
        return {str(k): list(column) for k, column in enumerate(zip(*value, strict=True), 1)}
    n = next((n for n in counts if len(value) % n == 0 and 1 < len(value) // n <= _MOST_COLUMNS), 0)
    texts = texts_of(value)
    if not n or (texts is not None and len(set(texts)) == len(texts)):
        return None  # names of that many regions
    return {str(k + 1): value[k * n : (k + 1) * n] for k in range(len(value) // n)}


def _lists(variables: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in variables.items():
        where = f"{prefix}{key}"
        value = _parsed(value)
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _lists(value, f"{where}.", depth + 1)
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            fields = [name for name in value[0] if all(name in one for one in value)]
            yield from _lists({name: [one[name] for one in value] for name in fields}, f"{where}.", depth + 1)
        else:
            yield where, value


def _parsed(value: Any) -> Any:
    """Decode text that holds JSON, as Python tools write metadata into archives."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "US" and value.ndim == 0:
        value = safe_texts(value.reshape(1))[0]
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def texts_of(value: Any) -> tuple[str, ...] | None:
    """Texts of a cell array (one text each), rows of letters, lines of one text, or an array of text; else None."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "US":
        if value.size != max(value.shape, default=0):
            return None
        return safe_texts(value.ravel())
    if isinstance(value, str):
        whole = value.strip("\x00\r\n ")
        parts = whole.splitlines()
        for mark in ("\t", ";", ",", "|"):
            parts = whole.split(mark) if len(parts) < 2 else parts
        return tuple(part.strip() for part in parts) if len(parts) > 1 else None
    if isinstance(value, list):
        cells = [_alone(cell) for cell in value]
        return tuple(cell.strip() for cell in cells if isinstance(cell, str)) if _all_text(cells) else None
    return None


def _all_text(cells: list[Any]) -> bool:
    return bool(cells) and all(isinstance(cell, str) for cell in cells)


def _alone(cell: Any) -> Any:
    while isinstance(cell, list) and len(cell) == 1:
        cell = cell[0]
    return cell


def safe_texts(array: np.ndarray) -> tuple[str, ...]:
    """Convert an array of text; invalid code points become lone surrogates, which are refused later."""
    if array.dtype.kind == "S":
        return tuple(bytes(one).decode("utf-8", "surrogateescape").strip() for one in array.tolist())
    codes = np.ascontiguousarray(array).view(np.uint32).copy() if array.size else np.zeros(0, dtype=np.uint32)
    width = array.dtype.itemsize // 4
    if not width:
        return ("",) * array.size
    if array.dtype.byteorder == ">":
        codes = codes.byteswap()
    codes[codes > 0x10FFFF] = 0xD800
    rows = codes.reshape(array.size, width)
    return tuple("".join(map(chr, row)).rstrip("\x00").strip() for row in rows.tolist())


def whole_of(value: Any) -> tuple[int, ...] | None:
    """Integers of a vector or of a list of scalars; None for anything else."""
    cells = [np.asarray(_alone(one)).ravel() for one in value] if isinstance(value, list) else None
    if cells is not None and any(cell.dtype.kind not in "iuf" or cell.size != 1 for cell in cells):
        return None
    array = np.asarray(value) if cells is None else np.concatenate(cells) if cells else np.zeros(0)
    if array.dtype.kind not in "iuf" or not array.size or array.size != max(array.shape, default=0):
        return None
    flat = array.ravel()
    if not np.isfinite(flat).all() or not np.array_equal(flat, np.round(flat)) or np.abs(flat).max() > 1e9:
        return None
    return tuple(int(number) for number in flat)
