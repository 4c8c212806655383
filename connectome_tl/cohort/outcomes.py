"""Outcome columns: scores, targets, and why a target is missing.

A missing outcome is NaN and has a status. What death and untestable mean for a task is said by the
user; where they occur and nothing is said, the table is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.tables import MISSING_WORDS, Findings, numbers, texts
from connectome_tl.errors import Problem
from connectome_tl.settings.cohort import Outcome
from connectome_tl.tasks import Status

_WORDS: dict[str, Status] = {
    **dict.fromkeys(("observed", "seen", "assessed", "tested", "complete", "completed"), "observed"),
    **dict.fromkeys(("lost", "ltfu", "lost to follow-up", "not seen", "withdrawn", "dropout", "missing"), "lost"),
    **dict.fromkeys(("died", "dead", "deceased", "death"), "died"),
    **dict.fromkeys(("untestable", "not testable", "unable", "could not be tested"), "untestable"),
}
_COMPOSITE = (40.0, 160.0)  # range of the Bayley composite scores (mean 100, SD 15)


@dataclass(frozen=True, eq=False)
class OutcomeColumn:
    """One outcome: targets and scores (n_rows,) with NaN, and a status for every row."""

    targets: np.ndarray
    scores: np.ndarray
    status: tuple[Status, ...]


def read_outcome(
    table: pd.DataFrame,
    spec: Outcome,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    codes: Sequence[str] = (),
) -> OutcomeColumn:
    """Read one outcome; every fault goes to `findings`."""
    column = table[spec.column]
    said = [_WORDS.get(cell.casefold()) for cell in column]
    said = [word if word in ("died", "untestable") else None for word in said]
    cells = column.where(np.array([word is None for word in said], dtype=bool), "")
    scores = _scores(cells, spec, ids, file, findings, codes)
    targets = spec.task().from_scores(scores)
    status = _status(table, spec, said, np.isnan(targets), ids, file, findings)
    _check_range(spec, scores, ids, file, findings)
    for state in ("died", "untestable"):
        rows = [i for i, found in enumerate(status) if found == state]
        rule = None if spec.status is None else getattr(spec.status, state)
        if rows and rule is None:
            findings.several(
                [(ids[i], state) for i in rows],
                f"no rule says what {state!r} means for outcome {spec.name!r}",
                file,
                f"Say status: {{column: ..., {state}: missing, positive or negative}}.",
            )
        if rule in ("positive", "negative"):
            targets[rows] = float(rule == "positive")
    return OutcomeColumn(targets, scores, tuple(status))


def _scores(
    cells: pd.Series, spec: Outcome, ids: Sequence[str], file: str | Path, findings: Findings, codes: Sequence[str]
) -> np.ndarray:
    if spec.levels:
        rank = {level: float(i) for i, level in enumerate(spec.levels)}
        written = texts(cells, codes)
        wrong = [(ids[i], repr(cell)) for i, cell in enumerate(written) if cell and cell not in rank]
        findings.several(
            wrong, f"outcome {spec.name!r} holds a value that is none of its levels {', '.join(spec.levels)}", file
        )
        return np.array([rank.get(cell, np.nan) for cell in written])
    if spec.kind == "binary" and spec.operator is None:
        written = texts(cells, codes)
        values = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "": np.nan}
        wrong = [(ids[i], repr(cell[:60])) for i, cell in enumerate(written) if cell not in values]
        findings.several(
            wrong,
            f"binary outcome {spec.name!r} holds something else than 0 and 1",
            file,
            "Name the classes, levels: [negative, positive], or give operator and cutoff of a score.",
        )
        return np.array([values.get(cell, np.nan) for cell in written])
    scores = numbers(cells, ids, file, findings, codes=codes, weeks_and_days=spec.unit == "weeks")
    if spec.kind == "ordinal":
        wrong = [(ids[i], f"{scores[i]:g}") for i in np.flatnonzero(scores % 1 > 0).tolist()]
        findings.several(wrong, f"ordinal outcome {spec.name!r} holds a broken number", file)
    return scores


def _status(
    table: pd.DataFrame,
    spec: Outcome,
    said: Sequence[Status | None],
    absent: np.ndarray,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
) -> list[Status]:
    derived: list[Status] = ["lost" if missing else "observed" for missing in absent]
    status = [word or found for word, found in zip(said, derived, strict=True)]
    column = _status_column(table, spec)
    if column is None:
        return status
    unknown: list[tuple[str, str]] = []
    against: list[tuple[str, str]] = []
    for i, cell in enumerate(table[column]):
        if cell.casefold() in MISSING_WORDS and cell.casefold() != "missing":
            continue
        word = _WORDS.get(cell.casefold())
        if word is None:
            unknown.append((ids[i], repr(cell[:60])))
        elif (word == "observed") == bool(absent[i]):
            against.append((ids[i], f"status {cell!r} {'without' if absent[i] else 'with'} a value"))
        else:
            status[i] = word
    findings.several(
        unknown,
        f"status column {column!r} holds an unknown word",
        file,
        "Known are observed, lost, died, untestable.",
    )
    findings.several(against, f"outcome {spec.name!r} and its status contradict each other", file)
    return status


def _status_column(table: pd.DataFrame, spec: Outcome) -> str | None:
    """The declared status column; else one that plainly is one and tells of a death or an untestable infant."""
    if spec.status is not None:
        return spec.status.column if spec.status.column in table.columns else None
    for name in table.columns:
        if name == spec.column or not any(word in name.lower() for word in ("status", "vital", "follow", "outcome")):
            continue
        words = [_WORDS.get(cell.casefold()) for cell in table[name] if cell.casefold() not in MISSING_WORDS]
        if words and None not in words and any(word in ("died", "untestable") for word in words):
            return str(name)
    return None


def _check_range(spec: Outcome, scores: np.ndarray, ids: Sequence[str], file: str | Path, findings: Findings) -> None:
    said = f"{spec.name} {spec.column} {spec.edition}".lower()
    if not any(word in said for word in ("bayley", "bsid")) or spec.unit == "scaled" or spec.levels:
        return
    if spec.kind != "regression" and spec.operator is None:
        return
    low, high = _COMPOSITE
    outside = np.flatnonzero((scores < low) | (scores > high)).tolist()
    findings.several(
        [(ids[i], f"{scores[i]:g}") for i in outside],
        f"outcome {spec.name!r} is outside the composite range {low:g} to {high:g}",
        file,
        "Scaled scores are declared by unit: scaled; other missing-value codes by missing: [...].",
    )


def missing_columns(spec: Outcome, table: pd.DataFrame, file: str | Path) -> list[Problem]:
    """Columns an outcome names and the table lacks."""
    wanted = [spec.column] + ([spec.status.column] if spec.status is not None else [])
    return [
        Problem(f"outcome {spec.name!r} names column {column!r}, which is not there", file=file)
        for column in wanted
        if column not in table.columns
    ]
