"""Check, join and compare subject ids, and group subjects into families."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import fold, is_missing, whole
from connectome_tl.connectome.names.labels import doubled
from connectome_tl.errors import Problem
from connectome_tl.plurals import counted

# In English, German, French, Spanish and Italian, as spreadsheets abbreviate them.
_MONTHS = (
    "jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec|mrz|mär|mai|juni?|juli?|okt|dez|janv|févr?|fevr?|mars|avr|juin"
    "|juil|août|aout|déc|ene|abr|ago|dic|gen|mag|giu|lug|set|ott"
)
_EATEN = re.compile(
    rf"^\d+\.0$|^\d([.,]\d+)?e\+?\d+$|^#[\w/]+[!?]$|^\d{{1,2}}[-. ]{{1,2}}({_MONTHS})\.?([- ]\d+)?$"
    rf"|^({_MONTHS})\.?[- ](\d\d|(19|20)\d\d)$|^\d{{4}}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?$"
    r"|^\d{1,2}\.\d{1,2}\.(\d{4}|\d\d)$|^'",
    re.IGNORECASE,
)
# First cells of lines above or below the rows of a table.
_SUMMARY = re.compile(
    r"((grand )?total|sum|summe|gesamt|mean|average|mittelwert|moyenne|media|median|médiane|sd|std|min|max|count"
    r"|anzahl)( ?[(±:/].*)?|n ?(= ?\d+)?|\*.*|(note|source|legend|anmerkung)\b.*|\(\d+ (rows?|subjects?)\)",
    re.IGNORECASE,
)
# An id with the mark of a further scan or of a twin behind the number of a subject.
_FURTHER = re.compile(
    r"(.*[0-9])(?:[_. -](?:(?:scan|rescan|retest|repeat|visit|time|tp|wave|t|v)[_.-]?[0-9]{0,2}|(?P<bare>[0-9]{1,2}))"
    r"|[_. -]?(?P<letter>[a-d]))"
)
# Letters of the Cyrillic and Greek scripts, in lower case, whose capitals look like Latin ones, and dashes.
_LOOKALIKES: dict[int, str | int | None] = {
    **str.maketrans("авекмнорстухіјѕԁһ", "abekmhopctyxijsdh"),
    **str.maketrans("αβεζηικμνορτυχ", "abezhikmnoptyx"),
    **dict.fromkeys(map(ord, "‐‑‒–—―"), "-"),
}
_MISTYPED = str.maketrans("oil_. ", "011---")
_LAST = 5  # last lines of a table that may be such lines
_LONGEST = 200
_EVENTS = (
    *("redcap event name", "event name", "redcap repeat instrument", "repeat instrument"),
    *("redcap repeat instance", "repeat instance", "session id", "session", "visit", "event", "timepoint", "wave"),
)


def subject_ids(
    column: pd.Series, file: str | Path, findings: Findings, *, table: pd.DataFrame, participants: Iterable[str] = ()
) -> tuple[str, ...]:
    """Ids of the rows; reports ids that are empty, duplicated, damaged by a spreadsheet, or unsafe as file names.

    Args:
        table: the rows that the ids are of; its columns are used to suggest how to select one of several rows of a
        subject.
        participants: ids of the participants, if rows are scans.
    """
    ids = tuple(str(value) for value in column)
    without = [str(i + 1) for i, subject in enumerate(ids) if is_missing(subject)]
    if without:
        many = f"row{'s' if len(without) > 1 else ''} {', '.join(without[:20])}{' ...' if len(without) > 20 else ''}"
        have = "have" if len(without) > 1 else "has"
        remedy = "Give each row its id, or leave these rows out with select."
        findings.problems.append(Problem(f"{many} {have} no subject id", file=file, remedy=remedy))
    known = [subject for subject in dict.fromkeys(ids) if not is_missing(subject)]
    unsafe = [one for one in known if re.search(r"[/\\\x00-\x1f]", one) or one.startswith(".") or len(one) > _LONGEST]
    findings.several([(one[:60], repr(one[:60])) for one in unsafe], "a subject id cannot be used in a file name", file)
    eaten = [one for one in known if _EATEN.match(one[:_LONGEST])]
    if len(eaten) == len(known) > 1 and len({re.split(r"[\W\d]", fold(one))[0] for one in known} - {""}) == 1:
        eaten = []  # SET-01, SET-02, ...: the prefix of a study
    findings.several(
        [(one[:60], repr(one[:60])) for one in eaten],
        "a subject id looks changed by a spreadsheet",
        file,
        "Import the id column as text.",
    )
    if sum(any(c.isdigit() for c in one) for one in known) * 2 > len(known):
        outer = dict.fromkeys((*known[:1], *known[-_LAST:]))
        findings.several(
            [(one[:60], repr(one[:60])) for one in outer if _SUMMARY.fullmatch(one[:_LONGEST])],
            "a line above or below the rows of the table is not a subject",
            file,
            "Remove it, or leave it out with select.",
        )
    twice = [one for one in doubled(ids) if not is_missing(one)]
    count = Counter(ids)
    findings.several(
        [(one, counted(count[one], "row")) for one in twice],
        "the subject id occurs twice",
        file,
        _one_row_each(table, ids),
    )
    padded: dict[str, list[str]] = {}
    for subject in dict.fromkeys((*known, *participants)):
        padded.setdefault(bare(subject), []).append(subject)
    alike = [names for names in padded.values() if len(names) > 1]
    findings.several(
        [(names[0], " and ".join(names) + odd_letters(*names)) for names in alike],
        "ids differ only in case, zero padding, prefix or characters that look alike",
        file,
        "Write each subject's id in one way.",
    )
    return ids


def _one_row_each(table: pd.DataFrame, ids: Sequence[str]) -> str:
    """Remedy for several rows of a subject, with the column names of this table."""
    found = one_of_several(table, ids)
    if found is None:
        return "One row per subject and scan; `select` keeps one of several visits."
    select, column, values = found
    return (
        f'The rows are events; {column} holds {values}. Keep one with select: "{select}", and name this file once for '
        f'each other event: tables: [{{file: ..., select: "{column} == ...", columns: [...]}}].'
    )


def one_of_several(table: pd.DataFrame, ids: Sequence[str]) -> tuple[str, str, str] | None:
    """A condition that keeps one of several rows of a subject, its column as conditions write it, and its values.

    The column is that of the events or visits of a longitudinal table, by its name; None if there is none.
    """
    twice = set(doubled(ids))
    rows = [i for i, one in enumerate(ids) if one in twice]
    columns = event_columns(table)
    pairs = {name: [(ids[i], str(table[name].iloc[i])) for i in rows] for name in columns}
    differ = [name for name in columns if len(set(pairs[name])) > len(twice)]
    tells = next((name for name in differ if len(set(pairs[name])) == len(rows)), next(iter(differ), None))
    if tells is None:
        return None
    values = list(dict.fromkeys("" if is_missing(value) else value for _, value in pairs[tells]))
    column = tells if tells.isidentifier() else f"`{tells}`"
    return condition(tells, values[0]), column, ", ".join(value or "nothing" for value in values[:6])


def event_columns(table: pd.DataFrame) -> list[str]:
    """Columns of events or visits, by their names, those of REDCap first."""
    named = {" ".join(fold(str(name)).replace("_", " ").split()): str(name) for name in table.columns}
    return [named[name] for name in _EVENTS if name in named]


def repeat_column(table: pd.DataFrame) -> str:
    """The column of REDCap's repeated instruments, "" without one."""
    return next((name for name in event_columns(table) if "repeat" in name.casefold()), "")


