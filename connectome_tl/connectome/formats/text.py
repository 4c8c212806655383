"""Matrices as text: CSV, TSV, semicolons or blanks; with or without names; decimal commas."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.connectome.naming import MatrixFile, RowOrder
from connectome_tl.errors import DataError
from connectome_tl.files import read_text

_DECIMAL_COMMA = re.compile(r"^[+-]?\d+,\d+([eE][+-]?\d+)?$")
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_MISSING = frozenset({"n/a", "na", "nan", ""})
_MAX_BYTES = 500_000_000


def read_text_matrix(path: str | Path) -> MatrixFile:
    """One matrix, or one list of edges, from a text file.

    A header row, a column of row names, both or neither are recognised; a header of whole numbers
    is read as label numbers, except 0..n-1, which is a position and says nothing. MRtrix's comment
    lines settle that rows go by label number. A region whose row and column are `n/a` is missing.

    Raises:
        DataError: ragged or not square (cut off), text where numbers belong, or rows and columns
            that carry different names.
    """
    text = read_text(path, limit=_MAX_BYTES)
    lines = [line for line in text.split("\n") if line.strip()]
    comments = [line for line in lines if line.lstrip().startswith("#")]
    cells = _cells([line for line in lines if not line.lstrip().startswith("#")], path)
    header, side, body = _split_off_names(cells)
    values = _numbers(body, path, first_line=len(comments) + (header is not None) + 1)
    mrtrix = any("command_history" in line or "mrtrix" in line for line in comments)
    order: RowOrder | None = "label" if mrtrix else None
    if 1 in values.shape and values.size > 1:
        if header is None and side is None:
            return MatrixFile(values.reshape(1, -1), order=order)
        raise DataError("a table, not a matrix", file=path, got=f"{values.shape[0]} rows, {values.shape[1]} columns")
    if values.shape[0] != values.shape[1]:
        raise DataError(
            "the matrix is not square",
            file=path,
            got=f"{values.shape[0]} rows, {values.shape[1]} columns",
            remedy="It may be cut off; export it again.",
        )
    names = _agreed(header, side, len(values), path)
    said_missing = _said_missing(body, values)
    if names is not None and all(re.fullmatch(r"\d+", name) for name in names):
        labels = tuple(int(name) for name in names)
        if labels == tuple(range(len(labels))):
            return MatrixFile(values[None], order=order, nan_is_missing=said_missing)
        return MatrixFile(values[None], labels=labels, nan_is_missing=said_missing)
    return MatrixFile(values[None], names=names, order=order, nan_is_missing=said_missing)


def _said_missing(rows: list[list[str]], values: np.ndarray) -> bool:
    """Whether every NaN was written `n/a`, the word for missing, and not computed to be NaN."""
    absent = np.isnan(values)
    return bool(absent.any()) and all(rows[i][j].casefold() == "n/a" for i, j in np.argwhere(absent))


def _cells(lines: Sequence[str], path: str | Path) -> list[list[str]]:
    if not lines:
        raise DataError("the file is empty", file=path)
    numbers = lines[-1]  # names may hold any mark, the last row mostly numbers
    commas, semicolons = numbers.count(","), numbers.count(";")
    mark = "\t" if "\t" in numbers else ";" if semicolons and semicolons >= commas - 1 else "," if commas else None
    if mark is None:
        return [line.split() for line in lines]
    if '"' in lines[0] or '"' in lines[-1]:
        try:
            return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark, strict=True)]
        except csv.Error as error:
            raise DataError(f"cannot be read as a table: {error}", file=path) from error
    rows = [[cell.strip() for cell in line.split(mark)] for line in lines]
    if all(row[-1] == "" for row in rows) and len(rows[0]) > 2:
        rows = [row[:-1] for row in rows]  # a trailing separator, as some writers leave it
    return rows


def _is_number(cell: str) -> bool:
    return cell.casefold() in _MISSING or bool(_NUMBER.match(cell) or _DECIMAL_COMMA.match(cell))


def _split_off_names(
    cells: list[list[str]],
) -> tuple[list[str] | None, list[str] | None, list[list[str]]]:
    """Header, row names, numbers. A first row or column that is not numeric holds names."""
    header: list[str] | None = None
    first = cells[0]
    corner = len(cells) > 1 and (first[0] == "" or not _is_number(first[0]))
    whole = [int(cell) for cell in first[corner:] if re.fullmatch(r"\d+", cell)]
    is_count = len(whole) == len(first) - corner and all(b > a for a, b in itertools.pairwise(whole))
    extra_row = len(cells) == len(cells[-1]) + (not corner)
    if not all(_is_number(cell) for cell in first[1:]) or (is_count and extra_row and len(cells) > 2):
        header, cells = first, cells[1:]
    side: list[str] | None = None
    named_side = bool(cells) and any(row and not _is_number(row[0]) for row in cells)
    numbered_side = header is not None and bool(cells) and len(cells[0]) == len(cells) + 1
    if named_side or numbered_side:
        side = [row[0] if row else "" for row in cells]
        cells = [row[1:] for row in cells]
        if header is not None and cells and len(header) == len(cells[0]) + 1:
            header = header[1:]
    return header, side, cells


def _numbers(rows: list[list[str]], path: str | Path, *, first_line: int) -> np.ndarray:
    if not rows or not rows[0]:
        raise DataError("there are no numbers in the file", file=path)
    width = len(rows[0])
    out: list[list[float]] = []
    for i, row in enumerate(rows):
        if len(row) != width:
            raise DataError(
                f"line {i + first_line} has {len(row)} values",
                file=path,
                expected=str(width),
                remedy="It may be cut off; export it again.",
            )
        try:
            if any("_" in cell for cell in row):
                raise ValueError
            out.append([float(cell) for cell in row])
        except ValueError:
            out.append([_number(cell, i + first_line, path) for cell in row])
    return np.array(out, dtype=float)


def _number(cell: str, line: int, path: str | Path) -> float:
    if cell.casefold() in _MISSING:
        return float("nan")
    if _NUMBER.match(cell):
        return float(cell)
    if _DECIMAL_COMMA.match(cell):
        return float(cell.replace(",", "."))
    raise DataError(f"line {line} holds text where a number belongs", file=path, got=repr(cell[:40]))


def _agreed(header: list[str] | None, side: list[str] | None, n_rows: int, path: str | Path) -> tuple[str, ...] | None:
    """Names of the rows; where rows and columns both have them they must say the same."""
    for what, names in (("column", header), ("row", side)):
        if names is not None and len(names) != n_rows:
            raise DataError(f"{len(names)} {what} names for {n_rows} {what}s", file=path)
    if header is not None and side is not None and header != side:
        at = next(i for i, (a, b) in enumerate(zip(header, side, strict=True)) if a != b)
        raise DataError(
            "rows and columns carry different names",
            file=path,
            got=f"row {at + 1} is {side[at]!r}, column {at + 1} is {header[at]!r}",
            remedy="A connectome has the same regions in the same order on both sides.",
        )
    names = header if header is not None else side
    return None if names is None else tuple(names)
