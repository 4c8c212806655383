"""Match the rows of a table with the files of a folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.columns.file_ids import id_pattern, ids_written_differently
from connectome_tl.cohort.columns.guesses import ColumnGuess, guess_columns
from connectome_tl.cohort.columns.ids import whole_ids
from connectome_tl.cohort.tables.cells import texts
from connectome_tl.cohort.tables.saved import NAME_COLUMNS, read_table, row_for_header
from connectome_tl.connectome.names.labels import doubled
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.files import is_hidden
from connectome_tl.plurals import counted
from connectome_tl.workflows.init.events import (
    SEVERAL_ROWS,
    Events,
    Joined,
    events_of,
    ids_and_events,
    with_further,
    without_later_ages,
)

_MOST_FILES = 200_000
_SESSION = re.compile(r"(?<=ses-)[A-Za-z0-9]+")


@dataclass(frozen=True)
class MatchedRows:
    """Rows of a table, and the files of their subjects.

    Attributes:
        cells: one row per subject or scan. ids: the column of the ids in the names of the files.
        patterns: patterns of the files with `{id}`, each with its number of rows, see `id_pattern`.
        events: the events that the rows of the table are, if they are. joined: what is joined to the rows.
        scan_ids: columns of subject and session, if rows are scans; `ids` joins them.
    """

    cells: pd.DataFrame
    ids: str
    patterns: tuple[tuple[str, int], ...]
    events: Events | None = None
    scan_ids: tuple[str, ...] = ()
    joined: tuple[Joined, ...] = ()

    @property
    def columns(self) -> tuple[ColumnGuess, ...]:
        """Guesses on all columns but those of the ids."""
        return without_later_ages(self.joined, self.events, guess_columns(self.cells, [self.ids, *self.scan_ids]))


def matched_rows(folder: Path, tables: Sequence[Path]) -> MatchedRows:
    """The rows with the files of a folder. Of a subject with several rows, either each row has its own files (scans),
    or the rows are events that are joined.

    Args:
        tables: the table of the participants, and further ones that are joined by id.

    Raises:
        MissingInputError: no table, no folder, or an empty one. DataError: no column has ids that occur in file names,
            a table without these ids, or subjects have several rows for an unknown reason.
    """
    return _with_tables(_with_files(_files(folder, tables), tables[0], cells_of(tables[0])), tables[1:])


def rows_of(cells: pd.DataFrame, ids: str, further: Sequence[Path]) -> MatchedRows:
    """The rows of subjects whose id column is known; events are joined, and further tables.

    Raises:
        MissingInputError: no table. DataError: a table without these ids, or with several rows for an unknown reason.
    """
    rows = MatchedRows(cells, ids, ())
    keys = next((pair for pair in ids_and_events(cells) if pair[0] == ids), None)
    if keys is not None:
        events = events_of(cells, *keys)
        rows = replace(rows, cells=events.table, events=events, joined=events.joined)
    return _with_tables(rows, further)


def _with_tables(rows: MatchedRows, further: Sequence[Path]) -> MatchedRows:
    for file in further:
        cells, joined = with_further(rows.cells, [rows.ids, *rows.scan_ids[:1]], file, cells_of(file))
        rows = replace(rows, cells=cells, joined=(*rows.joined, *joined))
    return rows


def cells_of(table: Path) -> pd.DataFrame:
    """The cells of a table as text.

    Raises:
        MissingInputError: no table. DataError: no header.
    """
    cells = read_table(table, notes=[])  # the cohort that is written notes the encoding
    if (line := row_for_header(cells)) is not None:
        raise DataError(f"the table has no header: its first line is {line}", file=table, remedy=NAME_COLUMNS)
    return cells


def _with_files(files: list[str], table: Path, cells: pd.DataFrame) -> MatchedRows:
    pairs = ids_and_events(cells)
    for keys in pairs:
        joined = " and ".join(keys)
        scans = cells.assign(**{joined: whole_ids(cells, keys)})
        of_scans = id_pattern(scans[[joined]], files)
        if of_scans is not None:
            return MatchedRows(scans, *of_scans, scan_ids=keys)
    found = _patterns(cells, files, table)
    if found is not None and not doubled(texts(cells[found[0]])):
        return MatchedRows(cells, *found)
    for keys in pairs:
        subjects = cells[[keys[0]]].drop_duplicates()
        of_subjects = _patterns(subjects, files, table)
        if of_subjects is not None:
            events = events_of(cells, *keys)
            return MatchedRows(events.table, *of_subjects, events=events, joined=events.joined)
    if found is None:
        raise _no_ids(cells, files, table)
    return MatchedRows(cells, *found)


def _patterns(cells: pd.DataFrame, files: list[str], table: Path) -> tuple[str, tuple[tuple[str, int], ...]] | None:
    """As `id_pattern`, with `ses-*` in the patterns if the label of the session differs between subjects.

    Raises:
        DataError: subjects have files of several sessions.
    """
    found = id_pattern(cells, files)
    names = Counter(_SESSION.sub("*", file) for file in files)
    general = id_pattern(cells, list(names))
    if general is None or (found is not None and found[1][0][1] >= general[1][0][1]):
        return found
    ids = [one.removeprefix("sub-") for one in texts(cells[general[0]])]
    several = next((one for one in ids if names[general[1][0][0].replace("{id}", one)] > 1), None)
    if several is not None:
        raise DataError(
            "subjects have files of several sessions",
            file=table,
            got=f"several files of {several}",
            remedy="Add a column `session_id`, with one row per session; or keep the files of one session only.",
        )
    return general


def _files(matrices: Path, tables: Sequence[Path]) -> list[str]:
    """Names of the files in a folder and below it, without hidden ones and the tables.

    Raises:
        MissingInputError: no such folder, or nothing in it. DataError: too many files.
    """
    if not matrices.is_dir():
        raise MissingInputError("folder not found", file=matrices)
    names = [path.relative_to(matrices) for path in sorted(matrices.rglob("*")) if path.is_file()]
    own = {table.resolve() for table in tables}
    shown = [name.as_posix() for name in names if not any(map(is_hidden, name.parts))]
    files = [name for name in shown if (matrices / name).resolve() not in own]
    if not files:
        raise MissingInputError("there is no file in this folder", expected="one file per subject", file=matrices)
    if len(files) > _MOST_FILES:
        got = counted(len(files), "file")
        raise DataError("too many files to look through", expected=f"at most {_MOST_FILES}", got=got, file=matrices)
    return files


def _no_ids(cells: pd.DataFrame, files: Sequence[str], table: Path) -> DataError:
    """Why no file has a subject: several rows of each, ids that are written in another way, or none at all."""
    for name in map(str, cells.columns):
        if id_pattern(cells[[name]].drop_duplicates(), files) is not None:
            return DataError(
                "subjects have several rows, and no column distinguishes them",
                file=table,
                got=f"{doubled(texts(cells[name]))[0]!r} in several rows of column {name!r}",
                remedy=SEVERAL_ROWS,
            )
    alike = ids_written_differently(cells, files)
    if alike is not None:
        column, cell, file = alike
        return DataError(
            f"the ids in column {column!r} are written differently in the names of the files",
            file=table,
            got=f"{cell!r} in the table, {file} among the files",
            remedy="Leading zeros, capital letters, blanks or hyphens differ. Write the ids as in the names of the "
            "files (in a spreadsheet: import the column as text), or rename the files.",
        )
    return DataError(
        "no column of the table holds ids that occur in the names of the files",
        file=table,
        expected=f"a column with the ids of names such as {files[0]}",
        got=f"columns {', '.join(map(str, cells.columns[:12]))}",
        remedy="Add a column with the id as in the file names, or rename the files. If one file has the matrices of "
        "all subjects: --matrices FILE.",
    )
