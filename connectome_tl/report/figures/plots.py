"""The report's figures as matplotlib figures, for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.errors import UsageError
from connectome_tl.report.figures.drawing import ACCENT, GRID, INK, MUTED, clean, exporting, panel, style
from connectome_tl.report.figures.explanations import bars_figure, brain_figure, circle_figure, matrix_figure
from connectome_tl.report.figures.fits import permutation_figure, probe_figure, training_figure
from connectome_tl.report.figures.flow import flow_figure
from connectome_tl.report.figures.learning_curve import curve_figure
from connectome_tl.report.figures.out_of_fold import OutOfFold, group_predictions
from connectome_tl.report.figures.predictions import (
    calibration_figure,
    decision_figure,
    instability_figure,
    risk_figure,
    roc_figure,
    scatter_figure,
)
from connectome_tl.report.figures.tasks import class_names
from connectome_tl.report.labels import metric_label, model_label, stage_order
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.model_table import FULL, model_order
from connectome_tl.settings.records.explanations import ExplanationMap, ExplanationRecord
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from connectome_tl.report.figures.voxels import MapImages


class RunPlots:
    """Figures of a finished run, drawn as in its report. Each method returns a `matplotlib.figure.Figure`.

    If the outcome is omitted, the first outcome for which the figure is defined is used. Figures of explanations need
    `explain_run`, those of voxel maps `map_volumes`.
    """

    def __init__(
        self,
        record: RunRecord,
        *,
        explanations: Callable[[], ExplanationRecord | None] = lambda: None,
        maps: Callable[[], MapImages | None] = lambda: None,
    ) -> None:
        self._record = record
        self._explanations, self._maps = explanations, maps
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
        rows, levels = self._full(one), one.levels if one.form == "levels" else ()
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
        rows = [_model_row(s.model, s.value, s.low, s.high) for s in found]
        return _forest(rows, METRICS[metric].label, METRICS[metric].chance)

    def differences(self, task: str | None = None) -> Figure:
        """Full model minus each control and baseline, with intervals; right of 0 the full model is better."""
        one = self._task(task)
        metric = one.spec.primary
        found = [c for c in self._record.comparisons if (c.task, c.metric, c.model) == (one.name, metric, FULL)]
        rows = [_model_row(c.control, c.difference, c.low, c.high) for c in found]
        return _forest(rows, f"Difference of {METRICS[metric].label}", 0.0)

    def optimism(self, task: str | None = None) -> Figure:
        """Inner score of the best trials of a tuned run against the score on the outer test folds."""
        one = self._task(task)
        found = [o for o in self._record.optimism if o.task == one.name]
        if not found:
            raise UsageError(
                "the run was not tuned", remedy="Search settings with tune_study, then run_study(..., tuned=...)."
            )
        first = found[0]
        rows = [
            ("Inner folds, best trials", MUTED, first.inner, float("nan"), float("nan")),
            ("Outer test folds", ACCENT, first.outer, first.low, first.high),
        ]
        metric = metric_label(first.metric)
        return _forest(rows, f"{metric.label}, {model_label(first.model).label}", metric.chance)

    def learning_curve(self, task: str | None = None) -> Figure:
        """The primary score against the number of labelled subjects in training, of a study with a learning curve."""
        one = self._task(task)
        points = [point for point in self._record.learning_curve if point.task == one.name]
        return _drawn(lambda: curve_figure(points, "learning curve"))

    def instability(self, task: str | None = None) -> Figure:
        """Range of each subject's risk over bootstrap refits."""
        one = self._task(task, binary=True)
        found = sorted((i for i in self._record.instability if i.task == one.name), key=lambda i: model_order(i.model))
        return _drawn(lambda: instability_figure(found[0], "instability") if found else None)

    def flow(self) -> Figure:
        """Flow of subjects of each cohort, with exclusions."""
        return _drawn(lambda: flow_figure(self._record, "flow", ""))

    def brain(self, task: str | None = None, *, model: str | None = None, method: str | None = None) -> Figure:
        """Regions and strongest edges of a map of `explain_run` on a glass brain.

        Args:
            task, model, method: the map, as in `ExplanationRecord.maps`; the first one that fits by default.
        """
        whole, one = self._map(task, model, method)
        return _drawn(lambda: brain_figure(one, whole, "brain", ""))

    def edges(self, task: str | None = None, *, model: str | None = None, method: str | None = None) -> Figure:
        """Matrix of all edges of a map of `explain_run`, ordered by lobe; red raises the prediction."""
        whole, one = self._map(task, model, method)
        return _drawn(lambda: matrix_figure(one, whole, "edges", ""))

    def circle(self, task: str | None = None, *, model: str | None = None, method: str | None = None) -> Figure:
        """The strongest edges of a map of `explain_run` on a circle of regions."""
        whole, one = self._map(task, model, method)
        return _drawn(lambda: circle_figure(one, whole, "circle", ""))

    def regions(self, task: str | None = None, *, model: str | None = None, method: str | None = None) -> Figure:
        """The strongest regions of a map of `explain_run`, with their stability over folds."""
        whole, one = self._map(task, model, method)
        lobes = dict(zip(whole.regions, whole.lobes, strict=True)) if whole.lobes else {}
        groups = [lobes.get(item.name, "") for item in one.regions]
        return _drawn(lambda: bars_figure(one.regions, groups, "regions", "", title="Regions"))

    def covariates(self, task: str | None = None, *, model: str | None = None, method: str | None = None) -> Figure:
        """The strongest covariates of a map of `explain_run`, with their stability over folds."""
        _, one = self._map(task, model, method)
        groups = [""] * len(one.covariates)
        return _drawn(lambda: bars_figure(one.covariates, groups, "covariates", "", title="Clinical covariates"))

    def maps(self, task: str | None = None) -> Figure:
        """Mean voxel maps of `map_volumes` on the mean volume, in slices through the strongest place of each."""
        found = self._maps()
        if found is None:
            raise UsageError("the run has no voxel maps", remedy="Compute them with map_volumes(folder).")
        for name in dict.fromkeys(one.task for one in found.record.maps):
            if task in (None, name):
                return found.figure(name)
        raise _no_map([(name, found.record.model, why) for name, why in found.record.withheld.items()])

    def _map(self, task: str | None, model: str | None, method: str | None) -> tuple[ExplanationRecord, ExplanationMap]:
        """The explanations of the run, and the first of their maps that fits."""
        whole = self._explanations()
        if whole is None:
            raise UsageError("the run has no explanations", remedy="Compute them with run.explain().")
        for one in whole.maps:
            if task in (None, one.task) and model in (None, one.model) and method in (None, one.method):
                return whole, one
        raise _no_map([(w.task, w.model, w.reason) for w in whole.withheld])

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


