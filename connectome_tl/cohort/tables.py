"""Tables as they are in the wild: marks, missing-value codes, decimal commas, spoiled ids.

What can be read in one way only is read, and said in a note; what can be read in two ways is asked
about. Everything wrong is collected as problems, never raised one at a time.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.connectome.labels import doubled
from connectome_tl.errors import DataError, Problem
from connectome_tl.files import read_text

MISSING_WORDS = frozenset({"", "n/a", "na", "nan", "null", ".", "missing", "#n/a", "#null!"})
_CODES = ("-9", "-99", "-999", "-9999", "-88", "-888", "-77", "-777", "888", "999", "8888", "9999", "99999")
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_DECIMAL_COMMA = re.compile(r"^[+-]?\d+,\d+$")
_WEEKS_DAYS = re.compile(r"^(\d{2})\s*(?:\+|w\s*\+?)\s*([0-6])\s*d?$", re.IGNORECASE)
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_EATEN = re.compile(
    rf"^\d+\.0$|^\d([.,]\d+)?e\+?\d+$|^#[\w/]+[!?]$|^\d{{1,2}}-({_MONTHS})(-\d+)?$|^({_MONTHS})-\d{{2,4}}$",
    re.IGNORECASE,
)
_MAX_BYTES = 200_000_000
_SHOWN = 5


@dataclass
class Findings:
    """What is wrong (problems) and what was decided without asking (notes)."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def several(self, rows: Sequence[tuple[str, str]], what: str, file: str | Path, remedy: str | None = None) -> None:
        """One problem per (subject, value), the first few in full and the others counted."""
        for subject, value in rows[:_SHOWN]:
            self.problems.append(Problem(what, got=value, subject=subject, file=file, remedy=remedy))
        if len(rows) > _SHOWN:
            self.problems.append(Problem(f"{what}: the same in {len(rows) - _SHOWN} more rows", file=file))


def read_table(path: str | Path) -> pd.DataFrame:
    """A TSV or CSV as text, every cell stripped, one row per line; missing words are not yet replaced.

    Accepts byte order marks, UTF-16, CRLF, quotes, and commas, semicolons or tabs.

    Raises:
        MissingInputError: no such file. DataError: empty, cut off (a line with fewer cells), or a
            column name twice.
    """
    text = read_text(path, limit=_MAX_BYTES)
    lines = text.split("\n")
    mark = "\t" if "\t" in lines[0] else max(",;", key=lines[0].count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark)]
    except csv.Error as error:
        raise DataError(f"cannot be read as a table: {error}", file=path) from error
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows or not any(rows[0]):
        raise DataError("the table is empty", file=path)
    header = rows[0]
    body = [(i, row) for i, row in enumerate(rows[1:], 2) if any(row)]
    problems = [Problem(f"column {name!r} stands twice", file=path) for name in doubled(header)]
    problems += [
        Problem(
            f"line {i} has {len(row)} cells",
            expected=f"{len(header)}, as the header",
            file=path,
            remedy="The table may be cut off or hold an unquoted separator.",
        )
        for i, row in body
        if len(row) != len(header)
    ]
    if problems:
        raise DataError("the table cannot be read", problems=problems)
    if not body:
        raise DataError("the table has a header and no rows", file=path)
    return pd.DataFrame([row for _, row in body], columns=header, dtype=str)


def is_missing(value: str, codes: Sequence[str] = ()) -> bool:
    return value.casefold() in MISSING_WORDS or value in codes


def texts(column: pd.Series, codes: Sequence[str] = ()) -> list[str]:
    """Cells as text, "" where missing."""
    return ["" if is_missing(value, codes) else value for value in column]


def numbers(
    column: pd.Series,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    codes: Sequence[str] = (),
    weeks_and_days: bool = False,
) -> np.ndarray:
    """Cells as numbers (n_rows,), NaN where missing.

    Decimal commas are read unless they might be thousands; `29+4` is weeks and days where weeks
    are meant; -9, 999 and their like are read as missing when they lie far from all other values.
    """
    cells = texts(column, codes)
    out = np.full(len(cells), np.nan)
    commas = [cell for cell in cells if _DECIMAL_COMMA.match(cell)]
    thousands = bool(commas) and all(re.search(r",\d{3}$", cell) for cell in commas)
    wrong: list[tuple[str, str]] = []
    for i, cell in enumerate(cells):
        if cell == "" or cell.casefold() == "none":
            continue
        if _NUMBER.match(cell):
            out[i] = float(cell)
        elif _DECIMAL_COMMA.match(cell) and not thousands:
            out[i] = float(cell.replace(",", "."))
        elif weeks_and_days and (parts := _WEEKS_DAYS.match(cell)):
            out[i] = int(parts.group(1)) + int(parts.group(2)) / 7
        else:
            wrong.append((ids[i], repr(cell[:60])))
    name = str(column.name)
    remedy = "Is it a decimal comma or thousands? Write a point." if thousands else None
    findings.several(wrong, f"column {name!r} holds text where a number belongs", file, remedy)
    too_large = np.isinf(out)
    findings.several(
        [(ids[i], cells[i]) for i in np.flatnonzero(too_large).tolist()],
        f"column {name!r} holds an infinite number",
        file,
    )
    out[too_large] = np.nan
    if commas and not thousands:
        findings.notes.append(f"{name}: {len(commas)} decimal commas were read as points")
    return _without_codes(out, name, findings)


