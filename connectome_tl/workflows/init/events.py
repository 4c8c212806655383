"""Tables with one row per event or visit of a subject, such as exports of REDCap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from connectome_tl.cohort.columns.guesses import ColumnGuess, guess_columns
from connectome_tl.cohort.columns.ids import condition, event_columns
from connectome_tl.cohort.tables.cells import is_missing, texts


@dataclass(frozen=True)
class FurtherEvent:
    """An event whose rows are joined: the condition that keeps them, and the columns that are taken from it."""

    select: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Events:
    """How rows of events become one row per subject.

    Attributes:
        table: cells, one row per subject. ids: the id column.
        select: condition that keeps the rows of the participants, the event of most subjects.
        more: the other events. several: columns with values at several events, each with the event that is used.
        n_without: number of subjects without a row of that event.
    """

    table: pd.DataFrame
    ids: str
    select: str
    more: tuple[FurtherEvent, ...]
    several: tuple[tuple[str, str], ...]
    n_without: int


def id_and_event(cells: pd.DataFrame) -> tuple[str, str] | None:
    """The columns of subjects with several rows and of the event, session or visit of each row; None without them."""
    for event in event_columns(cells):
        ids = _ids_beside(cells, event)
        if ids is not None:
            return ids, event
    return None


def _ids_beside(cells: pd.DataFrame, event: str) -> str | None:
    """The column that, together with the event, identifies each row; of several the one with most values."""
    events = texts(cells[event])
    found: dict[str, int] = {}
    for name in map(str, cells.columns):
        values = texts(cells[name])
        repeated = name != event and all(values) and 1 < len(set(values)) < len(values)
        if repeated and len(set(zip(values, events, strict=True))) == len(values):
            found[name] = len(set(values))
    return max(found, key=lambda name: found[name], default=None)


def without_later_ages(events: Events | None, columns: Sequence[ColumnGuess]) -> tuple[ColumnGuess, ...]:
    """The guesses; an age from the event of an outcome may be that at follow-up and is no age at scan."""
    if events is None:
        return tuple(columns)
    further = {column: one.select for one in events.more for column in one.columns}
    late = {further.get(one.column, events.select) for one in columns if one.meaning == "outcome"}
    return tuple(
        replace(one, meaning="other")
        if one.meaning == "age" and further.get(one.column, events.select) in late
        else one
        for one in columns
    )


def _guessed(column: pd.Series) -> ColumnGuess:
    return guess_columns(column.to_frame(), [])[0]


def events_of(cells: pd.DataFrame, ids: str, event: str) -> Events:
    """Join the rows of each subject.

    A column with values at the event of the participants is taken from there; of the others, outcomes from the last
    event that has values, and all else from the first.

    Args:
        cells: cells as text. ids, event: columns that identify a row together.
    """
    names = texts(cells[event])
    order = list(dict.fromkeys(name for name in names if not is_missing(name)))
    counts = Counter(names)
    base = max(order, key=lambda name: counts[name])
    rows = {name: cells[[one == name for one in names]].set_index(ids) for name in order}
    wide = rows[base].copy()
    taken: dict[str, list[str]] = {}
    several: list[tuple[str, str]] = []
    for column in (str(name) for name in wide.columns if name != event):
        known = [name for name in order if not all(map(is_missing, rows[name][column]))]
        if not known:
            continue
        used = base if base in known else known[0]
        if used != base and len(known) > 1 and _guessed(rows[known[-1]][column]).meaning == "outcome":
            used = known[-1]
        if used != base:
            taken.setdefault(used, []).append(column)
            wide[column] = rows[used][column].reindex(wide.index).fillna("")
        if len(known) > 1:
            several.append((column, used))
    return Events(
        table=wide.drop(columns=event).reset_index(),
        ids=ids,
        select=condition(event, base),
        more=tuple(FurtherEvent(condition(event, name), tuple(taken[name])) for name in order if name in taken),
        several=tuple(several),
        n_without=len(set(cells[ids])) - len(wide),
    )
