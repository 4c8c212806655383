"""Figures of what was tested and trained: permutation nulls and training curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.report.drawing import ACCENT, INK, clean, panel, style, to_svg
from connectome_tl.report.labels import metric_label, model_label, model_order, number
from connectome_tl.settings.results import PermutationResult, TrainingCurve


def permutation_figure(test: PermutationResult, name: str, *, stamp: str = "") -> str | None:
    """Histogram of the null with the observed value; None without a null or an observed value."""
    null = np.array([value for value in test.null if np.isfinite(value)])
    if not len(null) or not np.isfinite(test.observed):
        return None
    metric = metric_label(test.metric)
    low, high = min(null.min(), test.observed), max(null.max(), test.observed)
    margin = 0.05 * (high - low) or 0.05
    bins = np.linspace(low - margin, high + margin, int(np.clip(len(null) // 8, 8, 30)) + 1)
    counts, _ = np.histogram(null, bins=bins)
    beyond = bins[:-1] >= test.observed - 1e-12
    with style():
        figure, axes = panel(left=0.42)
        colours = np.where(beyond, "#D55E00", "#BAC4D0")
        axes.bar(bins[:-1], counts, width=np.diff(bins), align="edge", color=list(colours), edgecolor="white", lw=0.5)
        axes.axvline(test.observed, color=ACCENT, lw=1.8)
        top = max(1, counts.max())
        right = test.observed > (low + high) / 2
        axes.annotate(
            f"observed {number(test.observed)}",
            (test.observed, top * 1.13),
            xytext=(-4 if right else 4, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            color=ACCENT,
            fontweight="bold",
            fontsize=7.5,
        )
        axes.set(ylim=(0, top * 1.25), xlabel=f"{clean(metric.label)} under permutation", ylabel="Permutations")
        axes.grid(visible=False, axis="x")
        return to_svg(figure, name, description=f"Permutation null of {metric.label}", stamp=stamp)


def training_figure(curves: Sequence[TrainingCurve], name: str, *, stamp: str = "") -> str | None:
    """Training loss of one stage: median over fits with quartiles, one line per model."""
    curves = [curve for curve in curves if curve.step and np.isfinite(curve.median).any()]
    if not curves:
        return None
    with style():
        figure, axes = panel(left=0.5)
        for curve in sorted(curves, key=lambda c: model_order(c.model)):
            look = model_label(curve.model)
            if len(curve.low) == len(curve.high) == len(curve.step):
                axes.fill_between(curve.step, curve.low, curve.high, color=look.colour, alpha=0.13, lw=0)
            one = len(curve.step) == 1
            axes.plot(
                curve.step,
                curve.median,
                color=look.colour,
                lw=1.8 if curve.model == "full" else 1.1,
                marker="o" if one else "",
                ms=4,
                label=f"{clean(look.label)} ({curve.n_fits} fit{'' if curve.n_fits == 1 else 's'})",
            )
        values = np.array([v for c in curves for v in (*c.median, *c.low, *c.high)])
        values = values[np.isfinite(values)]
        if (values > 0).all() and values.max() > 20 * values.min():
            axes.set_yscale("log")
            axes.minorticks_off()
        axes.set(xlabel="Epoch", ylabel="Training loss")
        axes.legend(loc="upper right", handlelength=1.8, borderaxespad=0.2, labelcolor=INK)
        return to_svg(figure, name, description="Training loss", stamp=stamp)
