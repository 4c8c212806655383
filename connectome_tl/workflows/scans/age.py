"""Age at scan from sessions.tsv or participants.tsv of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.tables.dictionaries import Dictionary
from connectome_tl.cohort.tables.saved import Findings, numbers, read_table
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, Problem, raise_all
from connectome_tl.imaging.read.inputs import Inventory
from connectome_tl.imaging.register.templates import months_of
from connectome_tl.settings.columns import AgeColumn

_DHCP = AgeColumn(column="scan_age", unit="weeks", reference="postmenstrual")
Cells = dict[tuple[str, str | None], float]  # ages by subject and session
_PLACES = ("", "derivatives/*/", "*/")  # the last one for the pipelines of a dHCP release


@dataclass(frozen=True)
class ScanAges:
    """Ages by scan, and reasons for missing ages.

    Attributes:
        column: specification of the ages; None if no table has ages.
    """

    column: AgeColumn | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    problems: Mapping[str, Problem] = field(default_factory=dict)

    def months(self, scan: str) -> float | None:
        """Months from term; None if the age is unknown."""
        if self.column is None or scan not in self.values:
            return None
        return months_of(self.values[scan], self.column.unit, self.column.reference)

    def of(self, scan: str) -> str:
        """An age with its unit and reference, as text."""
        if self.column is None or scan not in self.values:
            return "age unknown"
        since = "from birth" if self.column.reference == "birth" else self.column.reference
        return f"{self.values[scan]:g} {self.column.unit} {since}"


def read_ages(inventory: Inventory, declared: AgeColumn | None) -> ScanAges:
    """Age of every scan, including those not processed in this run, from the declared column.

    The default is `scan_age` of sessions.tsv, as in the dHCP.

    Ages in participants.tsv are used only for subjects with one session, since the session is otherwise unknown.

    Raises:
        MissingInputError: no table has the declared column. DataError: an age is not a number.
    """
    column = declared or _DHCP
    found, seen, findings, doubts = _declared_cells(inventory, column, participants=declared is not None)
    if declared is not None:
        raise_all("ages cannot be read", findings.problems, DataError)
    raise_all("the unit or reference of the ages is not known", doubts.problems, DataError)
    if not found and declared is not None:
        raise MissingInputError(
            f"no table has the column {column.column}",
            expected="in sub-*/sub-*_sessions.tsv (with session_id) or participants.tsv (with participant_id)",
            got=", ".join(sorted(seen)) or "no table",
            file=inventory.root,
        )
    return _by_scan(found, inventory, column) if found else ScanAges()


def _declared_cells(
    inventory: Inventory, column: AgeColumn, *, participants: bool
) -> tuple[Cells, set[str], Findings, Findings]:
    """Ages of all tables, names of their columns, cells that are no ages, and what would give a wrong age.

    Args:
        participants: whether to read participants.tsv, too; sessions.tsv takes precedence.
    """
    found: Cells = {}
    seen: set[str] = set()
    findings, doubts = Findings(), Findings()
    files = sorted(file for place in _PLACES for file in inventory.root.glob(f"{place}sub-*/sub-*_sessions.tsv"))
    for file in files:
        table = _table(file, "session_id", column, findings, doubts, seen)
        rows = [(file.parent.name, session) for session in table.get("session_id", ())]
        found |= _ages(table, rows, file, column, findings, doubts, inventory.root / "sessions.tsv")
    shared = inventory.root / "participants.tsv"
    if participants and shared.is_file():
        table = _table(shared, "participant_id", column, findings, doubts, seen)
        names = [str(name) for name in table.get("participant_id", ())]
        visits_of = table.get("session_id", [None] * len(names))  # several rows of a subject, as nf-pediatric has them
        found = _ages(table, list(zip(names, visits_of, strict=True)), shared, column, findings, doubts) | found
    return found, seen, findings, doubts


def _by_scan(found: Cells, inventory: Inventory, column: AgeColumn) -> ScanAges:
    """Ages of all scans, and reasons for those that are missing."""
    values: dict[str, float] = {}
    problems: dict[str, Problem] = {}
    visits = {subject: _sessions(inventory.root, subject) for subject in {subject for subject, _ in found}}
    others: set[tuple[str, str | None]] = {(subject, session) for subject, session in found if session is not None}
    others |= {(subject, session) for subject, _ in found for session in (*visits[subject],) or (None,)}
    of_run = {(scan.subject, scan.session): scan for scan in inventory.scans}
    for subject, session in sorted(others | set(of_run), key=str):
        age = found.get((subject, session), np.nan)
        several = len(visits[subject] if subject in visits else _sessions(inventory.root, subject)) > 1
        if np.isnan(age) and not several:
            age = found.get((subject, None), np.nan)
        if np.isfinite(age):
            values[subject if session is None else f"{subject}_{session}"] = float(age)
        elif (subject, session) in of_run:
            scan = of_run[subject, session]
            one = several and (subject, None) in found
            problems[scan.name] = Problem(
                "participants.tsv has one age for several sessions" if one else "the age at scan is missing",
                expected=f"{column.column} in {column.unit}",
                subject=scan.name,
                remedy=f"Put it into {scan.subject}/{scan.subject}_sessions.tsv." if scan.session else None,
            )
    return ScanAges(column, values, problems)


def _table(
    file: Path, key: str, column: AgeColumn, findings: Findings, doubts: Findings, seen: set[str]
) -> pd.DataFrame:
    """A table with ages; empty if it has no such column or, which is a problem, cannot be read."""
    try:
        table = read_table(file, notes=[])  # the inventory reports its encoding
    except ConnectomeTLError as error:
        # What was not fetched (a broken link) or is no regular file is listed in the inventory, and the rest is used.
        (doubts if file.is_file() else findings).problems += error.problems
        return pd.DataFrame()
    seen |= set(table.columns)
    return table if {key, column.column} <= set(table.columns) else pd.DataFrame()


def _ages(
    table: pd.DataFrame,
    rows: list[tuple[str, str | None]],
    file: Path,
    column: AgeColumn,
    findings: Findings,
    doubts: Findings,
    inherited: Path | None = None,
) -> Cells:
    """Ages by subject and session; reports conflicting units in the JSON file and conflicting ages of a scan.

    Args:
        rows: subject and session of each row, as they are written.
        findings: cells that are no ages. doubts: what would give a wrong age.
        inherited: a table whose JSON counts for this one, too.
    """
    if table.empty:
        return {}
    said = Dictionary()
    for place in (inherited, file):
        table = table if place is None else said.add(table, place, doubts)
    said.check_ages([column], doubts)
    keys = [(_labelled(str(who), "sub-"), None if not ses else _labelled(str(ses), "ses-")) for who, ses in rows]
    names = ["_".join(filter(None, key)) for key in keys]
    values = numbers(table[column.column], names, file, findings, unit=column.unit)
    found: Cells = {}
    for key, name, age in zip(keys, names, values.tolist(), strict=True):
        before = found.get(key, np.nan)
        if np.isfinite(before) and np.isfinite(age) and before != age:
            doubts.problems.append(
                Problem(
                    "two rows give two ages",
                    got=f"{before:g} and {age:g} {column.unit}",
                    subject=name,
                    file=file,
                    remedy="Leave one row, or add a column session_id.",
                )
            )
        found[key] = before if np.isnan(age) else age
    return found


def _labelled(name: str, prefix: str) -> str:
    return name if name.startswith(prefix) else prefix + name


def _sessions(root: Path, subject: str) -> set[str]:
    """Sessions of a subject in the folder, also those that this command leaves out."""
    return {path.name for place in _PLACES for path in root.glob(f"{place}{subject}/ses-*") if path.is_dir()}
