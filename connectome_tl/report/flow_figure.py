"""The flow of subjects: one column per cohort, from the table to the tested subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectome_tl.report import labels
from connectome_tl.report.drawing import INK, MUTED, clean, figure_of, style, to_svg
from connectome_tl.settings.results import CohortRecord, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _BOX, _COLUMN, _HEAD = 0.86, 0.44, 2.5, 0.55  # inches
_ORDER = {"source": 0, "pool": 1, "target": 2}


def flow_figure(record: RunRecord, name: str, stamp: str) -> str | None:
    """Boxes of those left, beside them those who went and why; the target's column ends with its outcomes."""
    cohorts = sorted((c for c in record.cohorts if c.flow), key=lambda c: _ORDER.get(c.role, 3))
    if not cohorts:
        return None
    columns = [(cohort, _boxes(cohort, record)) for cohort in cohorts]
    rows = max(len(boxes) for _, boxes in columns)
    width, height = _COLUMN * len(columns), _HEAD + _ROW * rows
    with style():
        figure = figure_of(width, height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(0, height))
        for k, (cohort, boxes) in enumerate(columns):
            left = k * _COLUMN + 0.08
            noun = cohort.people.noun if cohort.people else "subjects"
            title = labels.role_label(cohort.role, noun)
            axes.text(left, height - 0.2, clean(title, 44), fontsize=7.4, fontweight="bold", color=INK, va="center")
            for row, (text, n, gone) in enumerate(boxes):
                _box(axes, left, height - _HEAD - row * _ROW, text, n, gone, last=row + 1 == len(boxes))
        return to_svg(figure, name, description="Flow of subjects through the study", stamp=stamp)


def _boxes(cohort: CohortRecord, record: RunRecord) -> list[tuple[str, str, str]]:
    """Label, number, and what happened before: who went and why."""
    found = [
        (
            step.label,
            f"n = {step.n_left}",
            f"−{step.n_excluded} {step.reason}".strip() if step.n_excluded else step.reason,
        )
        for step in cohort.flow
    ]
    named = {task.name: labels.task_title(task) for task in record.tasks}
    for row in cohort.outcomes if cohort.role == "target" else ():
        if row.task in named:
            positive = "" if row.n_positive is None else f" ({row.n_positive}+)"
            lost = [
                f"{n} {word}"
                for n, word in (
                    (row.lost, "lost"), (row.died, "died"), (row.untestable, "untestable"), (row.unknown, "unknown")
                )
                if n
            ]  # fmt: skip
            found.append((f"Tested: {named[row.task]}", f"n = {row.observed}{positive}", ", ".join(lost)))
    return found


def _box(axes: Axes, left: float, top: float, text: str, n: str, gone: str, *, last: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    width = _COLUMN - 0.3
    shape = "round,pad=0,rounding_size=0.05"
    box = FancyBboxPatch((left, top - _BOX), width, _BOX, boxstyle=shape, fc="#F6F8FA", ec="#B6C3D1", lw=0.9)
    axes.add_patch(box)
    axes.text(left + 0.08, top - _BOX / 2, clean(text, 30), fontsize=6.8, va="center", color=INK)
    axes.text(
        left + width - 0.08, top - _BOX / 2, n, fontsize=6.8, va="center", ha="right", fontweight="bold", color=INK
    )
    if gone:
        axes.text(left + 0.34, top + (_ROW - _BOX) / 2, clean(gone, 46), fontsize=5.8, va="center", color=MUTED)
    if not last:
        axes.annotate(
            "", (left + 0.2, top - _ROW), (left + 0.2, top - _BOX),
            arrowprops={"arrowstyle": "-|>", "color": "#9AA5B1", "lw": 1.0, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
