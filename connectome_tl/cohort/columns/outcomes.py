"""Outcome columns: scores, targets, and the reasons for missing targets.

A missing outcome is NaN and has a status, `unknown` if no table states the reason. The user must declare the meaning
of death, untestable and censored scores for a task; if they occur without a declaration, the table is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.categories import outcome_levels
from connectome_tl.cohort.columns.codes import CODES
from connectome_tl.cohort.columns.numeric import read_numbers
from connectome_tl.cohort.columns.scales import note_scales
from connectome_tl.cohort.columns.status import (
    NO_CODES,
    read_status,
    status_column,
    status_word,
    with_status_words,
)
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import PLAIN, Marks, fold, nearest, texts, whole
from connectome_tl.errors import Problem
from connectome_tl.settings.columns import Outcome
from connectome_tl.tasks import Status, kind_named

_COMPOSITE = (40.0, 160.0)  # range of the Bayley composite scores (mean 100, SD 15)
_Z_UNITS, _Z = ("z", "sd", "sds", "z-score", "z score"), (-8.0, 8.0)


@dataclass(frozen=True, eq=False)
class OutcomeColumn:
    """One outcome: its column, targets and scores (n_rows,) with NaN, and a status for every row."""

    column: str
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
    marks: Marks = PLAIN,
    codes: Mapping[str, Mapping[str, str]] = NO_CODES,
) -> OutcomeColumn:
    """Read one outcome; problems are added to `findings`.

    Args:
        codes: names of the codes by column, from covariates and the table's dictionary.
    """
    column, marks = table[spec.column], marks.with_codes(spec.missing)
    levels = {fold(level) for level in spec.levels}
    said = [None if fold(cell) in levels else status_word(cell) for cell in column]
    said = [None if word == "observed" else word for word in said]
    cells = column.where(np.array([word is None for word in said], dtype=bool), "")
    scores, bounds = _scores(cells, spec, ids, file, findings, marks, codes.get(spec.column))
    targets = spec.task().from_scores(scores)
    _decide(spec, scores, bounds, targets, ids, file, findings)
    absent = np.isnan(targets)
    unread = absent & np.array([cell != "" for cell in texts(cells, marks.missing)], dtype=bool)
    table = with_status_words(table, spec, codes)
    status = read_status(table, spec, said, absent, unread, ids, file, findings)
    _check_range(spec, scores, ids, file, findings)
    meanings = "missing, positive or negative" if spec.task().form == "risk" else "missing"
    for state in ("died", "untestable"):
        rows = [i for i, found in enumerate(status) if found == state]
        rule = None if spec.status is None else getattr(spec.status, state)
        if rows and rule is None:
            findings.several(
                [(ids[i], state) for i in rows],
                f"no rule says what {state!r} means for outcome {spec.name!r}",
                file,
                f"Set status: {{column: {status_column(table, spec) or spec.column}, "
                f"{state}: {meanings}}} for this outcome.",
            )
        if rule in ("positive", "negative"):
            targets[rows] = float(rule == "positive")
    return OutcomeColumn(spec.column, targets, scores, tuple(status))


def _scores(
    cells: pd.Series,
    spec: Outcome,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    marks: Marks,
    codes: Mapping[str, str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scores (n_rows,) and, for censored ones, the sign of the limit."""
    if spec.levels:
        ranks = outcome_levels(cells, spec.name, spec.levels, ids, file, findings, marks=marks, codes=codes)
        return ranks, ("",) * len(cells)
    kind = kind_named(spec.kind)
    if kind.form == "risk" and spec.operator is None:
        values = read_numbers(cells, ids, file, Findings(), marks=marks, censored=spec.censored).values
        known = texts(cells, marks.missing)
        coded = sorted({cell for cell in known if whole(cell) in CODES})
        if coded:
            findings.notes.append(f"{spec.column}: {', '.join(coded)} was read as missing")
        wrong = [
            i
            for i, cell in enumerate(known)
            if cell and values[i] not in (0, 1) and cell not in coded and fold(cell) != "none"
        ]
        findings.several(
            [(ids[i], repr(cells.iloc[i][:60])) for i in wrong],
            f"binary outcome {spec.name!r} holds values other than 0 and 1",
            file,
            "Name the classes, levels: [negative, positive], or give operator and cutoff of a score.",
        )
        return np.where(np.isin(values, [0, 1]), values, np.nan), ("",) * len(cells)
    found = read_numbers(cells, ids, file, findings, marks=marks, unit=spec.unit, censored=spec.censored)
    note_scales(found.values, spec.column, findings)
    if kind.valid is not None and spec.operator is None:
        wrong = np.flatnonzero(~(np.isnan(found.values) | kind.valid(found.values))).tolist()
        findings.several(
            [(ids[i], f"{found.values[i]:g}") for i in wrong],
            f"{spec.kind} outcome {spec.name!r} holds {kind.invalid}",
            file,
        )
    return found.values, found.bounds


def _decide(
    spec: Outcome,
    scores: np.ndarray,
    bounds: Sequence[str],
    targets: np.ndarray,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
) -> None:
    """Set the classes of censored scores in `targets`, if the limit determines the side of the cut-off."""
    if spec.operator is None or spec.cutoff is None:
        return
    low_is_positive = spec.operator in ("<", "<=")
    open_: list[tuple[str, str]] = []
    for i, bound in enumerate(bounds):
        if not bound or np.isnan(scores[i]):
            continue
        below, limit, cut = bound.startswith("<"), float(scores[i]), float(spec.cutoff)
        without_limit = "=" not in bound
        if below:
            known = limit < cut or (limit == cut and (without_limit or spec.operator in ("<=", ">")))
        else:
            known = limit > cut or (limit == cut and (without_limit or spec.operator in ("<", ">=")))
        targets[i] = float(below == low_is_positive)
        if not known:
            open_.append((ids[i], f"{bound}{limit:g}"))
    findings.several(
        open_,
        f"a censored score does not decide whether outcome {spec.name!r} is {spec.operator} {spec.cutoff:g}",
        file,
        "Set censored: missing for this outcome, or another cutoff.",
    )


def _check_range(spec: Outcome, scores: np.ndarray, ids: Sequence[str], file: str | Path, findings: Findings) -> None:
    said = f"{spec.name} {spec.column} {spec.edition}".lower()
    if not any(word in said for word in ("bayley", "bsid")) or spec.unit == "scaled" or spec.levels:
        return
    if kind_named(spec.kind).form != "value" and spec.operator is None:
        return
    scale, (low, high) = ("range of z scores", _Z) if fold(spec.unit) in _Z_UNITS else ("composite range", _COMPOSITE)
    outside = np.flatnonzero((scores < low) | (scores > high)).tolist()
    findings.several(
        [(ids[i], f"{scores[i]:g}") for i in outside],
        f"outcome {spec.name!r} is outside the {scale} {low:g} to {high:g}",
        file,
        "Scaled scores are declared by unit: scaled, z scores by unit: z, further codes for a missing value by "
        "missing: [...] of this outcome.",
    )


def missing_columns(spec: Outcome, table: pd.DataFrame, file: str | Path) -> list[Problem]:
    """Columns an outcome names and the table lacks."""
    wanted = [spec.column] + ([spec.status.column] if spec.status is not None else [])
    return [
        Problem(
            f"outcome {spec.name!r} needs column {column!r}, which is missing",
            expected=f"one of {', '.join(table.columns[:30])}",
            file=file,
            remedy=f"Did you mean {' or '.join(near)}?" if (near := nearest(column, table.columns)) else None,
        )
        for column in wanted
        if column not in table.columns
    ]
