"""Check participants.tsv and scans.tsv of a BIDS folder against its files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from connectome_tl.errors import ConnectomeTLError, Problem
from connectome_tl.files import read_table_text, regular_file
from connectome_tl.imaging.read.text import read_number_rows

_MAX_BYTES = 50_000_000
_POINTERS = {b"/annex/objects/": "datalad get", b"version https://git-lfs": "git lfs pull --include"}
_POINTER_BYTES = 1000


def table_problems(folder: Path, subjects: set[str]) -> list[Problem]:
    """Differences between tables (participants.tsv, scans.tsv) and files, and unreadable tables."""
    problems: list[Problem] = []
    participants = folder / "participants.tsv"
    listed = _column(participants, "participant_id", problems)
    if listed is not None:
        named = [label if label.startswith("sub-") else f"sub-{label}" for label in listed]
        by_session = _column(participants, "session_id", []) is not None
        problems += [
            Problem(
                "occurs twice in participants.tsv",
                subject=s,
                remedy="Cells that differ are missing in the cohort; add a column session_id to distinguish rows.",
            )
            for s in sorted({s for s in named if named.count(s) > 1 and not by_session})
        ]
        problems += _unmatched(listed, set(named), subjects)
    for table in sorted(folder.glob("sub-*/sub-*_sessions.tsv")):
        _column(table, "session_id", problems)
    for table in sorted(folder.glob("sub-*/**/*_scans.tsv")):
        subject = table.relative_to(folder).parts[0]
        for name in _column(table, "filename", problems) or []:
            if not any((place / name).is_file() for place in (table.parent, *table.parent.glob("*/"))):
                problems.append(Problem("scans.tsv names a missing file", got=name, subject=subject, file=table))
    return problems


def _unmatched(listed: list[str], named: set[str], subjects: set[str]) -> list[Problem]:
    """Subjects of the table without a folder, and the other way round; one problem if all are."""
    if named and subjects and not named & subjects:
        remedy = (
            "Write participant_id as in the names of the folders; until then the columns of the table are not used."
        )
        what = "participants.tsv names no subject of this folder"
        return [Problem(what, expected=f"{min(subjects)} and the like", got=listed[0], remedy=remedy)]
    absent = [Problem("is in participants.tsv but has no folder", subject=s) for s in sorted(named - subjects)]
    return absent + [
        Problem("has a folder but is not in participants.tsv", subject=s) for s in sorted(subjects - named)
    ]


def _column(table: Path, column: str, problems: list[Problem]) -> list[str] | None:
    if not os.path.lexists(table):
        return None
    try:
        text, note = read_table_text(table, limit=_MAX_BYTES)
    except ConnectomeTLError as error:
        problems += error.problems
        return None
    if note:
        problems.append(Problem(f"{note}; BIDS requires UTF-8", file=table))
    lines = text.replace('"', "").splitlines()
    header = lines[0].rstrip().split("\t") if lines else []
    if column not in header:
        remedy = (
            "BIDS separates columns by tabs." if len(header) == 1 and any(mark in header[0] for mark in ",;") else None
        )
        problems.append(Problem(f"has no column {column}", file=table, got=", ".join(header), remedy=remedy))
        return None
    at = header.index(column)
    return [cell for line in lines[1:] if len(cells := line.split("\t")) > at and (cell := cells[at].strip())]


def unfetched(file: Path, subject: str | None = None) -> Problem | None:
    """Problem of a file that cannot be opened, or whose content is not fetched (a DataLad link, a pointer of Git)."""
    try:
        regular_file(file, subject=subject)
    except ConnectomeTLError as error:
        return error.problems[0]
    if not os.access(file, os.R_OK):
        remedy = f"Ask its owner for the right to read it: chmod a+r {file.name}."
        return Problem("no permission to read the file", subject=subject, file=file, remedy=remedy)
    if file.stat().st_size <= _POINTER_BYTES:
        start = file.read_bytes()
        for sign, command in _POINTERS.items():
            if start.startswith(sign):
                what = "the content of the file is not fetched; it has only a pointer to it"
                return Problem(what, subject=subject, file=file, remedy=f"Get it first: {command} {file.name}.")
    return None


def is_unweighted(bval: Path | None, b0_max: float) -> bool:
    """Whether no b-value of a file exceeds `b0_max` (s/mm2); False if it cannot be read."""
    try:
        values = read_number_rows(bval, joined=True).ravel() if bval is not None else np.zeros(0)
    except ConnectomeTLError:
        return False
    return bool(values.size) and bool(values.max() <= b0_max)


def padding_problems(labels: set[str], subject: str | None = None) -> list[Problem]:
    """Problems for labels that differ only in zero padding or case, such as sub-1 and sub-01.

    Args:
        labels: of subjects, or of the sessions of one subject.
    """
    remedy = "Are they the same child?" if subject is None else "Are they the same visit?"
    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        groups.setdefault(re.sub(r"(?<=\D)0+(?=\d)", "", label.lower()), []).append(label)
    return [
        Problem("labels that differ only in zeros or case", got=", ".join(same), subject=subject, remedy=remedy)
        for same in groups.values()
        if len(same) > 1
    ]
