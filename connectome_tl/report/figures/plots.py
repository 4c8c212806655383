"""The report's figures as matplotlib figures, for notebooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.errors import UsageError
from connectome_tl.report.figures.drawing import GRID, INK, clean, exporting, panel, style
from connectome_tl.report.figures.fits import permutation_figure, probe_figure, training_figure
from connectome_tl.report.figures.out_of_fold import OutOfFold, group_predictions
from connectome_tl.report.figures.predictions import (
    calibration_figure,
    decision_figure,
    risk_figure,
    roc_figure,
    scatter_figure,
)
from connectome_tl.report.figures.tasks import class_names
from connectome_tl.report.labels import model_label, stage_order
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.models import FULL
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RunPlots:
    """Figures of a finished run, drawn as in its report. Each method returns a `matplotlib.figure.Figure`.

    If the outcome is omitted, the first outcome for which the figure is defined is used.
    """

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._rows = group_predictions(record.predictions)

    def roc(self, task: str | None = None) -> Figure:
        """ROC curves of the full model and of baselines; pairs of one test fold only."""
        one = self._task(task, binary=True)
        return _drawn(lambda: roc_figure(self._models(one), "roc"))

    def risks(self, task: str | None = None) -> Figure:
        """Predicted risks of the full model by class."""
        one = self._task(task, binary=True)
        positive, negative = class_names(one)
        rows = self._full(one)
        return _drawn(lambda: risk_figure(rows, "risks", positive=positive, negative=negative, rivals={}))

    def calibration(self, task: str | None = None) -> Figure:
        """Observed against predicted risk of the full model."""
        one, record = self._task(task, binary=True), self._record
        curves = {c.model: c for c in record.calibration_curves if c.task == one.name}
        fixed = next((r for r in record.recalibrated if (r.task, r.model) == (one.name, FULL)), None)
        rows = self._full(one)
        return _drawn(lambda: calibration_figure(rows, "calibration", curves=curves, recalibrated=fixed))

    def net_benefit(self, task: str | None = None) -> Figure:
        """Net benefit against the threshold."""
        one = self._task(task, binary=True)
        curves = {c.model: c for c in self._record.decision_curves if c.task == one.name}
        return _drawn(lambda: decision_figure(curves, "net benefit"))

    def scatter(self, task: str | None = None) -> Figure:
        """Predicted against observed values of a continuous or ordinal outcome."""
        one = self._task(task, binary=False)
        rows, levels = self._full(one), one.levels if one.kind == "ordinal" else ()
        return _drawn(lambda: scatter_figure(rows, "scatter", unit=one.unit, levels=levels))

    def permutations(self, task: str | None = None) -> Figure:
        """The score and the scores under permuted outcomes."""
        one = self._task(task)
        tests = [test for test in self._record.permutations if test.task == one.name]
        if not tests:
            raise UsageError(f"the run has no permutation test of {one.name}", remedy="Set permutations: 199.")
        return _drawn(lambda: permutation_figure(tests[0], "permutations"))

    def training(self, stage: str | None = None) -> Figure:
        """Training loss of one stage by model; the last stage by default.

        Raises:
            UsageError: the run has no curves of this stage.
        """
        stages = sorted({curve.stage for curve in self._record.curves}, key=stage_order)
        wanted = stage or (stages[-1] if stages else "")
        if wanted not in stages:
            raise UsageError(
                f"no training curves of stage {wanted!r}", expected=", ".join(stages) or "none in this run"
            )
        curves = [curve for curve in self._record.curves if curve.stage == wanted]
        return _drawn(lambda: training_figure(curves, "training"))

    def probes(self) -> Figure:
        """Scores of linear probes of the embedding during stage 2.

        Raises:
            UsageError: the run has no stage 2.
        """
        if not self._record.probes:
            raise UsageError("the run has no probes of stage 2", remedy="Give the study a pool.")
        return _drawn(lambda: probe_figure(self._record.probes, "probes"))

    def scores(self, task: str | None = None) -> Figure:
        """The primary score of every model with its interval."""
        one = self._task(task)
        metric = one.spec.primary
        found = [s for s in self._record.scores if s.task == one.name and s.metric == metric]
        rows = [(s.model, s.value, s.low, s.high) for s in found]
        return _forest(rows, METRICS[metric].label, METRICS[metric].chance)

    def differences(self, task: str | None = None) -> Figure:
        """Full model minus each control and baseline, with intervals; right of 0 the full model is better."""
        one = self._task(task)
        metric = one.spec.primary
        found = [c for c in self._record.comparisons if (c.task, c.metric, c.model) == (one.name, metric, FULL)]
        rows = [(c.control, c.difference, c.low, c.high) for c in found]
        return _forest(rows, f"Difference of {METRICS[metric].label}", 0.0)

    def _task(self, name: str | None, *, binary: bool | None = None) -> Task:
        suited = [t for t in self._record.tasks if binary is None or t.is_binary == binary]
        for task in suited:
            if name is None or task.name == name:
                return task
        kind = {None: "outcome", True: "binary outcome", False: "continuous or ordinal outcome"}[binary]
        if not suited:
            raise UsageError(f"the run has no {kind}, for which this figure is drawn")
        known = ", ".join(task.name for task in suited)
        raise UsageError(f"the run has no {kind} {name!r}", expected=f"one of {known}")

    def _models(self, task: Task) -> dict[str, OutOfFold]:
        return {model: rows for (name, model), rows in self._rows.items() if name == task.name}

    def _full(self, task: Task) -> OutOfFold:
        return self._models(task)[FULL]


def _drawn(make: Callable[[], str | None]) -> Figure:
    """The matplotlib figure that a function of the report draws.

    Raises:
        UsageError: there is nothing to draw.
    """
    found: list[Figure] = []
    with exporting(lambda _, figure: found.append(figure), "figure"):
        make()
    if not found:
        raise UsageError("the run has no data for this figure")
    return found[-1]


def _forest(rows: list[tuple[str, float, float, float]], label: str, reference: float | None) -> Figure:
    """Values with intervals, one row each."""
    rows = [row for row in rows if np.isfinite(row[1])]
    if not rows:
        raise UsageError("the run has no data for this figure")
    with style():
        figure, axes = panel(4.6, 0.7 + 0.22 * len(rows), left=1.9)
        for y, (model, value, low, high) in enumerate(reversed(rows)):
            look = model_label(model)
            if np.isfinite(low) and np.isfinite(high):
                axes.plot([low, high], [y, y], color=look.colour, lw=1.6, solid_capstyle="butt")
            axes.plot([value], [y], "o", color=look.colour, ms=4.5)
        if reference is not None:
            axes.axvline(reference, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(rows)), [clean(model_label(row[0]).label) for row in reversed(rows)])
        axes.grid(axis="y", color=GRID, lw=0)
        axes.set_xlabel(label)
        axes.set_ylim(-0.7, len(rows) - 0.3)
    return figure
