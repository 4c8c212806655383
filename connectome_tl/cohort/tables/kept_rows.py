"""Rows of the participants table that a cohort keeps: `select`, `exclude`, and the flow of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.ids import whole_ids
from connectome_tl.cohort.columns.participants import marks_of
from connectome_tl.cohort.findings import Findings, listed
from connectome_tl.cohort.tables.selection import columns_of, selected, unknown
from connectome_tl.errors import DataError, Problem
from connectome_tl.settings.cohort import CohortSettings, Exclusion
from connectome_tl.settings.records.results import FlowStep


def selects_among_events(settings: CohortSettings, table: pd.DataFrame, ids: Sequence[str]) -> bool:
    """Whether rows of a subject are events (REDCap) and `select` uses only columns of this table. It is then applied
    before further tables, possibly the same file, are joined."""
    if settings.select is None or len(set(ids)) == len(ids):
        return False
    named = columns_of(settings.select)
    return bool(named) and named <= set(table.columns)


def selected_rows(
    settings: CohortSettings, table: pd.DataFrame, file: Path, findings: Findings, flow: list[FlowStep]
) -> pd.DataFrame:
    """Rows that `select` keeps; a step of the flow."""
    if settings.select is None:
        return table
    ids, marks = whole_ids(table, settings.ids), marks_of(settings)
    keep = selected(table, settings.select, ids, marks=marks, file=file, notes=findings.notes)
    flow.append(flow_step(f"select: {settings.select}", keep, "not selected, or a value it needs is missing"))
    names = sorted(columns_of(settings.select) & set(table.columns))
    there = {name: list(dict.fromkeys(table[name])) for name in names}
    table = table[keep].reset_index(drop=True)
    if table.empty:
        held = [f"{name}: {listed(there[name], 6)}" for name in there]
        findings.problems.append(
            Problem("select keeps no row", got=settings.select, file=file, expected="; ".join(held) or None)
        )
    return table


def without_excluded(
    settings: CohortSettings, table: pd.DataFrame, file: Path, findings: Findings, flow: list[FlowStep]
) -> pd.DataFrame:
    """Drop the rows that a rule of `exclude` matches; each rule is a step of the flow."""
    for rule in settings.exclude:
        table = _excluded(rule, settings, table, file, findings, flow)
    if settings.exclude and table.empty:
        findings.problems.append(Problem("the exclusions leave no row", file=file))
    return table


def _excluded(
    rule: Exclusion,
    settings: CohortSettings,
    table: pd.DataFrame,
    file: Path,
    findings: Findings,
    flow: list[FlowStep],
) -> pd.DataFrame:
    ids, marks = whole_ids(table, settings.ids), marks_of(settings)
    try:
        out = selected(table, rule.when, ids, marks=marks, file=file, notes=findings.notes)
    except DataError as error:  # a column is missing because of another problem; list both
        findings.problems += error.problems
        return table
    open_ = unknown(table, rule.when, marks=marks) & ~out
    if rule.unknown == "refuse":
        findings.several(
            [(ids[i], "a missing value") for i in np.flatnonzero(open_).tolist()],
            f"the exclusion {rule.when!r} cannot be decided",
            file,
            "Set unknown: keep or unknown: exclude in this rule.",
        )
    n_open = int(open_.sum())
    out = out | open_ if rule.unknown == "exclude" else out
    also = f"; {n_open} of them with a missing value" if n_open and rule.unknown == "exclude" else ""
    if n_open and rule.unknown == "keep":
        findings.notes.append(f"exclude: {rule.when}: {n_open} whose value is missing were kept")
    flow.append(flow_step(f"exclude: {rule.when}", ~out, rule.reason + also))
    return table[~out].reset_index(drop=True)


def without_connectome(n_subjects: int, reasons: Mapping[str, str]) -> FlowStep:
    """A step without exclusions that states the number of missing connectomes and the reasons."""
    counts = Counter(reasons.values())
    why = "; ".join(f"{n} without: {reason}" for reason, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])))
    n_with = n_subjects - len(reasons)
    return FlowStep(label=f"{n_with} with a connectome", n_left=n_subjects, reason=why)


def flow_step(label: str, keep: np.ndarray, reason: str) -> FlowStep:
    """A step that keeps these rows and states the reason for the exclusion of others, if any."""
    n_excluded = int((~keep).sum())
    return FlowStep(label=label, n_left=int(keep.sum()), n_excluded=n_excluded, reason=reason if n_excluded else "")
