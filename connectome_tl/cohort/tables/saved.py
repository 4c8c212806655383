"""Read text tables, spreadsheets and files of Stata and SPSS with any encoding and separator; every cell as text."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.columns.ids import whole_ids as whole_ids
from connectome_tl.cohort.columns.numeric import numbers as numbers

# Re-exported for modules that read tables.
from connectome_tl.cohort.findings import Findings as Findings
from connectome_tl.cohort.tables.cells import clean
from connectome_tl.cohort.tables.merged import is_second_line
from connectome_tl.cohort.tables.spreadsheets import is_spreadsheet, spreadsheet_rows
from connectome_tl.cohort.tables.statistics import is_statistics, statistics_rows
from connectome_tl.connectome.names.labels import doubled
from connectome_tl.errors import DataError, Problem
from connectome_tl.files import read_table_text, read_text
from connectome_tl.plurals import counted

_MAX_BYTES = 100_000_000
_MAX_CELLS = 6_000_000
_SHOWN = 60
_LOOKED_AT = 20  # rows below a line that may belong to the header
_COMPARED = 5  # rows that are compared with the header
NAME_COLUMNS = "Write the names of the columns into the first line."
_MARKUP = re.compile(
    r"\s*(?:<(?:!doctype|\?xml|html|table|head|body|meta|style)|(?P<json>\{|\[\s*[{\[]))", re.IGNORECASE
)
_KEPT_TEXT = re.compile(r'="(.*)"')  # ="007", which Excel shows as 007
_RULE = re.compile(r"[:+|]?-{2,}[-+|]*:?")  # a line between a header and its rows, in Markdown and SQL


def read_table(path: str | Path, notes: list[str] | None = None) -> pd.DataFrame:
    """A TSV, CSV, Excel, Stata or SPSS table as stripped text, one row per line; missing words are not yet replaced.

    Accepts byte order marks, UTF-16, Windows-1252 if no other encoding is possible, CRLF, quotes, commas, semicolons,
    bars or tabs, empty lines above the header, and in Excel sheets merged cells in a title or header. Invisible
    characters (zero width, direction marks) are removed from every cell.

    Args:
        notes: takes a line if the encoding was recognised, and for merged cells. Without it a text table must be in
            UTF-8 or UTF-16.

    Raises:
        MissingInputError: no such file. DataError: empty, cut off (a line with fewer cells), too large, a
            column name twice over different cells, or none over a filled column. UsageError: an Excel file
            without openpyxl, or an SPSS file without pyreadstat.
    """
    raw = _rows(path, notes)
    rows = [(i, [_KEPT_TEXT.sub(r"\1", clean(cell)) for cell in row]) for i, row in enumerate(raw, 1)]
    rows = [(i, row) for i, row in rows if any(row) and not all(not cell or _RULE.fullmatch(cell) for cell in row)]
    if not rows:
        raise DataError("the table is empty", file=path)
    first, header = rows[0]
    header = _without_marks(header)
    body = [(i, row) for i, row in rows[1:] if row != rows[0][1]]
    if (n_copies := len(rows) - 1 - len(body)) and notes is not None:
        notes.append(f"{Path(path).name}: {counted(n_copies, 'further copy', 'further copies')} of the header left out")
    if all(len(header) > 1 and _is_quoted(cell) for cell in header):
        header, body = [cell[1:-1] for cell in header], [(i, list(map(_unquoted, row))) for i, row in body]
    header, body = _without_copies(*_without_empty_columns(header, body))
    problems = [
        Problem(
            f"column {name[:_SHOWN]!r} occurs twice",
            file=path,
            remedy="Rename or delete one of them; if the table has two header lines, keep one line of names."
            if any(map(str.isalpha, name))
            else "Is the first line a header?",
        )
        for name in doubled(header)
        if name
    ]
    short = [f"line {i} has {counted(len(row), 'cell')}" for i, row in body if len(row) != len(header)]
    if short:
        more = f", and {counted(len(short) - 1, 'more line differs', 'more lines differ')}" if len(short) > 1 else ""
        problems.append(
            Problem(
                f"{short[0]}{more}",
                expected=f"{len(header)}, as the header (line {first})",
                file=path,
                remedy="The table may be cut off, hold an unquoted separator, or have lines above its header.",
            )
        )
    else:
        unnamed = [k for k, name in enumerate(header) if not name and k and any(row[k] for _, row in body)]
        problems += [
            Problem(f"column {k + 1} has cells and no name (line {first} is read as the header)", file=path,
                    remedy="Name it, or delete lines above the header.")
            for k in unnamed[:1]
        ]  # fmt: skip
        lines = [row for _, row in body[:_LOOKED_AT]]
        if lines and not problems and _goes_on(header, lines[0]) and is_second_line(lines[0], lines[1:]):
            problems.append(
                Problem(
                    f"the header has two lines: the line below line {first} has words over numbers",
                    got=", ".join(lines[0][:4]),
                    file=path,
                    remedy="Delete that line if it holds units or labels; else write one name per column in one line.",
                )
            )
    if problems:
        raise DataError("the table cannot be read", problems=problems)
    if not body:
        raise DataError("the table has a header and no rows", file=path)
    return pd.DataFrame([row for _, row in body], columns=header, dtype=str)


def _rows(path: str | Path, notes: list[str] | None) -> Sequence[Sequence[str]]:
    if is_spreadsheet(path):
        return spreadsheet_rows(path, notes)
    return statistics_rows(path, notes) if is_statistics(path) else _text_rows(path, notes)


def _without_marks(header: list[str]) -> list[str]:
    """A header without the # in front of its first name."""
    return [header[0].lstrip("#").strip() or header[0], *header[1:]]


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == "'"


