"""Figures of an explanation: brain, matrix ordered by lobe, circle of strongest edges, bars."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.report.figures.brain import glass_brain
from connectome_tl.report.figures.drawing import INK, MUTED, clean, figure_of, panel, style, to_svg
from connectome_tl.settings.records.explanations import ExplanationMap, ExplanationRecord, MapItem

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNIT = "SD of the predictions"
BRAIN_EDGES, CIRCLE_EDGES, BARS = 30, 50, 12  # numbers of items drawn; the tables contain all
UP, DOWN = "#C2410C", "#1D4ED8"
LOBE_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B57B00", "#56B4E9", "#332288", "#882255", "#117733", "#7A7A7A",
)  # fmt: skip


def brain_figure(one: ExplanationMap, whole: ExplanationRecord, name: str, stamp: str) -> str | None:
    """Regions and strongest edges on nilearn's glass brain in MNI space, else on the outline of the centroids."""
    if not whole.coordinates or not one.regions:
        return None
    values = np.array([item.value for item in one.regions])
    values = np.maximum(values - np.nanmedian(values), 0.0)  # every region has a value; show the largest only
    points = np.array(whole.coordinates, dtype=float)
    edges = [(item.first, item.second, item.value) for item in one.edges[:BRAIN_EDGES] if item.value]
    if "MNI" in whole.space and np.isfinite(points).all():
        return _nilearn_brain(points, values, edges, name, stamp)
    return glass_brain(points, values, edges=edges, name=name, stamp=stamp)


def _nilearn_brain(
    points: np.ndarray, values: np.ndarray, edges: Sequence[tuple[int, int, float]], name: str, stamp: str
) -> str:
    from nilearn.plotting import plot_connectome

    matrix = np.zeros((len(points), len(points)))
    for first, second, value in edges:
        matrix[first, second] = matrix[second, first] = value
    largest = float(np.abs(values).max()) or 1.0
    with style():
        figure = figure_of(7.2, 2.5)
        plot_connectome(
            matrix,
            points,
            node_color=[UP if value >= 0 else DOWN for value in values],
            node_size=2 + 60 * np.abs(values) / largest,
            edge_cmap="coolwarm",
            edge_kwargs={"linewidth": 1.5, "alpha": 0.8},
            colorbar=False,
            figure=figure,
            display_mode="lyrz",
        )
        svg = to_svg(figure, name, description="Glass brain with the strongest regions and edges", stamp=stamp)
    # The outline has thousands of points; a precision of 0.01 pt is sufficient and keeps the file small.
    return re.sub(r"(\d\.\d\d)\d+", r"\1", svg)


def lobe_order(whole: ExplanationRecord) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Order of the regions by lobe and hemisphere, and name, start and end of each lobe."""
    lobes = whole.lobes or ("",) * len(whole.regions)
    sides = whole.hemispheres or ("",) * len(whole.regions)
    order = np.array(sorted(range(len(whole.regions)), key=lambda i: (lobes[i], sides[i], i)), dtype=int)
    spans: list[tuple[str, int, int]] = []
    for at, region in enumerate(order):
        if spans and spans[-1][0] == lobes[region]:
            spans[-1] = (spans[-1][0], spans[-1][1], at + 1)
        else:
            spans.append((lobes[region], at, at + 1))
    return order, spans


def matrix_of(one: ExplanationMap, n_regions: int) -> np.ndarray:
    """Edges of the summary as a matrix, (n_regions, n_regions)."""
    flat = np.frombuffer(base64.b64decode(one.matrix), dtype=np.int8).astype(float)
    return flat.reshape(n_regions, n_regions) * one.matrix_scale / 127


def matrix_figure(one: ExplanationMap, whole: ExplanationRecord, name: str, stamp: str) -> str | None:
    """All edges, rows and columns ordered by lobe; red raises the prediction, blue lowers it."""
    if not one.matrix:
        return None
    order, spans = lobe_order(whole)
    values = matrix_of(one, len(whole.regions))[np.ix_(order, order)]
    limit = float(np.quantile(np.abs(values), 0.995)) or 1.0
    with style():
        figure = figure_of(4.4, 3.7)
        axes = figure.add_axes((0.19, 0.2, 0.63, 0.75))
        image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.grid(visible=False)
        for _, start, _ in spans[1:]:
            axes.axhline(start - 0.5, color=INK, lw=0.4)
            axes.axvline(start - 0.5, color=INK, lw=0.4)
        middles = [(start + end - 1) / 2 for _, start, end in spans]
        names = [clean(lobe, 14) for lobe, _, _ in spans]
        axes.set_xticks(middles, names, rotation=45, ha="right", fontsize=6.5)
        axes.set_yticks(middles, names, fontsize=6.5)
        axes.tick_params(length=0)
        bar = figure.add_axes((0.84, 0.2, 0.02, 0.75))
        figure.colorbar(image, cax=bar).set_label(UNIT, size=6.5)
        bar.tick_params(labelsize=6)
        return to_svg(figure, name, description="Matrix of all edges ordered by lobe", stamp=stamp)


def circle_figure(one: ExplanationMap, whole: ExplanationRecord, name: str, stamp: str) -> str | None:
    """The strongest edges as arcs between regions on a circle, left hemisphere on the left."""
    edges = [item for item in one.edges[:CIRCLE_EDGES] if item.value]
    if not edges:
        return None
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    angles, spans = _circle(whole)
    places = np.column_stack([np.cos(angles), np.sin(angles)])
    strongest = max(abs(item.value) for item in edges)
    with style():
        figure = figure_of(4.7, 3.7)
        axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
        axes.set_axis_off()
        axes.set(xlim=(-2.28, 1.62), ylim=(-1.52, 1.52))
        for item in reversed(edges):
            start, end = places[item.first], places[item.second]
            path = Path([start, 0.25 * (start + end), end], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
            width = 0.3 + 1.9 * abs(item.value) / strongest
            axes.add_patch(PathPatch(path, fill=False, lw=width, ec=UP if item.value > 0 else DOWN, alpha=0.55))
        _rim(axes, angles, spans)
        _end_labels(axes, edges, whole, angles)
        return to_svg(figure, name, description="Strongest edges between regions on a circle", stamp=stamp)


def _circle(whole: ExplanationRecord) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Angle of each region, and the regions of each lobe; the left hemisphere mirrors the right."""
    order, _ = lobe_order(whole)
    lobes = whole.lobes or ("",) * len(whole.regions)
    sides = np.array(whole.hemispheres or ("R",) * len(whole.regions))
    right = [i for i in order if sides[i] != "L"]
    left = [i for i in order if sides[i] == "L"]
    angles = np.zeros(len(whole.regions))
    for members, begin, turn in ((right, np.pi / 2, -np.pi), (left, np.pi / 2, np.pi)):
        for k, region in enumerate(members):
            share = (k + 1) / (len(members) + 1)
            angles[region] = begin + turn * share
    named = sorted(set(lobes))
    return angles, [(lobe, np.array([i for i, own in enumerate(lobes) if own == lobe])) for lobe in named]


