"""Check participants.tsv and scans.tsv of a BIDS folder against its files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from connectome_tl.errors import ConnectomeTLError, Problem
from connectome_tl.files import read_text, regular_file

_MAX_BYTES = 50_000_000


def table_problems(folder: Path, subjects: set[str]) -> list[Problem]:
    """Disagreements between tables and files: participants.tsv, scans.tsv; tables that cannot be read."""
    problems: list[Problem] = []
    listed = _column(folder / "participants.tsv", "participant_id", problems)
    if listed is not None:
        named = [label if label.startswith("sub-") else f"sub-{label}" for label in listed]
        problems += [
            Problem("occurs twice in participants.tsv", subject=s)
            for s in sorted({s for s in named if named.count(s) > 1})
        ]
        problems += [
            Problem("is in participants.tsv but has no folder", subject=s) for s in sorted(set(named) - subjects)
        ]
        problems += [
            Problem("has a folder but is not in participants.tsv", subject=s) for s in sorted(subjects - set(named))
        ]
    for table in sorted(folder.glob("sub-*/sub-*_sessions.tsv")):
        _column(table, "session_id", problems)
    for table in sorted(folder.glob("sub-*/**/*_scans.tsv")):
        subject = table.relative_to(folder).parts[0]
        for name in _column(table, "filename", problems) or []:
            if not ((table.parent / name).is_file() or any(table.parent.glob(f"*/{name}"))):
                problems.append(
                    Problem("scans.tsv names a file that is not there", got=name, subject=subject, file=table)
                )
    return problems


def _column(table: Path, column: str, problems: list[Problem]) -> list[str] | None:
    if not os.path.lexists(table):
        return None
    try:
        lines = read_text(table, limit=_MAX_BYTES).splitlines()
    except ConnectomeTLError as error:
        problems += error.problems
        return None
    header = lines[0].rstrip().split("\t") if lines else []
    if column not in header:
        problems.append(Problem(f"has no column {column}", file=table, got=", ".join(header)))
        return None
    at = header.index(column)
    return [cells[at].strip() for line in lines[1:] if len(cells := line.split("\t")) > at]


def unfetched(file: Path, subject: str | None = None) -> Problem | None:
    """Why a file cannot be opened: in a DataLad dataset most often a link to content that was not fetched."""
    try:
        regular_file(file, subject=subject)
    except ConnectomeTLError as error:
        return error.problems[0]
    return None


def is_unweighted(bval: Path | None, b0_max: float) -> bool:
    """Whether a file of b-values holds none that weights (above `b0_max` s/mm2); False where that cannot be read."""
    try:
        values = [float(word) for word in read_text(bval, limit=_MAX_BYTES).split()] if bval is not None else []
    except (ConnectomeTLError, ValueError):
        return False
    return bool(values) and max(values) <= b0_max


def padding_problems(subjects: set[str]) -> list[Problem]:
    """sub-1 and sub-01 are two folders and hardly two children."""
    groups: dict[str, list[str]] = {}
    for subject in sorted(subjects):
        groups.setdefault(re.sub(r"(?<=\D)0+(?=\d)", "", subject.lower()), []).append(subject)
    return [
        Problem("labels that differ only in zeros or case", got=", ".join(same), remedy="Are they the same child?")
        for same in groups.values()
        if len(same) > 1
    ]
