"""View models of the templates: texts of rows, and positions on an axis in per cent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from connectome_tl.report.labels import (
    count,
    interval,
    metric_label,
    metric_order,
    model_label,
    number,
    signed,
    verdict_class,
    verdict_text,
)
from connectome_tl.report.tables.scores import ScoreTable, interval_of, layers, score_tables
from connectome_tl.settings.model_table import FULL, ModelSpec, model_order
from connectome_tl.settings.records.results import Comparison, RunRecord, Score
from connectome_tl.tasks import Task


@dataclass(frozen=True)
class Axis:
    """A horizontal axis; positions are per cent of its length."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    reference: float | None = None  # per cent: chance, or zero
    band: tuple[float, float] | None = None  # per cent: start and width of the margin

    def at(self, value: float) -> float:
        """Position of a value in per cent of the length; values beyond an end are at that end."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)


@dataclass(frozen=True)
class Bar:
    """A value with its interval on an `Axis`; None where undefined. `cut_*`: the interval extends beyond the axis."""

    dot: float | None
    start: float | None
    width: float | None
    cut_low: bool = False
    cut_high: bool = False


@dataclass(frozen=True)
class ForestRow:
    """A score in the figure of a task; `reason` states why a value is undefined."""

    model: ModelSpec
    bar: Bar
    value: str
    interval: str
    count: str
    reason: str


@dataclass(frozen=True)
class DifferenceRow:
    """A row of the table of paired differences: the models, and each cell as text."""

    model: ModelSpec
    control: ModelSpec
    question: str
    metric: str
    bar: Bar
    value: str
    interval: str
    count: str
    word: str  # the verdict in short
    verdict: str
    css: str
    resampled_p: str
    method: str


@dataclass(frozen=True)
class ModelRow:
    """A model in the figure of a task: its score, and the difference to the model that it is compared with."""

    model: ModelSpec
    score: ForestRow | None
    difference: DifferenceRow | None


@dataclass(frozen=True)
class BetterBaseline:
    """A baseline that scores better than the full model."""

    label: str
    value: str
    css: str  # of the verdict of the difference: harms, or unsure


@dataclass(frozen=True)
class TaskView:
    """Everything of one task, except its figures."""

    number: int
    task: Task
    n_text: str
    metric: str
    uninformed: str  # meaning of the reference line of the forest plot
    forest: tuple[ForestRow, ...]
    forest_axis: Axis
    differences: tuple[DifferenceRow, ...]
    difference_axis: Axis
    other_differences: tuple[DifferenceRow, ...]
    scores: tuple[ScoreTable, ...]
    full: ForestRow | None
    answers: dict[str, DifferenceRow]  # the full model against each control, by the control's name
    better_baseline: BetterBaseline | None
    harm: tuple[DifferenceRow, ...]  # controls without a stage that perform better: negative transfer

    @property
    def rows(self) -> list[ModelRow]:
        """Every score and every difference once; a model that is compared twice has a second row without score."""
        found: list[ModelRow] = []
        for row in self.forest:
            own = [one for one in self.differences if one.control.name == row.model.name]
            found.append(ModelRow(row.model, row, own[0] if own else None))
            found += [ModelRow(row.model, None, one) for one in own[1:]]
        scored = {row.model.name for row in self.forest}
        return found + [ModelRow(one.control, None, one) for one in self.differences if one.control.name not in scored]

    @property
    def compares_others(self) -> bool:
        """Whether some differences are of other models than the full one."""
        return any(row.model.name != FULL for row in self.differences)

    @property
    def count(self) -> str:
        """The number of subjects that most models were scored on."""
        counts = Counter(row.count for row in self.forest)
        return counts.most_common(1)[0][0] if counts else ""


def task_views(record: RunRecord) -> list[TaskView]:
    """The sections of all outcomes."""
    return [_task_view(i, task, record) for i, task in enumerate(record.tasks, start=1)]


def _task_view(i: int, task: Task, record: RunRecord) -> TaskView:
    scores = [score for score in record.scores if score.task == task.name]
    comparisons = [comparison for comparison in record.comparisons if comparison.task == task.name]
    metric = _leading_metric(task, scores)
    layered = layers(scores)
    leading = (
        sorted((s for s in layered[0] if s.metric == metric), key=lambda s: model_order(s.model)) if layered else []
    )
    axis = _score_axis(metric, leading)
    forest = tuple(_forest_row(score, axis) for score in leading)
    shown = [comparison for comparison in comparisons if comparison.metric == metric]
    difference_axis = _difference_axis(shown)
    differences = tuple(_difference_row(comparison, difference_axis) for comparison in shown)
    rest = [comparison for comparison in comparisons if comparison.metric != metric]
    rest_axis = _difference_axis(rest)
    answers = {row.control.name: row for row in differences if row.model.name == FULL}
    return TaskView(
        number=i,
        task=task,
        n_text=n_text(leading),
        metric=metric_label(metric).label,
        uninformed=metric_label(metric).uninformed,
        forest=forest,
        forest_axis=axis,
        differences=differences,
        difference_axis=difference_axis,
        other_differences=tuple(_difference_row(comparison, rest_axis) for comparison in rest),
        scores=score_tables(scores),
        full=next((row for row in forest if row.model.name == FULL), None),
        answers=answers,
        better_baseline=_better(record, task, forest, answers),
        harm=tuple(row for row in answers.values() if row.control.stage and row.css == "harms"),
    )


def _better(
    record: RunRecord, task: Task, forest: Sequence[ForestRow], answers: Mapping[str, DifferenceRow]
) -> BetterBaseline | None:
    """The baseline that the verdict names as scoring better than the full model."""
    name = next((v.better_baseline for v in record.verdicts if v.task == task.name), "")
    row = next((row for row in forest if row.model.name == name), None)
    if row is None:
        return None
    return BetterBaseline(row.model.label, row.value, answers[name].css if name in answers else "unsure")


def glance_questions(views: Sequence[TaskView], asked: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The questions (title, control) that at least one task answers."""
    return [(title, control) for title, control in asked if any(control in view.answers for view in views)]


