"""Flow diagram of subjects, one column per cohort."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectome_tl.report import labels
from connectome_tl.report.figures.drawing import INK, MUTED, clean, figure_of, style, to_svg
from connectome_tl.settings.records.results import CohortRecord, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW, _BRANCH, _BOX, _COLUMN, _HEAD = 0.78, 0.5, 0.42, 2.5, 0.62  # inches
_ORDER = {"source": 0, "pool": 1, "target": 2}
_TEXT, _SMALLEST = 6.8, 5.0  # points; a long name is smaller, so that it ends before the number
_LETTER = 0.053  # inches, of a letter of that size on average
_LINE = "#9AA5B1"
_LINE_LENGTH, _LINES = 48, 3  # characters per line, and lines next to an arrow


@dataclass(frozen=True)
class _Step:
    """One box: its text and number, the exclusion before it, and whether it is one of several branches.

    Attributes:
        n_lines: largest number of lines of the text next to the arrow.
    """

    text: str
    n: str
    gone: str
    branch: bool = False
    n_lines: int = 1

    @property
    def height(self) -> float:
        return _BRANCH if self.branch else _ROW


def flow_figure(record: RunRecord, name: str, stamp: str) -> str | None:
    """Boxes of remaining subjects, with exclusions next to the arrows; the target's column branches to its outcomes."""
    cohorts = sorted((c for c in record.cohorts if c.flow), key=lambda c: _ORDER.get(c.role, 3))
    if not cohorts:
        return None
    columns = [(cohort, _steps(cohort, record)) for cohort in cohorts]
    width = _COLUMN * len(columns)
    height = _HEAD + max(sum(step.height for step in steps) for _, steps in columns)
    with style():
        figure = figure_of(width, height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(0, height))
        for k, (cohort, steps) in enumerate(columns):
            left = k * _COLUMN + 0.08
            noun = cohort.people.noun if cohort.people else "subjects"
            title = labels.role_label(cohort.role, noun)
            axes.text(left, height - 0.4, clean(title, 44), fontsize=7.4, fontweight="bold", color=INK, va="center")
            _column(axes, left, height - _HEAD, steps)
        return to_svg(figure, name, description="Flow of subjects through the study", stamp=stamp)


def _steps(cohort: CohortRecord, record: RunRecord) -> list[_Step]:
    found = []
    for step in cohort.flow:
        gone = f"−{step.n_excluded} {step.reason}".strip() if step.n_excluded else step.reason
        n_lines = 1 if step.n_excluded else _LINES  # reasons of subjects who stay are printed in full
        found.append(_Step(step.label, f"n = {step.n_left}", gone, n_lines=n_lines))
    named = {task.name: labels.task_title(task) for task in record.tasks}
    for row in cohort.outcomes if cohort.role == "target" else ():
        if row.task in named:
            counts = {
                "counted by status": row.by_status,
                "lost": row.lost,
                "died": row.died,
                "untestable": row.untestable,
                "unknown": row.unknown,
            }
            gone = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
            positive = "" if row.n_positive is None else f" ({row.n_positive}+)"
            found.append(_Step(named[row.task], f"n = {row.observed}{positive}", gone, branch=True))
    return found


def _column(axes: Axes, left: float, top: float, steps: Sequence[_Step]) -> None:
    spine = left + 0.14
    for k, step in enumerate(steps):
        _box(axes, left + (0.28 if step.branch else 0.0), left + _COLUMN - 0.3, top, step)
        following = steps[k + 1] if k + 1 < len(steps) else None
        if step.branch:  # outcomes are drawn side by side, each connected to the last step
            axes.plot([spine, left + 0.28], [top - _BOX / 2] * 2, color=_LINE, lw=1.0)
            if following is not None:
                axes.plot([spine] * 2, [top - _BOX / 2, top - step.height - _BOX / 2], color=_LINE, lw=1.0)
        elif following is not None:
            end = top - step.height - (_BOX / 2 if following.branch else 0.0)
            head = "-" if following.branch else "-|>"
            arrow = {"arrowstyle": head, "color": _LINE, "lw": 1.0, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (spine, end), (spine, top - _BOX), arrowprops=arrow)
            if not following.branch and following.gone:
                middle = top - (_BOX + step.height) / 2
                axes.text(left + 0.3, middle, _lines(following), fontsize=5.8, va="center", color=MUTED)
        top -= step.height


def _lines(step: _Step) -> str:
    """Wrap a reason at words to at most `n_lines` lines."""
    if step.n_lines == 1:
        return clean(step.gone, 46)
    return "\n".join(textwrap.wrap(clean(step.gone, (_LINE_LENGTH - 4) * step.n_lines), _LINE_LENGTH)[: step.n_lines])


def _box(axes: Axes, left: float, right: float, top: float, step: _Step) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = "round,pad=0,rounding_size=0.05"
    box = FancyBboxPatch((left, top - _BOX), right - left, _BOX, boxstyle=shape, fc="#F6F8FA", ec="#B6C3D1", lw=0.9)
    axes.add_patch(box)
    middle = top - _BOX / 2
    below = step.branch and bool(step.gone)
    room = max(int((right - left - 0.26 - _LETTER * len(step.n)) / _LETTER), 8)  # letters next to the number
    text = clean(step.text, int(room * _TEXT / _SMALLEST))
    size = min(_TEXT, _TEXT * room / max(len(text), 1))
    axes.text(left + 0.08, middle + (0.075 if below else 0), text, fontsize=size, va="center", color=INK)
    if below:
        axes.text(left + 0.08, middle - 0.09, clean(step.gone, 40), fontsize=5.6, va="center", color=MUTED)
    axes.text(right - 0.08, middle, step.n, fontsize=6.8, va="center", ha="right", fontweight="bold", color=INK)