def _no_map(withheld: Sequence[tuple[str, str, str]]) -> UsageError:
    why = "; ".join(f"{task}, {model_label(model).label}: {reason}" for task, model, reason in withheld)
    return UsageError("there is no such map", got=f"withheld: {why}" if why else None)


_Row = tuple[str, str, float, float, float]


def _model_row(model: str, value: float, low: float, high: float) -> _Row:
    look = model_label(model)
    return look.label, look.colour, value, low, high


def _forest(rows: Sequence[_Row], label: str, reference: float | None) -> Figure:
    """Values with intervals, one row each: name, colour, value and ends of the interval."""
    rows = [row for row in rows if np.isfinite(row[2])]
    if not rows:
        raise UsageError("the run has no data for this figure")
    with style():
        figure, axes = panel(4.6, 0.7 + 0.22 * len(rows), left=1.9)
        for y, (_, colour, value, low, high) in enumerate(reversed(rows)):
            if np.isfinite(low) and np.isfinite(high):
                axes.plot([low, high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            axes.plot([value], [y], "o", color=colour, ms=4.5)
        if reference is not None:
            axes.axvline(reference, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(rows)), [clean(row[0]) for row in reversed(rows)])
        axes.grid(axis="y", color=GRID, lw=0)
        axes.set_xlabel(label)
        axes.set_ylim(-0.7, len(rows) - 0.3)
    return figure