def n_text(scores: Iterable[Score]) -> str:
    """`n = 31, 8 positive`; a range where the models differ."""
    pairs = sorted({(score.n, score.n_positive) for score in scores}, key=lambda pair: (pair[0], pair[1] or 0))
    if not pairs:
        return "no scores"
    first, last = pairs[0], pairs[-1]
    text = f"n = {first[0]}" if first[0] == last[0] else f"n = {first[0]} to {last[0]}"
    if first[1] is not None and last[1] is not None:
        text += f", {first[1]} positive" if first[1] == last[1] else f", {first[1]} to {last[1]} positive"
    return text


def _leading_metric(task: Task, scores: Sequence[Score]) -> str:
    metrics = {score.metric for score in scores}
    wanted = task.spec.primary
    return wanted if wanted in metrics or not metrics else min(metrics, key=metric_order)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _score_axis(metric: str, scores: Sequence[Score]) -> Axis:
    label = metric_label(metric)
    values = _finite(v for s in scores for v in (s.value, s.low, s.high))
    low, high = min(values, default=0.0), max(values, default=1.0)
    if label.chance == 0.5:
        low, high = min(0.3, low), 1.0
    elif label.chance is not None:
        low, high = min(label.chance - 0.1, low), max(label.chance + 0.1, high)
    worst = (label.chance or 0.0) - label.sign  # much worse models are not drawn in full
    low, high = (max(low, worst), high) if label.sign >= 0 else (low, min(high, worst))
    return _axis(max(low, label.low), min(high, label.high), reference=label.chance)


def _difference_axis(comparisons: Sequence[Comparison]) -> Axis:
    values = _finite(v for c in comparisons for v in (c.difference, c.low, c.high))
    half = max([0.15, *(abs(v) for v in values)])
    margins = {c.margin for c in comparisons}
    margin = margins.pop() if len(margins) == 1 else None
    return _axis(-half, half, reference=0.0, margin=margin, with_sign=True)


def _axis(
    low: float, high: float, *, reference: float | None, margin: float | None = None, with_sign: bool = False
) -> Axis:
    """An axis that ends at round ticks, three to six of them to fit next to the numbers."""
    span = high - low if high > low else 1.0
    steps = (factor * 10.0**e for e in range(-6, 9) for factor in (1, 2.5 if e < 0 else 2, 5))
    step = next((step for step in steps if span / step <= 4), span)
    first, last = math.floor(low / step + 1e-9), math.ceil(low / step + span / step - 1e-9)
    digits = len(f"{step:.8f}".rstrip("0").partition(".")[2])
    show = signed if with_sign else number
    axis = Axis(first * step, last * step, ())
    ticks = tuple((axis.at(k * step), show(k * step, digits)) for k in range(first, last + 1))
    band = None
    if margin is not None and math.isfinite(margin):
        band = (axis.at(-margin), round(axis.at(margin) - axis.at(-margin), 2))
    at = None if reference is None or not axis.low <= reference <= axis.high else axis.at(reference)
    return Axis(axis.low, axis.high, ticks, at, band)


def _bar(axis: Axis, value: float, low: float, high: float) -> Bar:
    if not math.isfinite(value):
        return Bar(None, None, None)
    if not (math.isfinite(low) and math.isfinite(high)):
        return Bar(axis.at(value), None, None)
    start = axis.at(low)
    slack = 1e-9 * (axis.high - axis.low)
    return Bar(axis.at(value), start, round(axis.at(high) - start, 2), low < axis.low - slack, high > axis.high + slack)


def _forest_row(score: Score, axis: Axis) -> ForestRow:
    return ForestRow(
        model=model_label(score.model),
        bar=_bar(axis, score.value, score.low, score.high),
        value=number(score.value),
        interval=interval_of(score),
        count=count(score.n, score.n_positive),
        reason=score.reason,
    )


def _difference_row(comparison: Comparison, axis: Axis) -> DifferenceRow:
    """A row drawn so that right of 0 always favours the model; the text gives the difference itself."""
    sign = comparison.sign
    ends = sorted((sign * comparison.low, sign * comparison.high))
    if not all(map(math.isfinite, ends)):
        ends = [math.nan, math.nan]
    return DifferenceRow(
        model=model_label(comparison.model),
        control=model_label(comparison.control),
        question=comparison.question,
        metric=metric_label(comparison.metric).label,
        bar=_bar(axis, sign * comparison.difference, ends[0], ends[1]),
        value=signed(comparison.difference),
        interval=interval(comparison.low, comparison.high, with_sign=True),
        count=count(comparison.n, comparison.n_positive),
        word=verdict_text(comparison).partition(" (")[0],
        verdict=verdict_text(comparison),
        css=verdict_class(comparison),
        resampled_p=number(comparison.resampled_p, 3),
        method=comparison.method,
    )
