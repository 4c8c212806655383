"""Figures from out-of-fold predictions: ROC, predicted risk per class, calibration, predicted against true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.report.drawing import GRID, INK, MUTED, clean, panel, style, swarm, to_svg
from connectome_tl.report.labels import interval, model_label, model_order, number
from connectome_tl.report.out_of_fold import (
    CalibrationGroups,
    OutOfFold,
    SubjectScores,
    calibration_groups,
    fold_averaged_roc,
    subject_scores,
)
from connectome_tl.settings.scores import Score
from connectome_tl.settings.statistics import CalibrationCurve, DecisionCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROC_MODELS = ("full", "clinical_only", "nuisance_only", "ridge")


def roc_figure(by_model: Mapping[str, OutOfFold], name: str, *, stamp: str = "") -> str | None:
    """Fold-averaged ROC: median over repeats, range over repeats as a band for the first model.

    None where no test fold holds both classes.
    """
    with style():
        figure, axes = panel()
        axes.plot([0, 1], [0, 1], color="#9AA5B1", lw=0.9, ls=(0, (4, 3)))
        drawn = 0
        for model in sorted((m for m in by_model if m in ROC_MODELS), key=model_order):
            rate, curves = fold_averaged_roc(by_model[model])
            if not len(rate):
                continue
            look = model_label(model)
            if drawn == 0 and len(curves) > 1:
                axes.fill_between(rate, curves.min(axis=0), curves.max(axis=0), color=look.colour, alpha=0.16, lw=0)
            axes.plot(
                rate,
                np.median(curves, axis=0),
                color=look.colour,
                lw=2.0 if drawn == 0 else 1.2,
                ls="-" if drawn == 0 else [(0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5))][(drawn - 1) % 3],
                label=clean(look.label),
                zorder=4 - drawn * 0.1,
            )
            drawn += 1
        if not drawn:
            return None
        _square_axes(axes, "False positive rate (1 − specificity)", "True positive rate (sensitivity)")
        axes.legend(loc="lower right", handlelength=2.4, borderaxespad=0.3)
        return to_svg(figure, name, description="ROC curves of the full model and the baselines", stamp=stamp)


def risk_figure(rows: OutOfFold, name: str, *, positive: str, negative: str, stamp: str = "") -> str:
    """One dot per subject: mean predicted risk over repeats, with the range over repeats, by class."""
    scores = subject_scores(rows)
    with style():
        figure, axes = panel(left=0.2)
        for level, (truth, label, colour) in enumerate(((0.0, negative, "#56789A"), (1.0, positive, "#D55E00"))):
            here = np.flatnonzero(scores.y_true == truth)
            here = here[np.argsort(scores.mean[here], kind="stable")]
            base = 1.0 * level
            height = base + swarm(scores.mean[here], dot=0.026)
            axes.hlines(height, scores.low[here], scores.high[here], color=colour, alpha=0.25, lw=1.0)
            axes.plot(scores.mean[here], height, "o", ms=4.2, color=colour, mec="white", mew=0.5, alpha=0.95)
            if len(here):
                median = float(np.median(scores.mean[here]))
                axes.plot([median, median], [base - 0.06, base + 0.62], color=INK, lw=1.3, zorder=5)
            axes.text(
                0.0, base + 0.73, f"{clean(label)} (n = {len(here)})", color=colour, fontweight="bold", fontsize=7.5
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.18, 1.95), yticks=[], xlabel="Predicted risk, out of fold")
        axes.spines["left"].set_visible(False)
        return to_svg(figure, name, description="Predicted risk by observed class", stamp=stamp)


def calibration_figure(
    rows: OutOfFold,
    name: str,
    *,
    groups: CalibrationCurve | None = None,
    scores: Mapping[str, Score],
    stamp: str = "",
) -> str:
    """Observed share against predicted risk in groups of subjects, with intervals and a rug.

    Without `groups` the subjects are grouped here, with Wilson intervals.
    """
    subjects = subject_scores(rows)
    shown = calibration_groups(subjects.y_true, subjects.mean)
    if groups is not None:
        columns = (groups.predicted, groups.observed, groups.low, groups.high, groups.n)
        shown = CalibrationGroups(*(np.array(column) for column in columns))
    colour = model_label("full").colour
    with style():
        figure, axes = panel()
        axes.plot([0, 1], [0, 1], color="#9AA5B1", lw=0.9, ls=(0, (4, 3)))
        axes.vlines(shown.predicted, shown.low, shown.high, color=colour, lw=1.2, alpha=0.6)
        axes.plot(shown.predicted, shown.observed, "-", color=colour, lw=0.9, alpha=0.5)
        axes.scatter(shown.predicted, shown.observed, s=22, color=colour, edgecolor="white", linewidth=0.6, zorder=4)
        for truth, low, high in ((0.0, -0.055, -0.02), (1.0, 1.02, 1.055)):
            axes.vlines(subjects.mean[subjects.y_true == truth], low, high, color=MUTED, lw=0.8)
        lines = [
            f"{label} {number(score.value)} {interval(score.low, score.high)}"
            for key, label in (("calibration_intercept", "Intercept"), ("calibration_slope", "Slope"))
            if (score := scores.get(key)) is not None
        ]
        axes.text(0.03, 0.97, "\n".join(lines), va="top", fontsize=7.0, color=INK)
        _square_axes(axes, "Predicted risk, out of fold", "Observed share", margin=0.07)
        return to_svg(figure, name, description="Calibration: observed share against predicted risk", stamp=stamp)


def scatter_figure(rows: OutOfFold, name: str, *, unit: str, stamp: str = "") -> str:
    """Predicted against true value: one dot per subject (mean over repeats), range over repeats as a line."""
    scores = subject_scores(rows)
    colour = model_label("full").colour
    low, high = _limits(scores)
    mean = float(scores.y_true.mean())
    with style():
        figure, axes = panel(left=0.54)
        axes.plot([low, high], [low, high], color="#9AA5B1", lw=0.9, ls=(0, (4, 3)), label="Perfect prediction")
        axes.plot([low, high], [mean, mean], color="#D55E00", lw=0.9, ls=(0, (1.5, 1.5)), label="Mean of all")
        axes.vlines(scores.y_true, scores.low, scores.high, color=colour, lw=1.0, alpha=0.3)
        axes.plot(scores.y_true, scores.mean, "o", ms=4.2, color=colour, mec="white", mew=0.5)
        suffix = f" ({clean(unit, 18)})" if unit else ""
        axes.set(xlim=(low, high), ylim=(low, high), xlabel=f"Observed{suffix}", ylabel=f"Predicted{suffix}")
        axes.legend(loc="upper left", handlelength=2.2, borderaxespad=0.2)
        return to_svg(figure, name, description="Predicted against observed values", stamp=stamp)


def _limits(scores: SubjectScores) -> tuple[float, float]:
    low = float(min(scores.y_true.min(), scores.low.min()))
    high = float(max(scores.y_true.max(), scores.high.max()))
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def decision_figure(curves: Mapping[str, DecisionCurve], name: str, *, stamp: str = "") -> str | None:
    """Net benefit over risk thresholds, against treating all and treating none; None without any curve."""
    if not curves:
        return None
    with style():
        figure, axes = panel(left=0.58)
        first = next(iter(curves.values()))
        axes.axhline(0, color=INK, lw=1.0)
        axes.plot(first.threshold, first.treat_all, color="#9AA5B1", lw=1.2, ls=(0, (4, 3)), label="Treat all")
        for model in sorted(curves, key=model_order):
            curve, look = curves[model], model_label(model)
            if model == "full" and curve.low and curve.high:
                axes.fill_between(curve.threshold, curve.low, curve.high, color=look.colour, alpha=0.14, lw=0)
            width = 2.0 if model == "full" else 1.2
            axes.plot(curve.threshold, curve.net_benefit, color=look.colour, lw=width, label=clean(look.label))
        finite = [v for c in curves.values() for v in (*c.net_benefit, *c.high) if np.isfinite(v)]
        top = max([0.05, *finite])
        axes.set(ylim=(-0.6 * top, 1.15 * top), xlabel="Risk threshold", ylabel="Net benefit")
        axes.legend(loc="upper right", handlelength=2.2, borderaxespad=0.2)
        return to_svg(figure, name, description="Decision curve: net benefit over risk thresholds", stamp=stamp)


def _square_axes(axes: Axes, x_label: str, y_label: str, *, margin: float = 0.02) -> None:
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set(xlim=(-0.02, 1.02), ylim=(-margin, 1 + margin), xticks=ticks, yticks=ticks, xlabel=x_label, ylabel=y_label)
    axes.grid(color=GRID)
