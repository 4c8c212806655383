"""Rows of the plain tables, as texts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from connectome_tl.report.labels import UNDEFINED, count, interval, metric_label, model_label, number, p_value
from connectome_tl.report.views import TaskView
from connectome_tl.settings.results import CohortRecord, RegionImportance, RunRecord, SubgroupScore

Row = tuple[str, ...]


def cohort_rows(cohort: CohortRecord) -> list[Row]:
    """The cohort table, every row as long as its header."""
    n_columns = len(cohort.table_groups) or 1
    return [(row.variable, *(row.values + (UNDEFINED,) * n_columns)[:n_columns]) for row in cohort.table]


def subgroup_rows(groups: Iterable[SubgroupScore]) -> list[Row]:
    rows: list[Row] = []
    for group in groups:
        value = number(group.value)
        text = f"{metric_label(group.metric).label} {value}" if value != UNDEFINED else value
        between = interval(group.low, group.high) if value != UNDEFINED else group.reason
        rows.append(
            (
                group.variable,
                group.level,
                model_label(group.model).label,
                text,
                between,
                count(group.n, group.n_positive),
            )
        )
    return rows


def importance_rows(importance: RegionImportance, longest: int = 10) -> list[Row]:
    """The regions of largest magnitude; undefined ones are left out."""
    value = np.array(importance.value, dtype=float)
    order = [i for i in np.argsort(-np.nan_to_num(np.abs(value)), kind="stable") if np.isfinite(value[i])]
    stability = importance.stability
    return [
        (importance.regions[i], number(float(value[i])), number(stability[i]) if i < len(stability) else UNDEFINED)
        for i in order[:longest]
    ]


def permutation_rows(record: RunRecord) -> list[Row]:
    labels = {task.name: task.label for task in record.tasks}
    return [
        (
            labels.get(test.task, test.task),
            model_label(test.model).label,
            test.question,
            metric_label(test.metric).label,
            number(test.observed),
            p_value(test.p_value, test.n_permutations),
            p_value(test.p_value_max, test.n_permutations),
            str(test.n_permutations),
            test.method,
        )
        for test in record.permutations
    ]


def comparison_rows(views: Iterable[TaskView]) -> list[Row]:
    return [
        (
            view.task.label,
            row.model.label,
            row.control.label,
            row.question,
            row.metric,
            row.value,
            row.interval,
            row.count,
            row.verdict,
            row.method,
        )
        for view in views
        for row in (*view.differences, *view.other_differences)
    ]
