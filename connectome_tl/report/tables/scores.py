"""Table of all scores of a task: one row per model, one column per metric."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from connectome_tl.report.labels import (
    UNDEFINED,
    count,
    interval,
    metric_label,
    metric_order,
    model_label,
    number,
)
from connectome_tl.settings.model_table import UNINFORMED, ModelSpec, model_order
from connectome_tl.settings.records.results import LearningPoint, Score


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one task: a row per model, a cell per metric."""

    metrics: tuple[str, ...]
    rows: tuple[tuple[ModelSpec, tuple[str, ...], tuple[tuple[str, str, str, str], ...]], ...]
    methods: tuple[tuple[str, str], ...]  # metrics, and the method of their intervals
    estimand: str  # estimand of the intervals


def layers(scores: Sequence[Score]) -> list[list[Score]]:
    """Split scores into layers with one score per model and metric; a second interval goes to a second layer."""
    found: list[list[Score]] = []
    seen: Counter[tuple[str, str]] = Counter()
    for score in scores:
        layer = seen[score.model, score.metric]
        seen[score.model, score.metric] += 1
        if layer == len(found):
            found.append([])
        found[layer].append(score)
    return found


def score_tables(scores: Sequence[Score]) -> tuple[ScoreTable, ...]:
    """One table per layer of scores, see `layers`, and one with the intervals for the fitted model."""
    fitted = [
        score.model_copy(update={"low": score.fitted_low, "high": score.fitted_high, "method": score.fitted_method})
        for score in scores
        if score.fitted_method
    ]
    procedure = "this procedure on a new cohort of this size" if fitted else ""
    return (
        *(_score_table(layer, procedure) for layer in layers(scores)),
        *(_score_table(layer, "this fitted model on new subjects") for layer in layers(fitted)),
    )


def _score_table(scores: Sequence[Score], estimand: str) -> ScoreTable:
    metrics = sorted({score.metric for score in scores}, key=metric_order)
    models = sorted({score.model for score in scores}, key=model_order)
    by = {(score.model, score.metric): score for score in scores}
    rows = []
    for model in models:
        mine = [by[model, metric] for metric in metrics if (model, metric) in by]
        counts = tuple(dict.fromkeys(count(score.n, score.n_positive) for score in mine))
        cells = []
        for metric in metrics:
            score = by.get((model, metric))
            if score is None:
                cells.append(("–", "", "", ""))
                continue
            own_count = count(score.n, score.n_positive) if len(counts) > 1 else ""
            cells.append((number(score.value), interval_of(score), own_count, score.reason))
        rows.append((model_label(model), counts, tuple(cells)))
    return ScoreTable(tuple(metric_label(metric).label for metric in metrics), tuple(rows), _methods(scores), estimand)


def _methods(scores: Sequence[Score]) -> tuple[tuple[str, str], ...]:
    """Each method once, with its metrics, and with the model if it was used for only one."""
    uses: dict[str, list[Score]] = {}
    for score in scores:
        if score.method:
            uses.setdefault(score.method, []).append(score)
    found = []
    for method, used in uses.items():
        metrics = ", ".join(dict.fromkeys(metric_label(score.metric).label for score in used))
        models = {score.model for score in used}
        found.append((f"{metrics} ({model_label(models.pop()).label})" if len(models) == 1 else metrics, method))
    return tuple(found)


def interval_of(score: Score | LearningPoint) -> str:
    """The interval of a score as text; empty if the score itself, or with a reason its interval, is undefined."""
    if not math.isfinite(score.value) or (score.reason and not math.isfinite(score.high - score.low)):
        return ""
    if score.low == score.high == score.value:
        known = score.model == UNINFORMED and score.value == metric_label(score.metric).chance
        return "by definition" if known else "[no interval]"
    return interval(score.low, score.high)


def with_interval(score: Score | LearningPoint | None) -> str:
    """Score as `0.71 [0.50, 0.88]`, or with the reason if the score or its interval is undefined."""
    if score is None:
        return UNDEFINED
    return " ".join(part for part in (number(score.value), interval_of(score), score.reason) if part)
