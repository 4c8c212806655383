"""Table of the settings that a search chose for each outer fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectome_tl.report import labels
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.settings.tuning import FoldChoice, Optimism, json_text


@dataclass(frozen=True)
class TuningView:
    """The section of a run's report: sentences, and a table of the settings of each fold."""

    sentences: list[str]
    columns: list[str]
    rows: list[tuple[str, ...]]


def tuning_view(record: RunRecord) -> TuningView | None:
    """The section of a tuned run; None for others."""
    if not record.tuned_folds:
        return None
    names = {task.name: task.label for task in record.tasks}
    columns = choice_columns([one.metric for one in record.optimism])
    return TuningView(optimism_sentences(record.optimism, names), columns, choice_rows(record.tuned_folds))


def choice_columns(objectives: Sequence[str]) -> list[str]:
    """Column titles for the rows of `choice_rows`."""
    return ["Repeat", "Fold", *(f"Inner {labels.metric_label(name).label}" for name in objectives), "Settings"]


def choice_rows(folds: Sequence[FoldChoice]) -> list[tuple[str, ...]]:
    """One row per outer fold."""
    return [
        (
            str(one.repeat),
            str(one.fold),
            *(labels.number(value) for value in one.values),
            "; ".join(f"{key} = {shown(value)}" for key, value in one.settings.items()),
        )
        for one in folds
    ]


def shown(value: Any) -> str:
    """A setting as a table shows it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json_text(value)


def optimism_sentences(found: Sequence[Optimism], task_labels: Mapping[str, str]) -> list[str]:
    """Compare the inner scores of the best trials with the outer scores."""
    sentences = []
    for one in found:
        metric = METRICS[one.metric]
        sentences.append(
            f"{task_labels.get(one.task, one.task)}, {metric.label}: {labels.number(one.inner)} on the inner folds "
            f"that chose the settings (mean of the best trials), {labels.number(one.outer)} [{labels.number(one.low)}, "
            f"{labels.number(one.high)}] on the outer test folds. Optimism: {labels.signed(one.difference, 3)}. Report "
            "only the second number; the first is the largest of many and therefore optimistic."
        )
    return sentences
