"""Learning curve: a figure of the main models and a table of all models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connectome_tl.report.figures.drawing import INK, MUTED, clean, panel, style, to_svg
from connectome_tl.report.labels import metric_label, model_label
from connectome_tl.report.tables.scores import with_interval
from connectome_tl.settings.model_table import FULL, model_named, model_order
from connectome_tl.settings.records.results import LearningPoint, RunRecord

Row = tuple[str, ...]
_CONTROLS = ("scratch", "no_pretrain", "no_adapt")
_N_BASELINES = 3


def shown_models(points: Sequence[LearningPoint]) -> list[str]:
    """The full model, its controls of a stage, and the baselines that are best at the largest size."""
    largest = max(point.n_labelled for point in points)
    there = {point.model for point in points}
    last = [p for p in points if p.n_labelled == largest and model_named(p.model).role == "baseline"]
    sign = metric_label(points[0].metric).sign
    best = sorted((p for p in last if np.isfinite(p.value)), key=lambda p: -sign * p.value)[:_N_BASELINES]
    return [name for name in (FULL, *_CONTROLS) if name in there] + [point.model for point in best]


def curve_figure(points: Sequence[LearningPoint], name: str, *, stamp: str = "") -> str | None:
    """Lines of the main models, with the interval of the full model as a band; None without points.

    Args:
        points: points of one task.
    """
    points = [point for point in points if np.isfinite(point.value)]
    if not points:
        return None
    models, metric = shown_models(points), metric_label(points[0].metric)
    sizes = sorted({point.n_labelled for point in points})
    below = 0.2 + 0.16 * len(models)
    with style():
        figure, axes = panel(3.6, 2.6 + below, left=0.5, bottom=0.43 + below)
        if metric.chance is not None:
            axes.axhline(metric.chance, color=MUTED, lw=0.8, ls=":")
        for model in models:
            own = sorted((p for p in points if p.model == model), key=lambda p: p.n_labelled)
            x, look = [p.n_labelled for p in own], model_label(model)
            if model == FULL:
                axes.fill_between(x, [p.low for p in own], [p.high for p in own], color=look.colour, alpha=0.13, lw=0)
            axes.plot(
                x,
                [p.value for p in own],
                color=look.colour,
                lw=1.8 if model == FULL else 1.1,
                ls="--" if look.role == "baseline" else "-",
                marker="o",
                ms=3,
                label=clean(look.label),
            )
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.minorticks_off()
        axes.set(xlabel="Labelled subjects in training", ylabel=clean(metric.label))
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="lower left", bbox_to_anchor=(0.02, 0.0), handlelength=2.2, labelcolor=INK)
        return to_svg(figure, name, description=f"{metric.label} against labelled subjects", stamp=stamp)


def curve_table(record: RunRecord, task: str) -> tuple[Row, list[Row]]:
    """Header, and a row per model with a cell per size: value and 95 % interval. No rows without a curve."""
    own = [point for point in record.learning_curve if point.task == task]
    sizes = sorted({point.n_labelled for point in own})
    cells = {(point.model, point.n_labelled): point for point in own}
    rows = []
    for model in sorted({point.model for point in own}, key=model_order):
        found = [cells.get((model, size)) for size in sizes]
        rows.append((model_label(model).label, *(with_interval(p) for p in found)))
    return ("Model", *(f"{size} labelled" for size in sizes)), rows