def _without_codes(values: np.ndarray, name: str, findings: Findings) -> np.ndarray:
    """Replace -9, 999 and their like by NaN where they stand far from everything else."""
    is_code = np.isin(values, [float(code) for code in _CODES])
    rest = values[~is_code & ~np.isnan(values)]
    if not is_code.any() or rest.size == 0:
        return values
    low, high = float(rest.min()), float(rest.max())
    reach = max(high - low, 1e-12)
    for code in np.unique(values[is_code]):
        outside = (code < 0 <= low) or code < low - 2 * reach or code > high + 2 * reach
        if outside:
            hits = values == code
            findings.notes.append(f"{name}: {code:g} in {int(hits.sum())} rows was read as missing")
            values = np.where(hits, np.nan, values)
    return values


def subject_ids(column: pd.Series, file: str | Path, findings: Findings) -> tuple[str, ...]:
    """Ids as they stand, every fault listed: empty, twice, eaten by a spreadsheet, unsafe as a file name."""
    ids = tuple(str(value) for value in column)
    for i, subject in enumerate(ids):
        if is_missing(subject):
            findings.problems.append(Problem(f"row {i + 1} has no subject id", file=file))
        elif re.search(r"[/\\\x00-\x1f]", subject) or subject.startswith("."):
            findings.problems.append(
                Problem("a subject id cannot be used in a file name", got=repr(subject), file=file)
            )
        elif _EATEN.match(subject):
            findings.problems.append(
                Problem(
                    "a subject id looks eaten by a spreadsheet",
                    got=repr(subject),
                    file=file,
                    remedy="Import the id column as text.",
                )
            )
    findings.problems += [
        Problem(
            "the subject id stands twice",
            subject=subject,
            file=file,
            remedy="One row per subject and scan; `select` keeps one of several visits.",
        )
        for subject in doubled(ids)
    ]
    padded: dict[str, list[str]] = {}
    for subject in dict.fromkeys(ids):
        padded.setdefault(bare(subject), []).append(subject)
    for alike in padded.values():
        if len(alike) > 1:
            findings.problems.append(
                Problem("ids differ only in zero padding or prefix", got=" and ".join(alike), file=file)
            )
    return ids


def whole_ids(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """One id per row from one column or several (participant, session), joined as BIDS does: `sub-01_ses-1`.

    A session is written with `ses-` whether the table does so or not (dHCP does not). "" where a part is missing.
    """
    parts = [[str(value) for value in table[columns[0]]]]
    for name in columns[1:]:
        prefix = "ses-" if name.lower().startswith("ses") else ""
        parts.append(
            [f"{prefix}{str(value).removeprefix(prefix)}" if not is_missing(value) else "" for value in table[name]]
        )
    return ["_".join(row) if all(row) and not is_missing(row[0]) else "" for row in zip(*parts, strict=True)]


def bare(subject: str) -> str:
    """An id without `sub-` and without the zeros in front of its numbers, for comparing."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", subject.removeprefix("sub-")).casefold()


def joined(columns: Sequence[Sequence[str]]) -> list[str]:
    """One family label per row (n_rows,): rows that share a value in any column belong together,
    also through others (twins of a repeated scan). "" where a row shares nothing and has no value."""
    n_rows = len(columns[0])
    parent = list(range(n_rows))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column in columns:
        first: dict[str, int] = {}
        for i, value in enumerate(column):
            if value:
                parent[root(i)] = root(first.setdefault(value, i))
    label: dict[int, str] = {}
    for i in range(n_rows):
        value = next((column[i] for column in columns if column[i]), "")
        if value:
            label.setdefault(root(i), value)
    return [label.get(root(i), "") for i in range(n_rows)]
