"""Tables with several rows per subject (events, visits), and tables that are joined by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.file_ids import without_prefix
from connectome_tl.cohort.columns.guesses import ColumnGuess, guess_columns
from connectome_tl.cohort.columns.ids import condition, event_columns, repeat_column
from connectome_tl.cohort.tables.cells import is_missing, texts
from connectome_tl.connectome.names.labels import doubled
from connectome_tl.errors import DataError

SEVERAL_ROWS = "Keep one row per subject; or add a column `visit` with another value in each row of a subject."


@dataclass(frozen=True)
class Joined:
    """Rows that are joined to those of the participants.

    Attributes:
        columns: the columns that are taken. select: condition that keeps the rows; "" for all.
        file: another table; None for that of the participants. ids: its id column, "" if it has the same name.
    """

    columns: tuple[str, ...]
    select: str = ""
    file: Path | None = None
    ids: str = ""


@dataclass(frozen=True)
class Events:
    """How rows of events become one row per subject.

    Attributes:
        table: cells, one row per subject. ids: the id column.
        select: condition that keeps the rows of the participants, the event of most subjects.
        joined: the other events. several: columns with values at several events, each with the event that is used.
        n_without: number of subjects without a row of that event.
    """

    table: pd.DataFrame
    ids: str
    select: str
    joined: tuple[Joined, ...]
    several: tuple[tuple[str, str], ...]
    n_without: int


def ids_and_events(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of columns that may be those of subjects with several rows and of the event, session or visit of each row:
    together they identify a row. Repeated instruments of REDCap are left out."""
    cells = _unrepeated(cells)
    pairs = []
    for event in event_columns(cells):
        events = texts(cells[event])
        for name in (str(one) for one in cells.columns if str(one) != event):
            rows = [row for row in zip(texts(cells[name]), events, strict=True) if not is_missing(row[0])]
            n_values = len({value for value, _ in rows})
            if 2 * len(rows) > len(cells) and 1 < n_values < len(rows) == len(set(rows)):
                pairs.append((name, event))
    return pairs


def _repeats(cells: pd.DataFrame) -> tuple[str, np.ndarray]:
    """The column of repeated instruments, "" without one, and whether each row is of one, (n_rows,)."""
    name = repeat_column(cells)
    return name, np.array([bool(name) and not is_missing(one) for one in texts(cells[name or cells.columns[0]])])


