"""Header and rows, as text, of the tables that the page draws with marks and bars."""

from __future__ import annotations

from collections.abc import Sequence

from connectome_tl.report.labels import task_title
from connectome_tl.report.tables.scores import ScoreTable
from connectome_tl.report.views import DifferenceRow, TaskView
from connectome_tl.settings.records.results import CohortRecord

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def glance_table(views: Sequence[TaskView], questions: Sequence[tuple[str, str]]) -> Table:
    """The verdict table."""
    header = (
        "Task",
        "Metric",
        "Full model",
        "95 % interval",
        "n",
        "Better baseline",
        *(title for title, _ in questions),
    )
    rows = []
    for view in views:
        full = view.full
        score = (view.metric, full.value, full.interval, full.count) if full else ("", "n/a", "", "")
        rival = view.better_baseline
        better = "none" if rival is None else f"{rival.label} {rival.value}"
        answers = (_said(view.answers.get(control)) for _, control in questions)
        rows.append((task_title(view.task), *score, better, *answers))
    return header, rows


def _said(row: DifferenceRow | None) -> str:
    return "n/a" if row is None else f"{row.word} {row.value} {row.interval}"


def models_table(view: TaskView) -> Table:
    """Scores of all models of one task by the primary metric, and the differences to what they are compared with."""
    rows: list[tuple[str, ...]] = []
    for row in view.rows:
        score, difference = row.score, row.difference
        rows.append(
            (
                row.model.label,
                *((score.value, score.interval, score.count, score.reason) if score else ("", "", "", "")),
                *((difference.model.label, difference.value) if difference else ("", "")),
                *((difference.interval, difference.verdict, difference.count) if difference else ("", "", "")),
            )
        )
    score_columns = ("Model", view.metric, "95 % interval", "n", "Remark")
    return (
        *score_columns,
        "Compared model",
        "Compared model minus this one",
        "95 % interval of the difference",
        "Verdict",
        "n of both",
    ), rows


def score_table(scores: ScoreTable) -> Table:
    """All metrics of one task."""
    rows = [
        (model.label, ", ".join(counts), *(" ".join(filter(None, cell)) for cell in cells))
        for model, counts, cells in scores.rows
    ]
    return ("Model", "n", *scores.metrics), rows


def interval_rows(views: Sequence[TaskView]) -> list[tuple[str, ...]]:
    """How the intervals of each task's metrics were computed."""
    return [
        (task_title(view.task), scores.estimand, metrics, method)
        for view in views
        for scores in view.scores
        for metrics, method in scores.methods
    ]


def outcome_table(cohort: CohortRecord, task_labels: dict[str, str]) -> Table:
    """Outcomes of a cohort and the reasons why values are missing."""
    rows = [
        (
            task_labels.get(row.task, row.task),
            *map(str, (row.observed, row.by_status, "" if row.n_positive is None else row.n_positive)),
            *map(str, (row.lost, row.died, row.untestable, row.unknown)),
        )
        for row in cohort.outcomes
    ]
    return ("Outcome", "Observed", "Of these by status", "Positive", "Lost", "Died", "Untestable", "Unknown"), rows