def condition(column: str, value: str) -> str:
    """The condition, for `select`, that a column holds a value."""
    return f"{column if column.isidentifier() else f'`{column}`'} == {value!r}"


def whole_ids(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """One id per row from one or several columns (participant, session), joined as in BIDS: `sub-01_ses-1`.

    Sessions get the prefix `ses-` if the table lacks it (dHCP). "" if a part is missing.
    """
    parts = [[str(value) for value in table[columns[0]]]]
    for name in columns[1:]:
        prefix = "ses-" if name.lower().startswith("ses") else ""
        parts.append(
            [
                f"{prefix}{whole(str(value)).removeprefix(prefix)}" if not is_missing(value) else ""
                for value in table[name]
            ]
        )
    return ["_".join(row) if all(row) and not is_missing(row[0]) else "" for row in zip(*parts, strict=True)]


def bare(subject: str) -> str:
    """An id in lower case, without `sub-` and leading zeros of numbers, with Latin letters and digits for those that
    look like them, for comparisons."""
    text = fold(subject)
    if not text.isascii():
        text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text.translate(_LOOKALIKES))
    return _without_zeros(re.sub(r"(?<=[0-9])o(?=[0-9]|$)", "0", text.removeprefix("sub-")))


def mistyped(subject: str) -> str:
    """An id as `bare` writes it, with 0 for O and 1 for I and l, and separators between digits only."""
    text = re.sub(r"(?<![0-9])-+|-+(?![0-9])", "", bare(subject).translate(_MISTYPED))
    return _without_zeros(text.removeprefix("sub"))


