"""Cohorts, fits and predictions as the plain records that the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.evaluation.nested_cv import CrossValidation
from connectome_tl.settings.results import CohortRecord, OutcomeCounts, Prediction, TableRow, TrainingCurve
from connectome_tl.tasks import Task

_STAGE_ORDER = ("pretrain", "adapt", "finetune")


def cohort_record(cohort: Cohort, role: Literal["source", "pool", "target"]) -> CohortRecord:
    """Size, atlas, flow, outcomes with their status, missing regions, and a table of who they are."""
    missing = (~cohort.node_mask).sum(axis=0)
    return CohortRecord(
        name=cohort.name,
        role=role,
        n_subjects=cohort.n_subjects,
        n_regions=cohort.n_regions,
        atlas=cohort.atlas,
        measures=cohort.measures,
        flow=cohort.flow,
        outcomes=tuple(_counts(cohort, task) for task in cohort.tasks),
        table_groups=("all",),
        table=tuple(_table(cohort)),
        missing_regions=tuple((cohort.regions[i], int(missing[i])) for i in np.flatnonzero(missing)),
    )


def training_curves(validation: CrossValidation) -> tuple[TrainingCurve, ...]:
    """Loss of each stage of each model over its fits: median and quartiles per epoch."""
    curves: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for item in validation.planned:
        for plan in item.plans:
            for member in plan.lineage():
                found = curves.setdefault((member.stage, item.model), {})
                found[member.key] = validation.results[member.key].curve
    records = []
    for (stage, model), by_key in sorted(curves.items(), key=lambda c: _STAGE_ORDER.index(c[0][0])):
        stacked = np.array(list(by_key.values()))
        if not stacked.size:
            continue
        low, median, high = np.quantile(stacked, [0.25, 0.5, 0.75], axis=0)
        step = tuple(range(1, stacked.shape[1] + 1))
        records.append(
            TrainingCurve(
                stage=stage,
                model=model,
                n_fits=len(stacked),
                step=step,
                median=tuple(median),
                low=tuple(low),
                high=tuple(high),
            )
        )
    return tuple(records)


def prediction_records(table: pd.DataFrame) -> tuple[Prediction, ...]:
    return tuple(Prediction.model_validate(row) for row in table.to_dict("records"))


def _counts(cohort: Cohort, task: Task) -> OutcomeCounts:
    status = cohort.status[task.name].value_counts()
    values = cohort.targets[task.name]
    return OutcomeCounts(
        task=task.name,
        observed=int(values.notna().sum()),
        lost=int(status.get("lost", 0)),
        died=int(status.get("died", 0)),
        untestable=int(status.get("untestable", 0)),
        n_positive=int((values == 1).sum()) if task.is_binary else None,
    )


def _table(cohort: Cohort) -> Sequence[TableRow]:
    rows = []
    if np.isfinite(cohort.age).any():
        what = "postmenstrual age" if cohort.age_reference == "postmenstrual" else "age"
        rows.append(TableRow(variable=f"{what} at scan ({cohort.age_unit})", values=(_spread(cohort.age),)))
    for spec in cohort.covariate_specs:
        column = cohort.covariates[spec.column]
        name = f"{spec.column} ({spec.unit})" if spec.unit else spec.column
        if spec.type == "numeric":
            rows.append(TableRow(variable=name, values=(_spread(column.to_numpy(dtype=float)),)))
        else:
            shares = column.value_counts()
            text = ", ".join(f"{level}: {count} ({count / len(column):.0%})" for level, count in shares.items())
            rows.append(TableRow(variable=name, values=(text,)))
    sites = pd.Series([site for site in cohort.site if site]).value_counts()
    if len(sites) > 1:
        largest = ", ".join(f"{site}: {count}" for site, count in sites.head(6).items())
        rows.append(TableRow(variable=f"sites (n = {len(sites)})", values=(largest,)))
    families = pd.Series([name for name in cohort.family if name]).value_counts()
    if (families > 1).any():
        shared = families[families > 1]
        rows.append(
            TableRow(variable="families with several members", values=(f"{len(shared)} ({shared.sum()} subjects)",))
        )
    return rows


def _spread(values: np.ndarray) -> str:
    seen = values[np.isfinite(values)]
    if not len(seen):
        return "n/a"
    low, median, high = np.quantile(seen, [0.25, 0.5, 0.75])
    missing = len(values) - len(seen)
    return f"{median:.3g} [{low:.3g}, {high:.3g}]" + (f"; {missing} missing" if missing else "")
