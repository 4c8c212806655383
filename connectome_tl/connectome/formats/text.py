"""Read text matrices: CSV, TSV, semicolons or blanks, with or without names, decimal commas."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectome_tl.connectome.formats.cells import is_number, numbers, whole_numbers
from connectome_tl.connectome.matrix_file import MatrixFile, RowList, RowOrder
from connectome_tl.connectome.names.labels import listed
from connectome_tl.connectome.names.spelling import default_positions, mangled
from connectome_tl.errors import DataError
from connectome_tl.files import read_text
from connectome_tl.plurals import counted

_MAX_BYTES = 150_000_000
_FEW = 3  # lines; fewer may be a matrix of two regions
_DECIMAL = re.compile(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?")
COMMENT = re.compile(r"\s*#(?!n/a\"?\s*[,;\t| ])", re.IGNORECASE)  # Excel writes #N/A for a missing value
_CLEARLY = 10  # from so many rows on, a first row and column of integers are not due to chance


@dataclass(frozen=True)
class _Grid:
    """Cells of a file: numbers, header row and first column."""

    body: list[list[str]]
    first_line: int
    header: list[str] | None = None
    side: list[str] | None = None


def read_text_matrix(path: str | Path) -> MatrixFile:
    """Read one matrix, or one triangle of values, from a text file.

    A header row and a column of row names are recognised. Integers in a header or first column are label numbers, in
    any order. The numbers 0 to n - 1 and the default column names of R, MATLAB or a spreadsheet (V1, Var1) are
    positions. With MRtrix's comment lines, rows are in label order. A region whose row and column are entirely missing
    is a missing region.

    Raises:
        DataError: ragged or not square (truncated), text where numbers are expected, ambiguous commas, or different
        names of rows and columns.
    """
    text = read_text(path, limit=_MAX_BYTES)
    lines = [line for line in text.split("\n") if line.strip()]
    lines = lines[1:] if lines and re.fullmatch(r'"?sep=.?"?\s*', lines[0]) else lines  # separator line for Excel
    comments = [line for line in lines if COMMENT.match(line)]
    if lines and len(comments) == len(lines):
        raise DataError(
            "every line begins with #, as comments do", file=path, remedy="Remove it from names or numbers."
        )
    cells = split_cells(_unbracketed([line for line in lines if not COMMENT.match(line)]), path)
    if len(cells) > 2 and cells[0][:2] == cells[1][:2] == ["data", "data"]:
        cells = [row[1:] for row in cells[1:]]  # DSI Studio's connectogram: sums of rows and columns, and names
        cells[0][0] = ""
    while len(cells) > 1 and not any(cells[0]):
        cells = cells[1:]
    grid = _grid(cells, len(comments) + 1)
    mrtrix = any("command_history" in line or "mrtrix" in line for line in comments)
    order: RowOrder | None = "label" if mrtrix else None
    body = [[cell for row in grid.body for cell in row]] if _is_triangle(grid) else grid.body
    if _is_list(replace(grid, body=body)):
        values = numbers(body, path, first_line=grid.first_line)
        return MatrixFile(values.reshape(1, -1), order=order)
    _check_square(grid, path)
    values = numbers(grid.body, path, first_line=grid.first_line)
    _check_hidden_numbers(values, path)
    matrix = replace(_named(grid, values, path), order=order)
    return matrix if matrix.is_named else replace(matrix, lists=_in_comments(comments, len(values)))


def _unbracketed(lines: list[str]) -> list[str]:
    """Lines without the brackets and the ends of rows that MATLAB, NumPy and JSON print: `[1 2;` and `[[1, 2],`."""
    bracketed = bool(lines) and lines[0].lstrip().startswith("[") and lines[-1].rstrip(" ;,").endswith("]")
    ended = len(lines) > 1 and all(line.count(";") == 1 and line.rstrip().endswith(";") for line in lines[:-1])
    return [line.strip(" \t[];,") for line in lines] if bracketed or ended else lines


def _in_comments(comments: Sequence[str], n_rows: int) -> tuple[RowList, ...]:
    """Names in comment lines: all in one line, as in the header of `numpy.savetxt`, or one per line."""
    plain = [line.lstrip("# \t").rstrip() for line in comments]
    found = []
    for line in plain:
        for mark in (",", "\t", ";", None):
            cells = tuple(cell.strip().strip('"') for cell in line.split(mark))
            if len(cells) == n_rows > 1 and any(not is_number(cell) for cell in cells):
                found.append(RowList("a comment line", names=cells))
                break
            numbered = whole_numbers(cells) if len(cells) == n_rows > 1 else None
            if numbered is not None:
                found.append(RowList("a comment line", numbers=numbered))
                break
    if len(plain) == n_rows > 1 and len(set(plain)) == n_rows:
        found.append(RowList("the comment lines", names=tuple(plain)))
    return tuple(found)


def split_cells(lines: Sequence[str], path: str | Path) -> list[list[str]]:
    """Split lines into stripped cells, with the separator found in the last line.

    Raises:
        DataError: empty, or unclosed quotes.
    """
    if not lines:
        raise DataError("the file is empty", file=path)
    last = lines[-1]  # names may contain any character; the last row holds mostly numbers
    last = last if re.search(r"[\t,;| ]", last.strip()) else lines[len(lines) // 2]  # of a triangle
    commas, semicolons = last.count(","), last.count(";")
    mark = "\t" if "\t" in last else ";" if semicolons and semicolons >= commas - 1 else "," if commas else None
    mark = "|" if mark is None and "|" in last else mark
    if mark == "," and len(lines) > _FEW and all(_DECIMAL.fullmatch(line.strip()) for line in lines):
        mark = None  # a list of numbers with decimal commas
    if '"' in lines[0] or '"' in last:
        try:
            rows = csv.reader(lines, delimiter=mark or " ", strict=True, skipinitialspace=mark is None)
            return [[cell.strip() for cell in row] for row in rows]
        except csv.Error as error:
            raise DataError(f"cannot be read as a table: {error}", file=path) from error
    if mark is None:
        return [line.split() for line in lines]
    found = [[cell.strip() for cell in line.split(mark)] for line in lines]
    if all(row[-1] == "" for row in found) and len(found[0]) > 2:
        found = [row[:-1] for row in found]  # some tools write a trailing separator
    return found


def _grid(cells: list[list[str]], first_line: int) -> _Grid:
    """Separate a first row and a first column of names or label numbers."""
    first, n_rows, n_columns = cells[0], len(cells), len(cells[-1])
    corner = n_rows > 1 and n_columns == len(first) and re.match(r"$|[^\W\d]|#", first[0]) is not None
    header: list[str] | None = None
    numbered = whole_numbers(first[1:] if corner else first) is not None
    extra_row = n_rows == n_columns + (not corner) and n_rows > 2
    if _is_names(first[1:] or first) or (numbered and extra_row):
        header, cells, first_line = first, cells[1:], first_line + 1
    column = [row[0] for row in cells if row]
    wide = bool(cells) and len(cells[0]) == len(cells) + 1
    if not cells or not (_is_names(column) or (wide and (header is not None or whole_numbers(column) is not None))):
        return _Grid(cells, first_line, header)
    side = [row[0] if row else "" for row in cells]
    body = [row[1:] for row in cells]
    if header is not None and body and len(header) == len(body[0]) + 1:
        header = header[1:]
    return _Grid(body, first_line, header, side)


def _is_names(cells: Sequence[str]) -> bool:
    """Whether a row or column holds names: most of its cells are text."""
    texts = sum(not is_number(cell) for cell in cells)
    return 2 * texts > len(cells) or (texts > 0 and len(cells) == 2)


def _is_list(grid: _Grid) -> bool:
    """Whether there is one value per line, or a single line of values."""
    one = len(grid.body) == 1 or all(len(row) == 1 for row in grid.body)
    return one and grid.header is None and grid.side is None and len(grid.body) * len(grid.body[0] or []) > 1


def _is_triangle(grid: _Grid) -> bool:
    """Whether each line is one value longer, or one shorter, than the line above."""
    widths = [len(row) for row in grid.body]
    rising = list(range(1, len(widths) + 1))
    return len(widths) > 1 and grid.header is None and grid.side is None and widths in (rising, rising[::-1])


def _check_square(grid: _Grid, path: str | Path) -> None:
    body = grid.body
    if not body or not body[0]:
        names = [name for name in grid.header or grid.side or () if name]
        raise DataError(
            "the file holds names and no numbers" if names else "there are no numbers in the file",
            file=path,
            expected="one line of numbers per region",
            got=f"only {listed(names, 4)}" if names else None,
            remedy="Export the matrix again, or remove the file.",
        )
    widths = {len(row) for row in body}
    if widths == {len(body)}:
        return
    # its message about a text cell or a short line is more specific than one about the shape
    numbers(body, path, first_line=grid.first_line)
    n_columns = len(body[0])
    if 1 in (len(body), n_columns):
        raise DataError(
            "a table, not a matrix",
            file=path,
            got=f"{counted(len(body), 'row')}, {counted(n_columns, 'column')}",
            remedy="A list of edges has a line for each, with both regions and the weight; a triangle has no header.",
        )
    raise DataError(
        "the matrix is not square",
        file=path,
        got=f"{counted(len(body), 'row')}, {counted(n_columns, 'column')}",
        remedy="It may be cut off; export it again. Time series need format: series (--format series); the two ends "
        "of edges are columns source and target.",
    )


def _check_hidden_numbers(values: np.ndarray, path: str | Path) -> None:
    """Refuse a square whose first row and column are 1 to n: label numbers with a number in the corner."""
    first, n = values[0, 1:], len(values) - 1
    same = n >= _CLEARLY and np.array_equal(first, values[1:, 0])
    if same and (np.array_equal(np.sort(first), np.arange(1, n + 1)) or np.array_equal(np.sort(first), np.arange(n))):
        raise DataError(
            "the first row and column look like label numbers, with a number in the corner",
            file=path,
            got=f"the numbers up to {n}",
            remedy="Leave the first cell empty, so that they are read as label numbers.",
        )


def _named(grid: _Grid, values: np.ndarray, path: str | Path) -> MatrixFile:
    both = _names_and_numbers(grid, len(values))
    if both is not None:
        return MatrixFile(values[None], names=both[0], labels=both[1])
    names = _agreed(grid, len(values), path)
    if names is None:
        return MatrixFile(values[None])
    numbered = whole_numbers(names)
    if numbered is not None:
        return MatrixFile(values[None], labels=numbered)
    positions = default_positions(names)
    if positions is not None:
        note = f"{names[0]} to {names[-1]} are names of columns without a name, and were read as positions"
        return MatrixFile(values[None], labels=positions, notes=(note,))
    return MatrixFile(values[None], names=tuple(names))


def _names_and_numbers(grid: _Grid, n_rows: int) -> tuple[tuple[str, ...], tuple[int, ...] | None] | None:
    """Names from one side and label numbers from the other; the numbers are None where they only count the rows."""
    if grid.header is None or grid.side is None or len(grid.header) != n_rows or len(grid.side) != n_rows:
        return None
    if grid.header == [mangled(name) for name in grid.side]:
        return None  # R writes 1001 as X1001
    for names, other in ((grid.header, grid.side), (grid.side, grid.header)):
        numbered = whole_numbers(other)
        if numbered is not None and _is_names(names) and default_positions(names) is None:
            counts = numbered in (tuple(range(n_rows)), tuple(range(1, n_rows + 1)))
            return tuple(names), None if counts else numbered
    return None


def _agreed(grid: _Grid, n_rows: int, path: str | Path) -> list[str] | None:
    """Names of the rows; those of rows and columns must agree where both are given."""
    for what, names in (("column", grid.header), ("row", grid.side)):
        if names is not None and len(names) != n_rows:
            raise DataError(f"{len(names)} {what} names for {n_rows} {what}s", file=path)
    header, side = grid.header, grid.side
    if header is None or side is None or header == side:
        return header if header is not None else side
    default = default_positions(header) == tuple(range(n_rows))
    if default and whole_numbers(side) == tuple(range(1, n_rows + 1)):
        return header
    if default or header == [mangled(name) for name in side]:
        return side
    at = next(i for i, (a, b) in enumerate(zip(header, side, strict=True)) if a != b)
    raise DataError(
        "rows and columns have different names",
        file=path,
        got=f"row {at + 1} is {side[at][:40]!a}, column {at + 1} is {header[at][:40]!a}",
        remedy="A connectome has the same regions in the same order on both sides.",
    )