def _without_zeros(text: str) -> str:
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", text)


def written_alike(without: Iterable[str], extra: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of an id without data and an id of data of nobody that differ only in how they are written."""
    ids, names = list(without), list(extra)
    pairs: dict[str, str] = {}
    for spelling in (bare, mistyped):
        alike = {spelling(name): name for name in names}
        for one in ids:
            if one not in pairs and (name := alike.get(spelling(one))) is not None:
                pairs[one] = name
    return list(pairs.items())


def odd_letters(*names: str) -> str:
    """Text on characters that look like Latin letters, digits or hyphens and are none; "" where there are none."""
    odd = {c for name in names for c in name if not c.isascii() and bare(f"x{c}").isascii()}
    return "".join(f"; {c} is {unicodedata.name(c, 'unnamed').lower()}" for c in sorted(odd))


@lru_cache(maxsize=100_000)
def first_scan(name: str) -> str:
    """`cc1` for `cc1_2`, `cc1-scan2` or `cc1b`, which name a further scan or a twin if `cc1` is an id, too; "" for
    others. After a number without letters, a number or a letter is no such mark.

    Args:
        name: an id as `bare` writes it.
    """
    found = _FURTHER.fullmatch(name[:_LONGEST])
    if found is None or ((found["bare"] or found["letter"]) and not any(c.isalpha() for c in found[1])):
        return ""
    return found[1]


def names_of(subject: str, participant: str = "", family: str = "") -> frozenset[str]:
    """Names of a row, in one spelling: the id, the participant, the family. Rows that share a name are relatives.

    The participant of a BIDS id is the part before `_ses-`.
    """
    own = frozenset({bare(subject), bare(participant or subject).split("_ses-")[0]})
    return own | names_of_family(family) if family else own


def names_of_family(family: str) -> frozenset[str]:
    """Names of a family: its own, and that of the member it may be named after, unless it is a number."""
    name = bare(family)
    return frozenset({family_called(name)} if name.isdigit() else {family_called(name), name})


def family_called(name: str) -> str:
    """The name of a family, different from the names of all subjects."""
    return f"family {name}"


def joined(columns: Sequence[Sequence[str]]) -> list[str]:
    """One family label per row (n_rows,): rows that share a value in any column belong together,
    also through others (twins of a repeated scan). The label is a value of the first column that has one.
    "" where a row shares nothing and has no value."""
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
    for column in columns:
        for i, value in enumerate(column):
            if value:
                label.setdefault(root(i), value)
    return [label.get(root(i), "") for i in range(n_rows)]
