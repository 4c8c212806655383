"""Figures of tests and training: permutation distributions, training curves and probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.report.figures.drawing import ACCENT, INK, LINES, clean, panel, style, to_svg
from connectome_tl.report.labels import metric_label, model_label, number
from connectome_tl.settings.model_table import model_order
from connectome_tl.settings.records.results import PermutationResult, TrainingCurve
from connectome_tl.settings.records.statistics import AdaptationProbe

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def permutation_figure(test: PermutationResult, name: str, *, stamp: str = "") -> str | None:
    """Histogram of the null distribution with the observed value; None if either is missing."""
    null = np.array([value for value in test.null if np.isfinite(value)])
    if not len(null) or not np.isfinite(test.observed):
        return None
    from matplotlib.ticker import MaxNLocator

    metric = metric_label(test.metric)
    low, high = min(null.min(), test.observed), max(null.max(), test.observed)
    margin = 0.05 * (high - low) or 0.05
    bins = np.linspace(low - margin, high + margin, int(np.clip(len(null) // 8, 8, 30)) + 1)
    counts, _ = np.histogram(null, bins=bins)
    beyond = bins[:-1] >= test.observed - 1e-12
    with style():
        figure, axes = panel(left=0.46)
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
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        return to_svg(figure, name, description=f"Permutation null of {metric.label}", stamp=stamp)


def training_figure(curves: Sequence[TrainingCurve], name: str, *, stamp: str = "") -> str | None:
    """Training loss of one stage: median over fits with quartiles, one line per model.

    Models that share fits of a stage share a line.
    """
    shared: dict[tuple[object, ...], list[TrainingCurve]] = {}
    for curve in sorted(curves, key=lambda c: model_order(c.model)):
        if curve.step and np.isfinite(curve.median).any():
            shared.setdefault((curve.step, curve.median, curve.low, curve.high, curve.n_fits), []).append(curve)
    if not shared:
        return None
    from matplotlib.ticker import MaxNLocator

    below = 0.2 + 0.16 * len(shared)  # inches for the legend, which would cover the lines inside the axes
    with style():
        figure, axes = panel(3.6, 2.6 + below, left=0.6, bottom=0.43 + below)
        for curve, *others in shared.values():
            look = model_label(curve.model)
            if len(curve.low) == len(curve.high) == len(curve.step):
                axes.fill_between(curve.step, curve.low, curve.high, color=look.colour, alpha=0.13, lw=0)
            label = f"{clean(look.label)} ({curve.n_fits} fit{'' if curve.n_fits == 1 else 's'}"
            label += f", shared with {len(others)} other model{'' if len(others) == 1 else 's'})" if others else ")"
            axes.plot(
                curve.step,
                curve.median,
                color=look.colour,
                lw=1.8 if curve.model == "full" else 1.1,
                marker="o" if len(curve.step) == 1 else "",
                ms=4,
                label=label,
            )
        _loss_axis(axes, np.array([v for c in curves for v in (*c.median, *c.low, *c.high)]))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        axes.set(xlabel="Step", ylabel="Training loss")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="lower left", bbox_to_anchor=(0.02, 0.0), handlelength=1.8, labelcolor=INK)
        return to_svg(figure, name, description="Training loss", stamp=stamp)


def probe_figure(probes: Sequence[AdaptationProbe], name: str, *, stamp: str = "") -> str | None:
    """Scores of linear probes after shares of the steps of stage 2, one line per outcome; None without scores."""
    shown = [probe for probe in probes if np.isfinite(probe.values).any()]
    if not shown:
        return None
    from matplotlib.ticker import PercentFormatter

    below = 0.2 + 0.16 * len(shown)  # inches for the legend
    with style():
        figure, axes = panel(3.6, 2.6 + below, left=0.6, bottom=0.43 + below)
        for k, probe in enumerate(shown):
            fits = f"{probe.n_fits} fit{'' if probe.n_fits == 1 else 's'}"
            axes.plot(
                probe.shares,
                probe.values,
                color=LINES[k % len(LINES)],
                ls="-" if probe.cohort == "pool" else "--",
                marker="o",
                ms=3,
                lw=1.5,
                label=f"{clean(probe.outcome)} of the {probe.cohort}, {probe.metric} ({fits})",
            )
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(xlabel="Steps of stage 2", ylabel=" or ".join(dict.fromkeys(probe.metric for probe in shown)))
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="lower left", bbox_to_anchor=(0.02, 0.0), handlelength=2.4, labelcolor=INK)
        return to_svg(figure, name, description="Linear probes during stage 2", stamp=stamp)


def _loss_axis(axes: Axes, values: np.ndarray) -> None:
    """Use a logarithmic axis with plain tick labels if the loss varies over a wide range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = values[np.isfinite(values)]
    if (values > 0).all() and values.max() > 20 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
