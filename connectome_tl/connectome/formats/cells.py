"""Parse cells of a text matrix: decimal points, decimal commas and ambiguous numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.plurals import counted

MISSING = frozenset(
    {
        "n/a",
        "na",
        "nan",
        "-nan",
        "+nan",
        "",
        "#n/a",
        "null",
        "none",
        "<na>",
        "nan+0i",
        "nan+0j",
        "nan(ind)",
        "-nan(ind)",
    }
    | {"1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind"}
)
_LONGEST = 60  # characters; no number is longer, and patterns stay fast
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?", re.ASCII)
_GROUPS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?", re.ASCII)
_POINT_GROUPS = re.compile(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}", re.ASCII)
_LEAST_POINTS = 10  # from so many cells on, three digits after every point are not due to chance
_WHOLE = re.compile(r"([0-9]{1,9})(\.0{0,6})?", re.ASCII)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number or a code for a missing value, in any convention."""
    if len(cell) > _LONGEST:
        return False
    known = cell.casefold() in MISSING or _INFINITE.fullmatch(cell)
    return bool(known or _NUMBER.fullmatch(cell) or _COMMA.fullmatch(cell) or _GROUPS.fullmatch(cell))


def whole_numbers(cells: Sequence[str]) -> tuple[int, ...] | None:
    """Cells as distinct non-negative integers, as label numbers are; else None."""
    matches = [_WHOLE.fullmatch(cell) for cell in cells]
    if not matches or not all(matches):
        return None
    found = tuple(int(match[1]) for match in matches if match is not None)
    return found if len(set(found)) == len(found) else None


def numbers(rows: Sequence[Sequence[str]], path: str | Path, *, first_line: int) -> np.ndarray:
    """(n_rows, n_columns), NaN where a cell is missing.

    The comma in a cell such as `1,065` is decimal only where other cells show it: no cell has a decimal point, and
    some cannot contain a thousands separator (`0,5`, `0,1234`).

    Raises:
        DataError: ragged rows, text where a number is expected, or ambiguous commas.
    """
    if not rows or not rows[0]:
        raise DataError("there are no numbers in the file", file=path)
    width = len(rows[0])
    for i, row in enumerate(rows, first_line):
        if len(row) != width:
            raise DataError(
                f"line {i} has {counted(len(row), 'value')}",
                file=path,
                expected=str(width),
                remedy="It may be cut off; export it again.",
            )
    plain = [_plain(row) for row in rows]
    if all(row is not None for row in plain):
        _check_points(rows, path)
        return np.array(plain, dtype=float)
    _check_text(rows, path, first_line)
    _check_commas(rows, path, first_line)
    return np.array([[_value(cell) for cell in row] for row in rows], dtype=float)


def _plain(row: Sequence[str]) -> list[float] | None:
    """Values of a row without commas or text (the common case); None for any other."""
    together = "".join(row)
    if "_" in together or not together.isascii() or max(map(len, row)) > _LONGEST:
        return None
    try:
        return list(map(float, row))
    except ValueError:
        return None


def _value(cell: str) -> float:
    return float("nan") if cell.casefold() in MISSING else float(cell.replace(",", "."))


def _check_text(rows: Sequence[Sequence[str]], path: str | Path, first_line: int) -> None:
    wrong = [
        (i, j, cell) for i, row in enumerate(rows, first_line) for j, cell in enumerate(row) if not is_number(cell)
    ]
    if wrong:
        line, column, cell = wrong[0]
        more = f", and {counted(len(wrong) - 1, 'more cell')}" if len(wrong) > 1 else ""
        raise DataError(
            f"line {line}, value {column + 1} is text, not a number{more}",
            file=path,
            got=ascii(cell[:40]),
            remedy="Write numbers only, and n/a throughout the row and column of a region that was not measured.",
        )


def points_of_thousands(cells: Sequence[str]) -> list[str]:
    """Numbers whose point may separate thousands; empty if the file rules this out.

    It is possible if each point is followed by three digits, no such number is below 1, and all other numbers are
    integers of at most three digits.
    """
    points = [cell for cell in cells if "." in cell]
    whole = [cell for cell in cells if "." not in cell]
    grouped = all(_POINT_GROUPS.fullmatch(cell) for cell in points)
    return points if grouped and whole and all(len(cell.lstrip("+-")) <= 3 for cell in whole) else []


def _check_points(rows: Sequence[Sequence[str]], path: str | Path) -> None:
    """Refuse points that may separate thousands."""
    points = points_of_thousands([cell for row in rows for cell in row])
    if len(points) >= _LEAST_POINTS:
        raise DataError(
            "points that may be decimal or separate thousands",
            file=path,
            got=f"{points[0]}, and {counted(len(points) - 1, 'more such cell')} next to whole numbers",
            remedy="Write numbers without thousands separators, or all with the same number of decimals.",
        )


def _check_commas(rows: Sequence[Sequence[str]], path: str | Path, first_line: int) -> None:
    """Refuse commas that may separate thousands, unless the file shows that they are decimal."""
    cells = [(i, cell) for i, row in enumerate(rows, first_line) for cell in row if "," in cell]
    doubtful = [(i, cell) for i, cell in cells if _GROUPS.fullmatch(cell)]
    if not doubtful:
        if not cells or not any("." in cell for row in rows for cell in row):
            return
        doubtful = cells
    points = any("." in cell for row in rows for cell in row)
    decimal = any(re.match(r"[+-]?0[0-9]*,|[+-]?[0-9]+,[0-9]{4}", cell) for _, cell in cells)
    if decimal and not points:
        return
    line, cell = doubtful[0]
    raise DataError(
        f"line {line}: a comma that may be decimal or separate thousands",
        file=path,
        got=ascii(cell) + (f", and {counted(len(doubtful) - 1, 'more such cell')}" if len(doubtful) > 1 else ""),
        remedy="Write numbers with decimal points and without thousands separators.",
    )
