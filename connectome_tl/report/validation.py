"""Report of an external validation."""

from __future__ import annotations

import math

from connectome_tl.report import labels
from connectome_tl.report.figures.predictions import curve_figure, decision_figure
from connectome_tl.report.figures.sheet import Figure, Sheet
from connectome_tl.report.pages import render, stamps_of
from connectome_tl.report.tables.scores import interval_of
from connectome_tl.settings.model_table import FULL
from connectome_tl.settings.records.bundles import ValidatedTask, ValidationRecord
from connectome_tl.settings.records.scores import Score

_BEFORE_AFTER = ("brier", "scaled_brier", "calibration_intercept", "calibration_slope")


def render_validation(record: ValidationRecord) -> str:
    """Render the page of an external validation. The same record gives the same bytes.

    Returns:
        One HTML document with inline styles and figures, without scripts or external resources.
    """
    stamps = stamps_of(simulated=record.simulated, exploratory=record.exploratory)
    sheet = Sheet(" · ".join(short for short, _ in stamps))
    tasks = [
        {
            "task": one.task,
            "counts": _counts(one, record),
            "answer": _answer(one),
            "level": _level(one),
            "rows": _score_rows(one),
            "recalibration": _recalibration_rows(one),
            "figures": _figures(one, sheet, record.noun),
            "methods": list(dict.fromkeys((labels.metric_label(s.metric).label, s.method) for s in one.scores)),
        }
        for one in record.tasks
    ]
    return render(
        "validation.html",
        record=record,
        stamps=stamps,
        tasks=tasks,
        outside=[f"{row.what} ({row.outside})" for row in record.shifts if row.outside != "0"],
        shift_rows=[(row.what, row.limit, row.here, row.outside) for row in record.shifts],
    )


def _counts(one: ValidatedTask, record: ValidationRecord) -> str:
    positive = f", {one.n_positive} positive" if one.n_positive else ""
    return f"{one.n} {record.noun} with this outcome{positive}"


def _answer(one: ValidatedTask) -> str:
    """One sentence that compares the primary score with the expected one."""
    leading = one.scores[0]
    metric = labels.metric_label(leading.metric)
    expected = next((score for score in one.expected if score.metric == leading.metric), None)
    where = (
        f"better than {metric.uninformed} here" if one.above_chance else f"not shown to beat {metric.uninformed} here"
    )
    said = f"{metric.label} {labels.number(leading.value)} {labels.interval(leading.low, leading.high)}: {where}"
    if expected is None:
        return f"{said}."
    between = labels.interval(expected.low, expected.high)
    inside = expected.low <= leading.value <= expected.high
    tail = "within that interval" if inside else "outside that interval"
    return f"{said}. The study expected {labels.number(expected.value)} {between}; the value is {tail}."


def _level(one: ValidatedTask) -> str:
    """Mean risk and observed share; they differ if prevalence or case mix differ from the study."""
    if one.curve is None:
        return ""
    total = sum(one.curve.n)
    risk, share = (
        sum(value * n for value, n in zip(values, one.curve.n, strict=True)) / total
        for values in (one.curve.predicted, one.curve.observed)
    )
    return f"Mean risk {labels.number(risk)}, observed share {labels.number(share)}."


def _score_rows(one: ValidatedTask) -> list[tuple[str, str, str, str, str]]:
    expected = {score.metric: score for score in one.expected}
    rows = []
    for score in one.scores:
        known = expected.get(score.metric)
        rows.append(
            (
                labels.metric_label(score.metric).label,
                labels.number(score.value),
                interval_of(score) or score.reason,
                "n/a" if known is None else labels.number(known.value),
                "n/a" if known is None else labels.interval(known.low, known.high),
            )
        )
    return rows


def _recalibration_rows(one: ValidatedTask) -> list[tuple[str, ...]]:
    """Rows for the raw risks and for the risks after recalibration in the large."""
    if one.shift is None or not one.recalibrated:
        return []

    def cells(name: str, scores: tuple[Score, ...]) -> tuple[str, ...]:
        by_metric = {score.metric: score for score in scores}
        return name, *(_cell(by_metric.get(metric)) for metric in _BEFORE_AFTER)

    sign = "up" if one.shift > 0 else "down"
    odds = math.exp(abs(one.shift))
    moved = f"Shifted {sign}: odds {'×' if one.shift > 0 else '/'} {odds:.3g}"
    return [cells("As predicted", one.scores), cells(moved, one.recalibrated)]


def _cell(score: Score | None) -> str:
    if score is None:
        return "n/a"
    return f"{labels.number(score.value)} {labels.interval(score.low, score.high)}".strip()


def _figures(one: ValidatedTask, sheet: Sheet, noun: str) -> list[Figure]:
    found: list[Figure] = []
    if one.curve is not None:
        curve = one.curve
        found += sheet.draw(
            lambda name: curve_figure(curve, name, stamp=sheet.stamp),
            "Calibration",
            f"Observed share against mean risk, groups of {noun} by risk, 95 % intervals.",
        )
    if one.decision is not None:
        decision = one.decision
        found += sheet.draw(
            lambda name: decision_figure({FULL: decision}, name, stamp=sheet.stamp),
            "Net benefit",
            "Net benefit of acting on the model at each risk threshold, compared with acting on all and on none.",
        )
    return found
