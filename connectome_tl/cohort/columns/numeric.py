"""Numeric columns: decimal commas, weeks and days, units in cells, censored values, missing codes.

Unambiguous notations are converted, with a note; ambiguous ones are reported as problems.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.codes import CODES, note_removed_values, without_codes
from connectome_tl.cohort.columns.dates import are_dates_in_digits, is_date
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import PLAIN, SPREADSHEET_ERRORS, Marks, fold, texts
from connectome_tl.connectome.formats.cells import points_of_thousands
from connectome_tl.plurals import counted

Censored = Literal["limit", "missing"]
_LONGEST = 60  # characters; longer cells are not numbers
_MOST_LISTED = 4  # cells in a remedy
_EXACT = re.compile(r"[+-]?[0-9]{1,4}\.[0-9]{4,25}(?:[eE][+-]?[0-9]{1,2})?")  # one number in every notation
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?")
_THOUSANDS = {mark: re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:{re.escape(mark)}[0-9]{{3}})+") for mark in ".,"}
_GROUPED = {
    ".": re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?"),
    ",": re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+,[0-9]+"),
}
_TENTHS = re.compile(r"[0-9]{1,3}[.,]([0-9])")
_LEAST_TENTHS = 15  # distinct values; with fewer, the absence of .7, .8 and .9 says little
_DAY = r"([0-6])\s*(?:d|days?|tage?|j|jours?|d[ií]as?|giorn[io]|dag(?:en)?|/\s*7)?"
# In English, German, French, Spanish, Portuguese, Italian and Dutch.
_WEEK = r"(?:w|wks?|weeks?|wochen?|ssw|sa|sem|semaines?|semanas?|settiman[ae]|weken)"
_WEEKS_DAYS = (
    re.compile(rf"([0-9]{{1,3}})\s*\+\s*{_DAY}(?:\s*{_WEEK})?", re.IGNORECASE),
    re.compile(rf"([0-9]{{1,3}})\s*{_WEEK}\.?\s*(?:(?:\+|,|and|und|et|y|e|en)?\s*{_DAY})?", re.IGNORECASE),
    re.compile(rf"([0-9]{{1,3}})\s+([0-6])\s*/\s*7(?:\s*{_WEEK})?", re.IGNORECASE),
)
_MARKS = str.maketrans(
    {**dict.fromkeys("‐‑‒–—﹣－", "-"), "＋": "+", "．": ".", "，": ","} | {chr(0xFF10 + k): str(k) for k in range(10)}
)
_GROUPS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:[ '’][0-9]{3})+(?:[.,][0-9]+)?")  # 1 250 and 1'250
_DAYS = re.compile(r"[0-9]{2}\s*[-–:;/ ]\s*[0-6]")  # 38-4, of weeks
_MONTHS = re.compile(r"[0-9]{1,3}[.,](?:[1-9]|10|11)")  # 3.11, of years
_BEFORE = re.compile(r"(<=|>=|<|>|≤|≥)\s*(\S.*)")
_AFTER = re.compile(r"(\S.*?)\s*\+")
_RANGE = re.compile(r"[0-9.]+\s*(?:-|–|to)\s*[0-9.]+")
_WITH_UNIT = re.compile(r"([+-]?[0-9][0-9.,]*)\s*([a-zµ%]+)\.?", re.IGNORECASE)
_UNIT = {
    **dict.fromkeys(("h", "hr", "hour"), "hour"),
    **dict.fromkeys(("d", "day"), "day"),
    **dict.fromkeys(("w", "wk", "week"), "week"),
    **dict.fromkeys(("m", "mo", "mth", "month"), "month"),
    **dict.fromkeys(("y", "yr", "year"), "year"),
    **dict.fromkeys(("g", "gr", "gm", "gram"), "g"),
    **dict.fromkeys(("kg", "kilo", "kilogram"), "kg"),
    **dict.fromkeys(("mm", "millimetre", "millimeter"), "mm"),
    **dict.fromkeys(("cm", "centimetre", "centimeter"), "cm"),
    **dict.fromkeys(("%", "percent", "pct", "prozent"), "%"),
}
_UNITS = frozenset(_UNIT.values())


@dataclass(frozen=True, eq=False)
class Numbers:
    """Values (n_rows,), NaN where missing; `bounds` is the sign of each censored value, "" for others."""

    values: np.ndarray
    bounds: tuple[str, ...]


def unit_word(unit: str) -> str:
    """Canonical spelling of a unit (`wks` and `Weeks` are `week`); unknown units are unchanged."""
    word = fold(unit).rstrip(".")
    if len(word) > 1 and word.endswith("s"):
        word = word[:-1]
    return _UNIT.get(word, word)


def is_unit(text: str) -> bool:
    """Whether a text is a unit that may stand behind a number."""
    return unit_word(text) in _UNITS


def numbers(
    column: pd.Series,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks = PLAIN,
    unit: str = "",
    censored: Censored | None = None,
) -> np.ndarray:
    """Cells as numbers (n_rows,), NaN where missing; see `read_numbers`."""
    return read_numbers(column, ids, file, findings, marks=marks, unit=unit, censored=censored).values


def read_numbers(
    column: pd.Series,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks = PLAIN,
    unit: str = "",
    censored: Censored | None = None,
) -> Numbers:
    """Cells as numbers, with the censored ones marked.

    Decimal commas are accepted unless they may be thousands separators; `29+4`, `29 4/7` and `29 weeks 4 days` are
    weeks and days if the unit is weeks; a unit after a number must be the declared one, or that of all cells; -9, 999
    and similar codes are missing if they are far from all other values.

    Args:
        unit: declared unit, "" for none.
        censored: whether `<55` and `89+` are read as their limit or as missing; without it they are problems.
    """
    name = str(column.name)
    cells = ["" if cell.casefold() == "none" else cell for cell in texts(column, marks.missing)]
    if all(not cell or _EXACT.fullmatch(cell) for cell in cells):
        exact = np.array([float(cell) if cell else np.nan for cell in cells])
        note_removed_values(texts(column), exact, name, marks, findings)
        return Numbers(without_codes(exact, name, findings), ("",) * len(cells))
    reader = _Reader(name, cells, marks.decimal, unit_word(unit))
    values, bounds = np.full(len(cells), np.nan), [""] * len(cells)
    wrong: dict[str, list[tuple[str, str]]] = {}
    seen: dict[str, tuple[float | None, str]] = {}
    for i, cell in enumerate(cells):
        if not cell:
            continue
        if cell not in seen:
            seen[cell] = reader.of(cell)
        value, bound = seen[cell]
        if bound and value is None and censored == "missing":
            bounds[i] = bound
        elif value is None or (bound and censored is None):
            kind = reader.doubt(cell, "" if value is None else bound)
            wrong.setdefault(kind, []).append((ids[i], repr(cell[:_LONGEST])))
        elif np.isinf(value):
            wrong.setdefault("infinite", []).append((ids[i], repr(cell[:_LONGEST])))
        elif not bound or censored == "limit":
            values[i], bounds[i] = value, bound
    for kind, rows in wrong.items():
        what, remedy = _SAID[kind]
        if remedy is not None and "{cells}" in remedy:
            distinct = list(dict.fromkeys(cell for _, cell in rows))
            shown = distinct[:_MOST_LISTED] + ["..."] * (len(distinct) > _MOST_LISTED)
            remedy = remedy.replace("{cells}", ", ".join(shown))
        if kind == "text" and len(rows) == sum(map(bool, cells)) > 1:
            remedy = "A column of words is a covariate of type: categorical, or an outcome with levels."
        findings.several(rows, f"column {name!r} {what}", file, remedy)
    n_bounds = sum(bool(bound) for cell, bound in zip(cells, (seen.get(cell, (None, ""))[1] for cell in cells)) if cell)
    if n_bounds and censored is not None:
        meaning = "their limit" if censored == "limit" else "missing"
        findings.notes.append(f"{name}: {n_bounds} censored values were read as {meaning}")
    _tell_conventions(reader, name, unit_word(unit), findings)
    note_removed_values(texts(column), values, name, marks, findings)
    return Numbers(without_codes(values, name, findings), tuple(bounds))


def _tell_conventions(reader: _Reader, name: str, unit: str, findings: Findings) -> None:
    """Add notes on what was determined from the whole column."""
    if reader.tenths_like_days:
        findings.notes.append(
            f"{name}: {reader.tenths_like_days} was read as tenths of a week, and no value ends in .7, .8 or .9; if "
            f"the decimal is a number of days, write {reader.tenths_like_days.replace(',', '.').replace('.', '+')}"
        )
    if reader.n_commas:
        commas = counted(reader.n_commas, "decimal comma was read as a point", "decimal commas were read as points")
        findings.notes.append(f"{name}: {commas}")
    if reader.unit != unit:
        findings.notes.append(f"{name}: the unit of all cells is {reader.unit}; give it as unit")


_SAID: dict[str, tuple[str, str | None]] = {
    "error": ("holds errors of a spreadsheet", "Fix the formulas, or write n/a."),
    "date": (
        "holds dates where a number belongs",
        "Compute the age, the difference of two dates, and name the column with it.",
    ),
    "days": (
        "holds cells that are no numbers of weeks",
        "If they are weeks and days, write 38+4; otherwise write one number.",
    ),
    "months": (
        "holds numbers that may be years and months",
        "Is 3.11 three years and eleven months? Write years with decimals (3.92), or two decimals in every cell.",
    ),
    "written": (
        "holds text where a number belongs",
        "Write plain numbers such as -1250.5 (weeks and days as 38+4); if a cell stands for a missing value, add "
        "missing: [{cells}] to the cohort file.",
    ),
    "text": (
        "holds text where a number belongs",
        "If it stands for a missing value, add missing: [{cells}] to the cohort file; otherwise correct the cells.",
    ),
    "comma": (
        "holds numbers that can be read in two ways",
        "Does the mark separate decimals or thousands? Write numbers without it, or set decimal: ',' or decimal: '.' "
        "in the cohort file.",
    ),
    "censored": (
        "holds censored values, and no rule for them is set",
        "Set censored: limit (each is read as its limit) or censored: missing for this column.",
    ),
    "range": (
        "holds ranges where a number belongs",
        "Write one number, or list them as missing: ['35-40', ...] in the cohort file.",
    ),
    "unit": (
        "holds numbers in another unit than the declared one or the others",
        "One column has one unit: convert these; or write the unit in every cell, and give it as unit.",
    ),
    "infinite": (
        "holds an infinite number",
        "If it stands for a missing value, add missing: [{cells}] to the cohort file; otherwise correct the cells.",
    ),
}


class _Reader:
    """Reader of single cells, with the convention determined from the whole column."""

    def __init__(self, name: str, cells: Sequence[str], decimal: str | None, unit: str) -> None:
        self.decimal = decimal
        cells = [_plain(cell) for cell in cells if len(cell) <= _LONGEST]
        marked = [match for cell in cells if (match := _WITH_UNIT.fullmatch(cell))]
        units = {unit_word(match.group(2)) for match in marked}
        bare = [cell for cell in cells if _NUMBER.fullmatch(cell) and cell not in CODES]
        self.unit = next(iter(units)) if len(units) == 1 and not unit and not bare and units <= _UNITS else unit
        percents = [float(m.group(1)) for m in marked if m.group(2) == "%" and _NUMBER.fullmatch(m.group(1))]
        self.has_fractions = max(percents, default=0.0) > 1 and any(map(_is_fraction, bare))
        self.has_fractions &= all(_is_fraction(cell) or float(cell) == 0 for cell in bare)
        with_comma = [cell for cell in cells if _COMMA.fullmatch(cell)]
        plain = [cell for cell in with_comma if not _THOUSANDS[","].fullmatch(cell)]
        self.n_commas = len(with_comma if decimal == "," else plain if decimal is None else [])
        self.has_decimal_commas = bool(plain) or decimal == ","
        decimals = {cell for cell in cells if _MONTHS.fullmatch(cell)}
        two = {cell for cell in decimals if cell[-3] in ".,"}
        known = {cell for cell in cells if cell and not cell.isdigit()}
        self.has_months = unit == "year" and decimals == known and decimals > two and any(c.endswith("10") for c in two)
        self.has_dates = are_dates_in_digits(name, [cell for cell in cells if cell and cell not in CODES])
        self.has_thousands_points = decimal is None and bool(points_of_thousands(bare))
        tenths = {match.group(): int(match.group(1)) for cell in cells if (match := _TENTHS.fullmatch(cell))}
        like_days = unit == "week" and bool(tenths) and max(tenths.values()) <= 6
        with_days = like_days and any(weeks_and_days(cell) is not None for cell in cells)
        self.tenths_like_days = (
            next(iter(tenths), "") if with_days or (like_days and len(tenths) >= _LEAST_TENTHS) else ""
        )

    def of(self, cell: str) -> tuple[float | None, str]:
        """Value and sign of the limit; None if the cell is not a number or is ambiguous."""
        if len(cell) > _LONGEST or (self.has_fractions and _is_fraction(cell)):
            return None, ""
        cell = _plain(cell)
        if (self.has_dates and cell not in CODES) or (self.has_months and _MONTHS.fullmatch(cell)):
            return None, ""
        value = self._number(cell)
        if value is not None:
            return value, ""
        if match := _BEFORE.fullmatch(cell):
            sign = {"≤": "<=", "≥": ">="}.get(match.group(1), match.group(1))
            return self._number(match.group(2)), sign
        if match := _AFTER.fullmatch(cell):
            return self._number(match.group(1)), ">="
        return None, ""

    def doubt(self, cell: str, bound: str) -> str:
        """Reason why a cell was not read."""
        if bound:
            return "censored"
        if fold(cell) in SPREADSHEET_ERRORS:
            return "error"
        if len(cell) <= _LONGEST:
            cell = _plain(cell)
            if self.has_dates or is_date(cell):
                return "date"
            if self.unit == "week" and _DAYS.fullmatch(cell):
                return "days"
            if self.has_months and _MONTHS.fullmatch(cell):
                return "months"
            if _RANGE.fullmatch(cell):
                return "range"
            if any(pattern.fullmatch(cell) for pattern in (_COMMA, *_THOUSANDS.values(), *_GROUPED.values())):
                return "comma"
            match = _WITH_UNIT.fullmatch(cell)
            if (match and unit_word(match.group(2)) in _UNITS) or (self.has_fractions and _is_fraction(cell)):
                return "unit"
            return "written" if any(c.isdigit() for c in cell) else "text"
        return "text"

    def _number(self, text: str) -> float | None:
        if _NUMBER.fullmatch(text):
            if not _THOUSANDS["."].fullmatch(text):
                return float(text)
            if self.decimal == ",":
                return float(text.replace(".", ""))
            return None if self.has_decimal_commas or self.has_thousands_points else float(text)
        if _COMMA.fullmatch(text):
            if self.decimal == ".":
                return float(text.replace(",", "")) if _THOUSANDS[","].fullmatch(text) else None
            two = self.decimal is None and _THOUSANDS[","].fullmatch(text)
            return None if two else float(text.replace(",", "."))
        if self.decimal and _GROUPED[self.decimal].fullmatch(text):
            mark = "," if self.decimal == "." else "."
            return float(text.replace(mark, "").replace(",", "."))
        if self.unit == "week" and (weeks := weeks_and_days(text)) is not None:
            return weeks
        match = _WITH_UNIT.fullmatch(text)
        if match and self.unit and unit_word(match.group(2)) == self.unit:
            return self._number(match.group(1))
        return None


def _plain(cell: str) -> str:
    """A cell with ASCII digits, marks and signs, and without separators of thousands that can be nothing else."""
    cell = cell if cell.isascii() else cell.translate(_MARKS)
    return re.sub("[ '’]", "", cell) if _GROUPS.fullmatch(cell) else cell


def _is_fraction(cell: str) -> bool:
    """Whether a cell is a number of at most 1, as .30 beside 45%."""
    return _NUMBER.fullmatch(cell) is not None and 0 < abs(float(cell)) <= 1


def weeks_and_days(cell: str) -> float | None:
    """`29+4`, `29 4/7` and `29 weeks 4 days` in weeks; None for anything else."""
    if len(cell) > _LONGEST:
        return None
    match = next((m for pattern in _WEEKS_DAYS if (m := pattern.fullmatch(cell))), None)
    return None if match is None else int(match.group(1)) + int(match.group(2) or 0) / 7
