"""Describe a cohort for tables and reports: counts, distributions, missing outcomes."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.people import people_of
from connectome_tl.settings.records.results import CohortRecord, OutcomeCounts, TableRow

_MISSING = ("lost", "died", "untestable", "unknown")
_MOST_LEVELS = 8


def describe(cohort: Cohort, role: Literal["source", "pool", "target", "cohort"] = "cohort") -> CohortRecord:
    """The cohort's record: flow, outcome counts, and a table of all variables.

    The table has one column for all subjects and, if outcomes are missing, one each for subjects with all outcomes and
    with missing outcomes, since loss to follow-up is usually not random.
    """
    complete = ~cohort.targets.isna().any(axis=1).to_numpy() if cohort.tasks else np.ones(cohort.n_subjects, bool)
    groups = {"all": np.ones(cohort.n_subjects, dtype=bool)}
    if not complete.all() and complete.any():
        groups |= {"all outcomes known": complete, "an outcome missing": ~complete}
    missing = (~cohort.node_mask).sum(axis=0)
    return CohortRecord(
        name=cohort.name,
        role=role,
        n_subjects=cohort.n_subjects,
        n_regions=cohort.n_regions,
        atlas=cohort.atlas,
        measures=cohort.measures,
        people=people_of(cohort),
        flow=cohort.flow,
        outcomes=tuple(_counts(cohort, task.name, task.is_binary) for task in cohort.tasks),
        table_groups=tuple(f"{name} (n = {int(rows.sum())})" for name, rows in groups.items()),
        table=tuple(_rows(cohort, list(groups.values()))),
        missing_regions=tuple((region, int(n)) for region, n in zip(cohort.regions, missing, strict=True) if n),
        covariates=tuple(spec.column for spec in cohort.covariate_specs),
        n_volumes=sum(bool(volume) for volume in cohort.volumes),
    )


def _counts(cohort: Cohort, task: str, is_binary: bool) -> OutcomeCounts:
    targets, status = cohort.targets[task], cohort.status[task]
    known, missing = targets.notna(), status[targets.isna()].value_counts()
    return OutcomeCounts(
        task=task,
        observed=int(known.sum()),
        by_status=int((known & (status != "observed")).sum()),
        **{state: int(missing.get(state, 0)) for state in _MISSING},
        n_positive=int((targets == 1).sum()) if is_binary else None,
    )


def _rows(cohort: Cohort, groups: list[np.ndarray]) -> list[TableRow]:
    rows: list[TableRow] = []
    if cohort.age_unit:
        since = "" if cohort.age_reference == "birth" else f", {cohort.age_reference}"
        rows.append(_numeric(f"age{since} ({cohort.age_unit})", cohort.age, groups))
    for spec in cohort.covariate_specs:
        said = spec.unit in re.split(r"[^\w]+|_", spec.column)  # the column's own name has it
        unit = f" ({spec.unit})" if spec.unit and not said else ""
        column = cohort.covariates[spec.column]
        if spec.type == "numeric":
            rows.append(_numeric(f"{spec.column}{unit}", column.to_numpy(dtype=float), groups))
        else:
            rows += _levels(spec.column, column, groups)
    if any(cohort.site):
        rows += _levels("site", pd.Series([value or None for value in cohort.site], dtype="str"), groups)
    if any(cohort.family):
        shared = pd.Series([value for value in cohort.family if value]).duplicated(keep=False)
        rows.append(
            TableRow(variable="in families of several", values=(str(int(shared.sum())), *[""] * (len(groups) - 1)))
        )
    for task in cohort.tasks:
        values = cohort.targets[task.name].to_numpy(dtype=float)
        if task.is_binary:
            rows.append(TableRow(variable=f"{task.label}: positive", values=tuple(_share(values, g) for g in groups)))
        elif task.form == "value" and not (cohort.age_unit and cohort.is_age(task.name)):
            rows.append(_numeric(task.label, values, groups))
    return rows


def _numeric(variable: str, values: np.ndarray, groups: list[np.ndarray]) -> TableRow:
    """Median, quartiles and number of missing values."""
    texts = []
    for group in groups:
        here = values[group]
        known = here[~np.isnan(here)]
        if known.size == 0:
            texts.append("n/a")
            continue
        low, middle, high = np.percentile(known, [25, 50, 75])
        absent = f", {here.size - known.size} missing" if known.size < here.size else ""
        texts.append(f"{middle:.4g} [{low:.4g}, {high:.4g}]{absent}")
    return TableRow(variable=variable, values=tuple(texts))


def _levels(variable: str, column: pd.Series, groups: list[np.ndarray]) -> list[TableRow]:
    counts = column.value_counts()
    rows = []
    for level in list(counts.index[:_MOST_LEVELS]):
        hits = column.eq(level).to_numpy(dtype=bool, na_value=False)
        rows.append(TableRow(variable=f"{variable}: {level}", values=tuple(_count(hits, group) for group in groups)))
    if len(counts) > _MOST_LEVELS:
        rest = column.isin(list(counts.index[_MOST_LEVELS:])).to_numpy(dtype=bool)
        label = f"{variable}: {len(counts) - _MOST_LEVELS} more"
        rows.append(TableRow(variable=label, values=tuple(_count(rest, group) for group in groups)))
    absent = column.isna().to_numpy()
    if absent.any():
        rows.append(TableRow(variable=f"{variable}: missing", values=tuple(_count(absent, group) for group in groups)))
    return rows


def _count(hits: np.ndarray, group: np.ndarray) -> str:
    n = int(group.sum())
    here = int(hits[group].sum())
    return f"{here} ({100 * here / n:.0f} %)" if n else "0"


def _share(values: np.ndarray, group: np.ndarray) -> str:
    known = values[group & ~np.isnan(values)]
    return f"{int((known == 1).sum())} of {known.size}"
