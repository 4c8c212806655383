"""Figures of out-of-fold predictions: ROC, risk per class, calibration, predicted against true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.report.figures.drawing import ACCENT, GRID, INK, MUTED, clean, panel, style, swarm, to_svg
from connectome_tl.report.figures.out_of_fold import (
    OutOfFold,
    SubjectScores,
    fold_averaged_roc,
    subject_scores,
)
from connectome_tl.report.labels import model_label
from connectome_tl.settings.model_table import model_order
from connectome_tl.settings.records.statistics import CalibrationCurve, DecisionCurve, Instability, Recalibrated

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROC_MODELS = ("full", "clinical_only", "nuisance_only", "ridge")


def roc_figure(by_model: Mapping[str, OutOfFold], name: str, *, stamp: str = "") -> str | None:
    """Fold-averaged ROC: median over repeats, range over repeats as a band for the first model.

    None if no test fold contains both classes.
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


def risk_figure(
    rows: OutOfFold,
    name: str,
    *,
    positive: str,
    negative: str,
    rivals: Mapping[str, OutOfFold] | None = None,
    stamp: str = "",
) -> str:
    """One dot per subject: mean predicted risk over repeats, with the range over repeats, by class.

    Below, quartiles of the risks of each other model, one bar per class.
    """
    scores = subject_scores(rows)
    classes = ((0.0, negative, "#56789A"), (1.0, positive, "#D55E00"))
    others = sorted(rivals or {}, key=model_order)
    with style():
        figure, axes = panel(height=2.75 + 0.36 * len(others), left=0.2)
        for level, (truth, label, colour) in enumerate(classes):
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
        for place, model in enumerate(others):
            one = subject_scores((rivals or {})[model])
            top = -0.32 - 0.36 * place
            axes.text(0.0, top, clean(model_label(model).label), color=MUTED, fontsize=6.5)
            for step, (truth, _, colour) in enumerate(classes):
                risk = one.mean[one.y_true == truth]
                if not risk.size:
                    continue
                low, median, high = np.quantile(risk, [0.25, 0.5, 0.75])
                at = top - 0.07 - 0.08 * step
                axes.hlines(at, low, high, color=colour, lw=3.0, alpha=0.55)
                axes.plot([median], [at], "|", color=INK, ms=6, mew=1.2)
        low = -0.18 - 0.36 * len(others)
        axes.set(xlim=(-0.02, 1.02), ylim=(low, 1.95), yticks=[], xlabel="Predicted risk, out of fold")
        axes.spines["left"].set_visible(False)
        return to_svg(figure, name, description="Predicted risk by observed class", stamp=stamp)


def calibration_figure(
    rows: OutOfFold,
    name: str,
    *,
    curves: Mapping[str, CalibrationCurve],
    recalibrated: Recalibrated | None = None,
    stamp: str = "",
) -> str | None:
    """Observed share against predicted risk in groups of subjects, with intervals and a rug; other models as thin
    lines.

    With inner folds, raw and recalibrated risks are drawn. None without a curve of the full model.
    """
    if "full" not in curves:
        return None
    subjects = subject_scores(rows)
    below = 0.16 * (1 + (len(curves) + (recalibrated is not None)) // 2)  # inches for the legend, two entries per line
    with style():
        figure, axes = panel(height=2.75 + below, bottom=0.43 + below)
        axes.plot([0, 1], [0, 1], color="#9AA5B1", lw=0.9, ls=(0, (4, 3)))
        for model in sorted(curves, key=model_order):
            curve, look = curves[model], model_label(model)
            if model == "full":
                axes.vlines(curve.predicted, curve.low, curve.high, color=look.colour, lw=1.2, alpha=0.6)
            big = 2.0 if model == "full" else 1.0
            axes.plot(
                curve.predicted,
                curve.observed,
                "-o",
                color=look.colour,
                lw=0.7 * big,
                ms=2.4 * big,
                mec="white",
                mew=0.5,
                zorder=3 + big,
                label=clean(look.label) + (" (raw)" if recalibrated and model == "full" else ""),
            )
        if recalibrated is not None:
            curve = recalibrated.curve
            axes.plot(
                curve.predicted, curve.observed, "--D", color=ACCENT, lw=1.1, ms=4, mfc="white", zorder=6,
                label="Full model (recalibrated)",
            )  # fmt: skip
        for truth, low, high in ((0.0, -0.055, -0.02), (1.0, 1.02, 1.055)):
            axes.vlines(subjects.mean[subjects.y_true == truth], low, high, color=MUTED, lw=0.8)
        figure.legend(loc="lower center", bbox_to_anchor=(0.5, 0.0), ncols=2, handlelength=2.0, columnspacing=1.2)
        _square_axes(axes, "Predicted risk, out of fold", "Observed share", margin=0.07)
        return to_svg(figure, name, description="Calibration: observed share against predicted risk", stamp=stamp)


def curve_figure(curve: CalibrationCurve, name: str, *, stamp: str = "") -> str:
    """One calibration curve: observed share against predicted risk in groups of subjects, with intervals."""
    colour = model_label(curve.model).colour
    with style():
        figure, axes = panel()
        axes.plot([0, 1], [0, 1], color="#9AA5B1", lw=0.9, ls=(0, (4, 3)))
        axes.vlines(curve.predicted, curve.low, curve.high, color=colour, lw=1.2, alpha=0.6)
        axes.plot(curve.predicted, curve.observed, "-o", color=colour, lw=1.4, ms=4.8, mec="white", mew=0.5)
        _square_axes(axes, "Predicted risk", "Observed share")
        return to_svg(figure, name, description="Calibration: observed share against predicted risk", stamp=stamp)


def instability_figure(record: Instability, name: str, *, stamp: str = "") -> str:
    """Risk of each subject by the fitted model against the 95 % range of its risks over bootstrap refits."""
    look = model_label(record.model)
    with style():
        figure, axes = panel()
        axes.plot([0, 1], [0, 1], color="#9AA5B1", lw=0.9, ls=(0, (4, 3)))
        axes.vlines(record.original, record.low, record.high, color=look.colour, lw=1.4, alpha=0.45)
        axes.plot(record.original, record.original, "o", ms=3.2, color=look.colour, mec="white", mew=0.4)
        _square_axes(axes, "Risk by the fitted model", "Risks by bootstrap refits")
        return to_svg(figure, name, description="Instability of single risks over bootstrap refits", stamp=stamp)


def scatter_figure(rows: OutOfFold, name: str, *, unit: str, levels: Sequence[str] = (), stamp: str = "") -> str:
    """Predicted against true value: one dot per subject (mean over repeats), range over repeats as a line.

    Args:
        levels: names of the values 0, 1, ... of an ordinal outcome.
    """
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
        if levels:
            axes.set_xticks(range(len(levels)), [clean(level, 12) for level in levels])
            axes.set_yticks(range(len(levels)))
            axes.set_ylabel("Expected level (0 is the first)")
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
