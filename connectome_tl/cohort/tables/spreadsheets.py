"""Read Excel sheets as rows of text with openpyxl. Formulas are not computed; their stored values are read."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectome_tl.cohort.columns.numeric import is_unit
from connectome_tl.cohort.tables.cells import clean
from connectome_tl.cohort.tables.merged import Merged, plain_header
from connectome_tl.connectome.names.labels import listed
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.files import is_there
from connectome_tl.plurals import counted

_ZIP, _OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_MAX_BYTES = 100_000_000  # of all parts once unpacked
_MAX_CELLS = 2_000_000
# Number formats of ids ("sub-"000) and of measures with a unit (0.0 "kg").
_OF_IDS = re.compile(r'(?:"(?P<before>[^"]*\w[^"]*)")?(?P<zeros>0+)')
_OF_UNITS = re.compile(r'[#,0.?]+(?:\\? )*"(?P<unit>[^"]+)"')
_AS_TEXT = "Save the sheet as a .csv or .tsv file (UTF-8)."


def is_spreadsheet(path: str | Path) -> bool:
    """Return whether a file is an Excel file, whatever its name.

    Raises:
        DataError: a spreadsheet of another kind (.xls, .ods, .numbers).
    """
    try:
        if not is_there(path):
            return False  # the text reader reports the problem
        with Path(path).open("rb") as file:
            start = file.read(4)
    except (OSError, ValueError):
        return False
    if start == _OLD:
        raise DataError("an old Excel file (.xls) is not read", file=path, remedy=_AS_TEXT)
    if start != _ZIP:
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names, size = archive.namelist(), sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"a damaged spreadsheet: {error}", file=path, remedy=_AS_TEXT) from error
    if "xl/workbook.xml" not in names:
        raise DataError("a spreadsheet or archive of a kind that is not read", file=path, remedy=_AS_TEXT)
    if size > _MAX_BYTES:
        raise DataError("too large for a spreadsheet", file=path, expected=f"at most {_MAX_BYTES} bytes unpacked")
    return True


def spreadsheet_rows(path: str | Path, notes: list[str] | None = None) -> Sequence[Sequence[str]]:
    """Read the cells of the only visible sheet that is not empty, as text; hidden rows and columns are read too.

    Args:
        notes: takes a line for each title that is dropped, for a header of merged cells that is joined, and for what
            is hidden or struck out.

    Raises:
        UsageError: openpyxl is not installed. DataError: damaged, several filled sheets, merged cells below
            the header, or formulas whose values were never stored.
    """
    try:
        from openpyxl import load_workbook  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as error:
        raise UsageError(
            "an Excel file is read with openpyxl, which is not installed",
            file=path,
            remedy=f'pip install "connectome-tl[xlsx]" (or openpyxl). Or: {_AS_TEXT}',
        ) from error
    try:
        data = Path(path).read_bytes()
        book, formulas = load_workbook(io.BytesIO(data), data_only=True), load_workbook(io.BytesIO(data))
        filled = [sheet for sheet in book.worksheets if sheet.max_row * sheet.max_column > 1 or sheet["A1"].value]
        sheets = [sheet for sheet in filled if sheet.sheet_state == "visible"] or filled
        if len(sheets) > 1:
            names = ", ".join(repr(sheet.title) for sheet in sheets[:8])
            raise DataError(
                "the workbook has several sheets that are not empty, and a table must be one sheet",
                file=path,
                got=names,
                remedy="Save the required sheet as a separate file (.xlsx, .csv or .tsv).",
            )
        if not sheets:
            raise DataError("the table is empty", file=path)
        rows = _rows(sheets[0], formulas[sheets[0].title], path)
        if notes is not None:
            hidden = [repr(sheet.title) for sheet in filled if sheet is not sheets[0]]
            said = [f"hidden sheets were not read: {', '.join(hidden)}"] if hidden else []
            notes += [f"{Path(path).name}: {line}" for line in (*said, *_hidden(sheets[0]))]
        return plain_header(rows, _merged(sheets[0]), path, notes)
    except ConnectomeTLError:
        raise
    except Exception as error:  # openpyxl raises many types for a damaged file
        raise DataError(f"a damaged Excel file: {type(error).__name__}", file=path, remedy=_AS_TEXT) from error


def _rows(sheet: Any, formulas: Any, path: str | Path) -> list[list[str]]:
    if sheet.max_row * sheet.max_column > _MAX_CELLS:
        raise DataError(
            "too many cells for a spreadsheet",
            file=path,
            expected=f"at most {_MAX_CELLS}",
            got=f"{counted(sheet.max_row, 'row')}, {counted(sheet.max_column, 'column')}",
            remedy="Delete cells far from the table, or save it as .csv.",
        )
    rows = []
    for values, written in zip(sheet.iter_rows(), formulas.iter_rows(), strict=True):
        for cell, own in zip(values, written, strict=True):
            if cell.value is None and own.data_type == "f":
                raise DataError(
                    "a formula whose value is not stored in the file",
                    file=path,
                    got=f"cell {cell.coordinate}",
                    remedy="Open the file in a spreadsheet program and save it again.",
                )
        rows.append([_shown(cell) for cell in values])
    return rows


def _hidden(sheet: Any) -> list[str]:
    """Notes on hidden rows and columns, and on rows that are struck out."""
    rows = [i for i, row in sheet.row_dimensions.items() if row.hidden]
    columns = [letter for letter, column in sheet.column_dimensions.items() if column.hidden]
    out = [row[0].row for row in sheet.iter_rows(max_col=1) if row[0].has_style and row[0].font.strike]
    leave = "if they are to be left out, delete them or use select"
    found = (("hidden rows", sorted(rows)), ("hidden columns", columns), ("struck-out rows", out))
    return [f"{what} were read like the others ({listed(which, 6)}); {leave}" for what, which in found if which]


def _merged(sheet: Any) -> list[Merged]:
    return [
        Merged(
            str(one),
            clean(text_of(sheet.cell(one.min_row, one.min_col).value)),
            one.min_row - 1,
            one.max_row - 1,
            one.min_col - 1,
            one.max_col - 1,
        )
        for one in sheet.merged_cells.ranges
    ]


def _shown(cell: Any) -> str:
    """Text of a cell, with what its number format adds: `21%`, `007`, `sub-07`, `3.2 kg`; no digit is rounded away."""
    value, form = cell.value, str(cell.number_format).split(";")[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or form == "General":
        return text_of(value)
    if form.rstrip().endswith("%"):
        return f"{text_of(float(f'{100 * value:.12g}'))}%"
    if (unit := _OF_UNITS.fullmatch(form)) and is_unit(unit["unit"]):
        return f"{text_of(value)} {unit['unit'].strip()}"
    found = _OF_IDS.fullmatch(form) if value >= 0 and value == int(value) else None
    return f"{found['before'] or ''}{text_of(value).zfill(len(found['zeros']))}" if found else text_of(value)


def text_of(value: Any) -> str:
    """Format a stored value as text, as typed by a user."""
    if value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