def _unrepeated(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[~_repeats(cells)[1]]


def _condition(cells: pd.DataFrame, event: str, name: str) -> str:
    """The condition that keeps the rows of an event, without repeated instruments."""
    repeat, rows = _repeats(cells)
    here = np.array([one == name for one in texts(cells[event])])
    return condition(event, name) + (f" and {condition(repeat, '')}" if (rows & here).any() else "")


def events_of(cells: pd.DataFrame, ids: str, event: str) -> Events:
    """Join the rows of each subject.

    A column with values at the event of the participants is taken from there; of the others, outcomes from the last
    event that has values, and all else from the first.

    Args:
        cells: cells as text. ids, event: columns that identify a row together.
    """
    rows = _rows_by_event(cells, ids, event)
    base = max(rows, key=lambda name: len(rows[name]))
    used, several = _used(rows, base)
    wide = rows[base].copy()
    for column, name in used.items():
        wide[column] = rows[name][column].reindex(wide.index).fillna("")
    return Events(
        table=wide.reset_index(),
        ids=ids,
        select=_condition(cells, event, base),
        joined=tuple(
            Joined(tuple(column for column in used if used[column] == name), _condition(cells, event, name))
            for name in rows
            if name != base and name in used.values()
        ),
        several=several,
        n_without=len({one for part in rows.values() for one in part.index}) - len(wide),
    )


def _rows_by_event(cells: pd.DataFrame, ids: str, event: str) -> dict[str, pd.DataFrame]:
    """The rows of each event, by id, in the order of the table, without rows that lack an id."""
    cells = _unrepeated(cells)
    cells = cells[[not is_missing(one) for one in texts(cells[ids])]]
    names = texts(cells[event])
    order = dict.fromkeys(name for name in names if not is_missing(name))
    return {name: cells[[one == name for one in names]].set_index(ids).drop(columns=event) for name in order}


def _used(rows: Mapping[str, pd.DataFrame], base: str | None) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The event that each column with values is taken from, and those with values at several events."""
    used: dict[str, str] = {}
    several: list[tuple[str, str]] = []
    for column in map(str, next(iter(rows.values())).columns):
        known = [name for name, cells in rows.items() if not all(map(is_missing, cells[column]))]
        if not known:
            continue
        is_outcome = len(known) > 1 and _meaning(rows[known[-1]][column]) == "outcome"
        used[column] = base if base in known and base is not None else known[-1 if is_outcome else 0]
        if len(known) > 1:
            several.append((column, used[column]))
    return used, tuple(several)


def _meaning(column: pd.Series) -> str:
    return guess_columns(column.to_frame(), [])[0].meaning


def with_further(
    cells: pd.DataFrame, keys: Sequence[str], file: Path, further: pd.DataFrame
) -> tuple[pd.DataFrame, tuple[Joined, ...]]:
    """The cells with the new columns of a further table, and how they are joined.

    Args:
        cells: one row per subject. keys: its columns with ids of subjects (or scans), one of which the table has.
        further: cells of the table.

    Raises:
        DataError: no column has ids of the subjects, or subjects have several rows for an unknown reason.
    """
    key, ids = _shared_ids(cells, keys, file, further)
    own = [without_prefix(one) for one in texts(cells[key])]
    further = further[[not is_missing(one) for one in texts(further[ids])]]
    twice = doubled([without_prefix(one) for one in texts(further[ids])])
    if twice:
        found = next((pair for pair in ids_and_events(further) if pair[0] == ids), None)
        if found is None:
            got = f"{twice[0]!r} in several rows of column {ids!r}"
            raise DataError("subjects have several rows", got=got, file=file, remedy=SEVERAL_ROWS)
        rows = {_condition(further, found[1], name): part for name, part in _rows_by_event(further, *found).items()}
    else:
        rows = {"": further.set_index(ids)}
    used, _ = _used(rows, None)
    used = {column: select for column, select in used.items() if column not in cells.columns}
    of_subjects = {
        name: part.set_axis([without_prefix(str(one)) for one in part.index]).reindex(own)
        for name, part in rows.items()
    }
    new = {column: of_subjects[select][column].fillna("").to_numpy() for column, select in used.items()}
    wide = pd.concat([cells, pd.DataFrame(new, index=cells.index)], axis=1)
    named = "" if ids == keys[-1] else ids
    joined = (
        Joined(tuple(column for column in used if used[column] == select), select, file, named) for select in rows
    )
    return wide, tuple(one for one in joined if one.columns)


def _shared_ids(cells: pd.DataFrame, keys: Sequence[str], file: Path, further: pd.DataFrame) -> tuple[str, str]:
    """The id column of the subjects, and that of a further table with the most of these ids."""
    hits: dict[tuple[str, str], int] = {}
    for key in keys:
        own = {without_prefix(one) for one in texts(cells[key]) if one}
        for name in map(str, further.columns):
            hits[key, name] = len(own & {without_prefix(one) for one in texts(further[name])})
    best = max(hits, key=lambda pair: hits[pair])
    if hits[best] < min(2, len(cells)):
        raise DataError(
            "no column of the further table holds the ids of the subjects",
            file=file,
            expected=f"ids such as {texts(cells[keys[0]])[0]}",
            got=f"columns {', '.join(map(str, further.columns[:12]))}",
            remedy="Write the ids as in the first table.",
        )
    return best


def without_later_ages(
    joined: Sequence[Joined], events: Events | None, columns: Sequence[ColumnGuess]
) -> tuple[ColumnGuess, ...]:
    """The guesses; an age from the same event or further table as an outcome may be that at follow-up, and is not taken
    as that at scan."""
    part = {column: one for one in joined for column in one.columns}
    late = {part.get(one.column) for one in columns if one.meaning == "outcome"}
    late -= {None} if events is None else set()
    return tuple(
        replace(one, meaning="other") if one.meaning == "age" and part.get(one.column) in late else one
        for one in columns
    )
