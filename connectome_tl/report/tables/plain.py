"""Rows of the plain tables, as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from connectome_tl.report.labels import (
    UNDEFINED,
    column_digits,
    count,
    metric_label,
    metric_order,
    model_label,
    number,
    p_value,
    signed,
)
from connectome_tl.report.tables.scores import interval_of, with_interval
from connectome_tl.report.views import TaskView
from connectome_tl.settings.model_table import FULL, model_order
from connectome_tl.settings.records.results import CohortRecord, RunRecord
from connectome_tl.settings.records.statistics import (
    ConformalCheck,
    Instability,
    MissingOutcomes,
    Recalibrated,
    SubgroupScore,
)
from connectome_tl.tasks import Task

Row = tuple[str, ...]
_TOO_FEW = "too few to show"
_CALIBRATION = ("brier", "scaled_brier", "calibration_intercept", "calibration_slope")


def cohort_rows(cohort: CohortRecord) -> list[Row]:
    """Rows of the cohort table, padded to the length of the header."""
    n_columns = len(cohort.table_groups) or 1
    return [(row.variable, *(row.values + (UNDEFINED,) * n_columns)[:n_columns]) for row in cohort.table]


def subgroup_table(groups: Iterable[SubgroupScore]) -> tuple[Row, list[Row]]:
    """Header, and one row per group with a cell per model; groups that are too small have no score."""
    cells: dict[tuple[str, str], dict[str, SubgroupScore]] = {}
    for group in groups:
        cells.setdefault((group.variable, group.group), {})[group.model] = group
    models = sorted({model for of_group in cells.values() for model in of_group}, key=model_order)
    rows = [
        (variable, name, _group_size(of_group.values()), *(_group_cell(of_group.get(model)) for model in models))
        for (variable, name), of_group in cells.items()
    ]
    return ("Variable", "Group", "n", *(model_label(model).label for model in models)), rows


def too_small(rows: Sequence[Row]) -> str:
    """The variables of a table of subgroups without any score; empty if a group has one."""
    scored = any(cell != _TOO_FEW for row in rows for cell in row[3:])
    return "" if scored else ", ".join(dict.fromkeys(row[0] for row in rows))


def _group_size(members: Iterable[SubgroupScore]) -> str:
    first = next(iter(members))
    if first.n is None:
        return "not shown"
    return str(first.n) if first.score is None else count(first.n, first.score.n_positive)


def _group_cell(group: SubgroupScore | None) -> str:
    if group is None or group.score is None:
        return _TOO_FEW
    score = group.score
    return f"{metric_label(score.metric).label} {with_interval(score)}"


def conformal_table(checks: Iterable[ConformalCheck], *, binary: bool, unit: str) -> tuple[Row, list[Row]]:
    """Header and rows: sets of classes for a binary task, intervals for a regression."""
    header: Row = ("Model", "Nominal level", "Coverage")
    header += ("of positives", "of negatives", "Sets with both classes", "Empty sets") if binary else ()
    header += () if binary else (f"Half width ({unit})" if unit else "Half width",)
    rows = []
    for check in checks:
        sets = (check.coverage_positive, check.coverage_negative, check.both, check.empty)
        values = (check.level, check.coverage, *(sets if binary else (check.half_width,)))
        rows.append((model_label(check.model).label, *map(number, values), str(check.n)))
    return (*header, "n"), rows


def sample_size_rows(record: RunRecord) -> list[Row]:
    """A row per outcome: the required sample size by criterion, and the available one."""
    names = {task.name: task.label for task in record.tasks}
    return [
        (
            names.get(size.task, size.task or size.kind),
            str(size.n_parameters),
            number(size.anticipated),
            "; ".join(f"{name}: {n}" for name, n in size.criteria),
            str(size.needed),
            str(size.n),
            "enough" if size.enough else "too few",
            size.method,
        )
        for size in record.sample_sizes
    ]


def power_rows(record: RunRecord) -> list[Row]:
    """A row per task and finding: its probability at each true AUC, and the width of the interval."""
    names = {task.name: task.label for task in record.tasks}
    return [
        (names.get(one.task, one.task), count(one.n, one.n_positive), test, *(number(share) for share in shares))
        for one in record.power
        for test, shares in (
            ("interval excludes 0.5", one.interval),
            ("permutation test rejects", one.permutation),
            ("median width of the interval", one.width),
        )
        if shares
    ]


def instability_rows(found: Iterable[Instability]) -> list[Row]:
    """A row per model: the instability of its risks over bootstrap refits."""
    return [
        (
            model_label(one.model).label,
            number(one.mean_absolute_error),
            number(float(np.median(np.subtract(one.high, one.low)))),
            f"{number(100 * one.classification, 0)} %",
            str(one.n_refits),
            str(len(one.original)),
        )
        for one in sorted(found, key=lambda one: model_order(one.model))
    ]


def metric_table(record: RunRecord, task: Task) -> tuple[Row, list[Row]]:
    """Header, and one row per metric of the full model except the primary one, raw and recalibrated."""
    primary = task.spec.primary
    raw = {s.metric: s for s in reversed(record.scores) if (s.task, s.model) == (task.name, FULL)}
    fixed = next((r for r in record.recalibrated if (r.task, r.model) == (task.name, FULL)), None)
    new = {} if fixed is None else {s.metric: s for s in fixed.scores}
    header: Row = ("Metric", "Value and 95 % interval") if fixed is None else ("Metric", "Raw risks", "Recalibrated")
    metrics = sorted({*raw, *new} - {primary}, key=metric_order)
    cells = ((metric, (raw, new)[: len(header) - 1]) for metric in metrics)
    return header, [
        (metric_label(metric).label, *(with_interval(found[metric]) if metric in found else "–" for found in both))
        for metric, both in cells
    ]


def threshold_note(record: RunRecord, task: str) -> str:
    """The threshold of the recalibrated classes of the full model; empty without one."""
    one = next((r for r in record.recalibrated if (r.task, r.model) == (task, FULL)), None)
    if one is None:
        return ""
    return (
        "Scaling and threshold were fitted on inner folds of the training rows. Sensitivity and specificity of the "
        f"recalibrated risks: at the threshold chosen for a specificity of {number(one.specificity)}, "
        f"{_thresholds(one)} on the scale of the raw risk."
    )


def recalibration_rows(record: RunRecord, task: str) -> list[Row]:
    """Per model: raw and recalibrated Brier, scaled Brier, calibration intercept and slope."""
    raw = {(s.model, s.metric): s for s in record.scores if s.task == task}
    rows: list[Row] = []
    for one in sorted((r for r in record.recalibrated if r.task == task), key=lambda r: model_order(r.model)):
        new = {s.metric: s for s in one.scores}
        for title, found in (
            ("raw", {m: raw[one.model, m] for m in new if (one.model, m) in raw}),
            ("recalibrated", new),
        ):
            cells = [found.get(metric) for metric in _CALIBRATION]
            rows.append((model_label(one.model).label, title, *map(with_interval, cells)))
    return rows


def threshold_rows(record: RunRecord, task: str) -> list[Row]:
    """Per model: the thresholds chosen on the inner folds, and their performance in the test folds."""
    rows: list[Row] = []
    for one in sorted((r for r in record.recalibrated if r.task == task), key=lambda r: model_order(r.model)):
        found = {s.metric: s for s in one.scores}
        shown = [found.get(metric) for metric in ("specificity", "sensitivity")]
        name, at = model_label(one.model).label, number(one.specificity)
        rows.append((name, at, _thresholds(one), *map(with_interval, shown)))
    return rows


def _thresholds(one: Recalibrated) -> str:
    """Median over folds, and range."""
    return f"{number(float(np.median(one.threshold)))} ({number(min(one.threshold))} to {number(max(one.threshold))})"


def missingness_rows(record: RunRecord) -> list[Row]:
    """A row per score of the model of missingness indicators."""
    names = {task.name: task.label for task in record.tasks}
    return [
        (
            names.get(score.task, score.task),
            metric_label(score.metric).label,
            number(score.value),
            interval_of(score) or score.reason,
            count(score.n, score.n_positive),
        )
        for score in record.missingness
    ]


def returner_rows(record: RunRecord) -> list[Row]:
    """A row per covariate: its means in subjects with and without the outcome."""
    names = {task.name: task.label for task in record.tasks}
    rows: list[Row] = []
    for one in record.returners:
        digits = column_digits((one.returned, one.lost))
        rows.append(
            (
                ", ".join(names.get(task, task) for task in one.tasks),
                one.variable,
                f"{number(one.returned, digits)} (n = {one.n_returned})",
                f"{number(one.lost, digits)} (n = {one.n_lost})",
                signed(one.standardised_difference),
            )
        )
    return rows


def missing_outcome_table(record: RunRecord) -> tuple[Row, list[Row]]:
    """Header, and a row per task and kind of missing outcome with a cell per model, the full model first."""
    names = {task.name: task.label for task in record.tasks}
    cells: dict[tuple[str, str], dict[str, MissingOutcomes]] = {}
    for one in record.missing_outcomes:
        cells.setdefault((one.task, one.filled), {})[one.model] = one
    models = sorted({one.model for one in record.missing_outcomes}, key=model_order)
    rows = []
    for (task, filled), by_model in cells.items():
        first = next(iter(by_model.values()))
        said = [_missing_cell(by_model.get(model)) for model in models]
        rows.append((names.get(task, task), str(first.n_observed), f"{first.n_missing} ({filled})", *said))
    return ("Task", "n observed", "n missing", *(model_label(model).label for model in models)), rows


def _missing_cell(one: MissingOutcomes | None) -> str:
    if one is None:
        return UNDEFINED
    weighted, worst, best = map(number, (one.weighted, one.worst_case, one.best_case))
    return f"{weighted}; {worst} to {best}"


def lettered(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[str, str]]]:
    """The rows with a letter for each different text of the last column, and the texts by letter."""
    letters = {text: _letter(i) for i, text in enumerate(dict.fromkeys(row[-1] for row in rows))}
    return [(*row[:-1], letters[row[-1]]) for row in rows], [(letter, text) for text, letter in letters.items()]


def _letter(number: int) -> str:
    """a to z, then aa, ab, ..."""
    first, last = divmod(number, 26)
    return (_letter(first - 1) if first else "") + chr(ord("a") + last)


def permutation_rows(record: RunRecord) -> list[Row]:
    """A row per permutation test."""
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
    """A row per paired difference of every task."""
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
            row.resampled_p,
            row.method,
        )
        for view in views
        for row in (*view.differences, *view.other_differences)
    ]
