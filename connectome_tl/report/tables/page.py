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


def forest_table(view: TaskView) -> Table:
    """The primary metric of all models of one task."""
    rows: list[tuple[str, ...]] = [
        (row.model.label, row.value, row.interval, row.count, row.reason) for row in view.forest
    ]
    return ("Model", view.metric, "95 % interval", "n", "Remark"), rows


def difference_table(view: TaskView) -> Table:
    """Differences between the full model and the others in one task."""
    rows: list[tuple[str, ...]] = [
        (row.model.label, row.control.label, row.value, row.interval, row.verdict, row.count)
        for row in view.differences
    ]
    return ("Model", "Against", f"Difference in {view.metric}", "95 % interval", "Verdict", "n"), rows


def score_table(scores: ScoreTable) -> Table:
    """All metrics of one task."""
    rows = [
        (model.label, ", ".join(counts), *(" ".join(filter(None, cell)) for cell in cells))
        for model, counts, cells in scores.rows
    ]
    return ("Model", "n", *scores.metrics), rows


def outcome_table(cohort: CohortRecord, task_labels: dict[str, str]) -> Table:
    """Outcomes of a cohort and the reasons why values are missing."""
    rows = [
        (
            task_labels.get(row.task, row.task),
            *map(str, (row.observed, "" if row.n_positive is None else row.n_positive)),
            *map(str, (row.lost, row.died, row.untestable, row.unknown)),
        )
        for row in cohort.outcomes
    ]
    return ("Outcome", "Observed", "Positive", "Lost", "Died", "Untestable", "Unknown"), rows