def _unquoted(cell: str) -> str:
    return cell[1:-1] if _is_quoted(cell) else cell


def _goes_on(header: Sequence[str], line: Sequence[str]) -> bool:
    """Whether a line may belong to the header: by a first column without a name, or a first cell that is no id."""
    return not header[0] or not any(c.isdigit() for c in line[0])


def _without_empty_columns(
    header: list[str], body: list[tuple[int, list[str]]]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Drop empty columns without a name at the right, as written by spreadsheets."""
    width = len(header)
    while width and not header[width - 1] and not any(cell for _, row in body for cell in row[width - 1 :]):
        width -= 1
    return header[:width], [(i, row if any(row[width:]) else row[:width]) for i, row in body]


def _without_copies(
    header: list[str], body: list[tuple[int, list[str]]]
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Drop columns that duplicate another one in name and cells, as in concatenated tables."""
    if len(set(header)) == len(header) or any(len(row) != len(header) for _, row in body):
        return header, body
    kept: dict[tuple[str, ...], int] = {}
    for k, name in enumerate(header):
        kept.setdefault((name, *(row[k] for _, row in body)), k)
    at = sorted(kept.values())
    return [header[k] for k in at], [(i, [row[k] for k in at]) for i, row in body]


def _text_rows(path: str | Path, notes: list[str] | None) -> Sequence[Sequence[str]]:
    """Cells of a text table; a first line `sep=;`, as Excel writes it, names the mark."""
    if notes is None:
        text = read_text(path, limit=_MAX_BYTES)
    else:
        text, note = read_table_text(path, limit=_MAX_BYTES)
        notes += [note] if note and note not in notes else []
    if found := _MARKUP.match(text):
        kind = "JSON" if found["json"] else "a web page (HTML) or XML"
        raise DataError(f"not a table but {kind}", file=path, remedy="Export it as a .csv or .tsv file (UTF-8).")
    lines = text.split("\n")
    filled = [i for i, line in enumerate(lines) if line.strip(" \t,;\ufeff")] or [0]
    start = next((i for i, then in pairwise(filled) if not _is_comment(lines[i], lines[then])), filled[-1])
    said = lines[start].strip().lower() if lines else ""
    mark = "\t" if "\t" in lines[start] else max(",;|", key=lines[start].count)
    if said.startswith("sep=") and len(said) == 5:
        mark, lines[start] = said[4], ""
    if sum(line.count(mark) + 1 for line in lines) > _MAX_CELLS:
        raise DataError(
            "too many cells for such a table",
            file=path,
            expected=f"at most {_MAX_CELLS}",
            remedy="Keep the columns that the cohort file names.",
        )
    lines[:start] = [""] * start
    _check_first_line(lines, start, mark, path)
    if (in_blanks := _in_blanks(lines, mark)) is not None:
        return in_blanks
    try:
        return _with_counter(list(csv.reader(lines, delimiter=mark)))
    except csv.Error as error:
        raise DataError(f"cannot be read as a table: {error}", file=path) from error


def _is_comment(line: str, below: str) -> bool:
    """Whether a line that begins with # has other columns than the line below it; else it is a header."""
    return (
        line.startswith("#")
        and not line.lower().startswith("#n/a")
        and (below.startswith("#") or any(line.count(m) != below.count(m) for m in "\t;,|"))
    )


def _check_first_line(lines: Sequence[str], start: int, mark: str, path: str | Path) -> None:
    """Refuse a first line of one cell above lines of several."""
    below = [line for line in lines[start + 1 :] if line.strip()]
    if mark in lines[start] or not lines[start] or len(below) < 2:
        return
    if any(all(line.count(other) == below[0].count(other) > 0 for line in below) for other in "\t;,|"):
        raise DataError(
            f"line {start + 1} is no header: it has one cell, and the lines below have several",
            file=path,
            got=lines[start].strip()[:_SHOWN],
            remedy="Delete the lines above its header.",
        )


def _in_blanks(lines: Sequence[str], mark: str) -> list[list[str]] | None:
    """Cells of a table that blanks separate, as R's `write.table` writes it; None if it has another separator."""
    filled = [line for line in lines if line.strip()]
    if any(mark in line for line in filled) or len(filled) < 2:
        return None
    try:
        rows = _with_counter(list(csv.reader((" ".join(line.split()) for line in lines), delimiter=" ")))
    except csv.Error:
        return None
    header, *body = [row for row in rows if row]
    return rows if len(header) > 1 and {len(row) for row in body} == {len(header)} else None


def _with_counter(rows: list[list[str]]) -> list[list[str]]:
    """Rows with an empty name for a first column that counts them, which R does not name."""
    header, *body = [row for row in rows if row] or [[]]
    counts = len(body) > 1 and [row[0] for row in body] == [str(i) for i in range(1, len(body) + 1)]
    if not counts or {len(row) for row in body} != {len(header) + 1}:
        return rows
    return [["", *row] if row is header else row for row in rows]


def row_for_header(table: pd.DataFrame) -> str | None:
    """The first line of a table whose header is a row, with an id and numbers as in the rows below it; else None."""
    names = [str(name) for name in table.columns]
    rows = [name for name in names if any(_form(name) == _form(str(cell)) for cell in table[name][:_COMPARED])]
    numbers = [name for name in rows if not _form(name).strip("0.,+-")]
    return ", ".join(names[:4])[:60] if rows[:1] == names[:1] and 2 * len(rows) > len(names) and numbers else None


def _form(text: str) -> str:
    """A text with 0 for each number, which is the same for all ids and all numbers of a column."""
    return re.sub("[0-9]+", "0", text)