def _rim(axes: Axes, angles: np.ndarray, spans: Sequence[tuple[str, np.ndarray]]) -> None:
    for k, (lobe, members) in enumerate(spans):
        colour = LOBE_COLOURS[k % len(LOBE_COLOURS)]
        axes.scatter(1.035 * np.cos(angles[members]), 1.035 * np.sin(angles[members]), s=9, c=colour, lw=0, zorder=3)
        axes.text(-2.26, 1.47 - 0.105 * k, clean(lobe, 16), color=colour, fontsize=6, va="top", fontweight="bold")


def _end_labels(axes: Axes, edges: Sequence[MapItem], whole: ExplanationRecord, angles: np.ndarray) -> None:
    """Label the regions with most of the drawn edges."""
    total = np.zeros(len(whole.regions))
    for item in edges:
        total[[item.first, item.second]] += abs(item.value)
    used: list[float] = []
    for region in np.argsort(-total, kind="stable")[:16]:
        angle = angles[region]
        if total[region] > 0 and all(abs(np.angle(np.exp(1j * (angle - other)))) > 0.09 for other in used):
            used.append(angle)
            right = np.cos(angle) >= 0
            axes.text(
                1.09 * np.cos(angle),
                1.09 * np.sin(angle),
                clean(whole.regions[region], 14),
                ha="left" if right else "right",
                va="center",
                rotation=np.degrees(angle) + (0 if right else 180),
                rotation_mode="anchor",
                fontsize=5.6,
                color=INK,
            )


def bars_figure(items: Sequence[MapItem], labels: Sequence[str], name: str, stamp: str, *, title: str) -> str | None:
    """The largest values as bars, with the fraction of folds in which each is among the largest."""
    chosen = sorted((i for i, item in enumerate(items) if np.isfinite(item.value)), key=lambda i: -abs(items[i].value))
    chosen = [i for i in chosen[:BARS] if items[i].value]
    if not chosen:
        return None
    groups = sorted(set(labels))
    with style():
        names = [clean(items[i].name, 32) for i in chosen]
        left = min(1.9, max(1.35, 0.06 * max(map(len, names))))
        figure, axes = panel(3.9, 0.62 + 0.19 * len(chosen), left=left, bottom=0.4, top=0.2, right=0.2)
        rows = np.arange(len(chosen))[::-1]
        colours = [
            LOBE_COLOURS[groups.index(labels[i]) % len(LOBE_COLOURS)] if len(groups) > 1 else "#0072B2" for i in chosen
        ]
        values = [items[i].value for i in chosen]
        axes.barh(rows, values, color=colours, height=0.7)
        axes.axvline(0, color=INK, lw=0.6)
        axes.set_yticks(rows, names, fontsize=6.8)
        axes.grid(visible=False, axis="y")
        low, high = min(0.0, *values), max(0.0, *values)
        room = 0.2 * (high - low)  # for the share next to the longest bar
        axes.set_xlim(low - (room if low < 0 else 0), high + (room if high > 0 else 0))
        for row, i in zip(rows, chosen, strict=True):
            p = items[i].p
            share = f"{items[i].stability:.0%}" if np.isfinite(items[i].stability) else ""
            text = f"{share}{' *' if p <= 0.05 else ''}".strip()
            side = items[i].value >= 0
            axes.annotate(
                text, (items[i].value, row), xytext=(3 if side else -3, 0), textcoords="offset points",
                ha="left" if side else "right", va="center", fontsize=5.8, color=MUTED,
            )  # fmt: skip
        axes.locator_params(axis="x", nbins=4)  # the labels of small numbers are long
        axes.set_xlabel(f"{title} ({UNIT})")
        return to_svg(figure, name, description=title, stamp=stamp)
