"""Table of the levels or classes of ordinal and multiclass tasks."""

from __future__ import annotations

from connectome_tl.report.labels import number
from connectome_tl.settings.model_table import FULL
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.tasks import Task

Row = tuple[str, ...]


def level_table(record: RunRecord, task: Task, model: str = FULL) -> tuple[Row, list[Row]]:
    """Header, and a row per observed level with the numbers of subjects by predicted level, mean over repeats.

    No rows for a binary task or a regression, or without predictions of the model.
    """
    if not task.spec.by_level:
        return (), []
    mine = [p for p in record.predictions if (p.task, p.model) == (task.name, model) and p.y_true == p.y_true]
    n_repeats = len({p.repeat for p in mine})
    counts = [[0.0] * task.n_levels for _ in range(task.n_levels)]
    for p in mine:
        counts[int(p.y_true)][int(p.y_pred)] += 1.0 / n_repeats
    rows = [
        (name, *(number(n, 1) for n in row), number(row[i] / sum(row)) if sum(row) else number(None))
        for i, (name, row) in enumerate(zip(task.levels, counts, strict=True))
    ]
    return ("Observed", *(f"called {name}" for name in task.levels), "Share of correct calls"), rows if mine else []
