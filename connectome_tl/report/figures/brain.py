"""Glass brain without an image: region centroids in right, back and top view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.report.figures.drawing import MUTED, figure_of, style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RIM = 11.0  # mm of brain around the outermost centroids
_ROUNDING = 61  # degrees over which the outline is smoothed
_VIEWS = ((1, 2, "from the right"), (0, 2, "from behind"), (0, 1, "from above"))
_COLOURS = {1: "#C2410C", -1: "#1D4ED8"}


def glass_brain(
    coordinates: Sequence[Sequence[float]] | np.ndarray,
    values: Sequence[float] | np.ndarray,
    *,
    edges: Sequence[tuple[int, int, float]] = (),
    name: str = "glass-brain",
    stamp: str = "",
) -> str | None:
    """Regions as dots (area: magnitude; colour: sign), edges as lines, in three projections.

    Args:
        coordinates: (n_regions, 3) centroids in mm, RAS+ (x to the right, y to the front, z up).
        values: (n_regions,) importance; NaN is left out.
        edges: (first, second, value), positions of two regions; width is magnitude, colour is sign.
        name: prefix of the ids in the SVG.

    Returns:
        Inline SVG; None where no region has a finite value and coordinate.

    Raises:
        ValueError: shapes do not match, or an edge refers to a region that does not exist.
    """
    points, size = np.asarray(coordinates, dtype=float), np.asarray(values, dtype=float)
    if points.ndim != 2 or points.shape[1] != 3 or size.shape != (len(points),):
        raise ValueError(
            f"expected (n_regions, 3) coordinates and (n_regions,) values, got {points.shape}, {size.shape}"
        )
    if any(not 0 <= end < len(points) for first, second, _ in edges for end in (first, second)):
        raise ValueError(f"an edge has a region outside 0 to {len(points) - 1}")
    shown = np.isfinite(points).all(axis=1) & np.isfinite(size)
    if not shown.any():
        return None
    outlines = [_outline(points[np.isfinite(points).all(axis=1)][:, [across, up]]) for across, up, _ in _VIEWS]
    low = [outline.min(axis=0) for outline in outlines]
    extent = np.array([np.ptp(outline, axis=0) for outline in outlines]) + 8.0  # mm, with a margin
    with style():
        # One scale, in inches per millimetre, for all three views.
        bottom, total = 0.3, 7.2
        inches = total / extent[:, 0].sum()
        height = extent[:, 1].max() * inches + bottom + (0.14 if stamp else 0.0)
        figure = figure_of(total, height)
        left = 0.0
        for (across, up, view), outline, start, size_mm in zip(_VIEWS, outlines, low, extent, strict=True):
            width = size_mm[0] * inches / total
            axes = figure.add_axes((left, bottom / height, width, size_mm[1] * inches / height))
            axes.set_axis_off()
            axes.set(xlim=(start[0] - 4, start[0] - 4 + size_mm[0]), ylim=(start[1] - 4, start[1] - 4 + size_mm[1]))
            axes.fill(*outline.T, facecolor="#F4F6F9", edgecolor="#B6C0CC", linewidth=0.9, zorder=0)
            if across == 0:
                axes.plot([0, 0], [start[1], start[1] + size_mm[1] - 8], color="#D5DCE5", lw=0.8, zorder=1)
            _draw_edges(axes, points, shown, edges, across, up)
            _draw_regions(axes, points, size, shown, across, up)
            sides = ("L", "R") if across == 0 else ("back", "front")
            figure.text(left + 0.012, 0.03, sides[0], ha="left", color=MUTED, fontsize=7.0)
            figure.text(left + width - 0.012, 0.03, sides[1], ha="right", color=MUTED, fontsize=7.0)
            figure.text(left + width / 2, 0.03, view, ha="center", color=MUTED, fontsize=7.0)
            left += width
        return to_svg(figure, name, description="Importance of brain regions in three projections", stamp=stamp)


def _outline(points: np.ndarray) -> np.ndarray:
    """Smoothed hull of the centroids with a margin, (n_points, 2); it adapts to adult and neonatal atlases."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    outward = np.column_stack([np.cos(angle), np.sin(angle)])
    hull = points[(points @ outward.T).argmax(axis=0)] + _RIM * outward
    centre = (hull.max(axis=0) + hull.min(axis=0)) / 2
    radius = np.hypot(*(hull - centre).T)
    radius = np.interp(angle, np.arctan2(*(hull - centre).T[::-1]), radius, period=2 * np.pi)
    window = np.hanning(_ROUNDING) / np.hanning(_ROUNDING).sum()
    around = np.concatenate([radius[-(_ROUNDING // 2) :], radius, radius[: _ROUNDING // 2]])
    return centre + outward * np.convolve(around, window, mode="valid")[:, None]


def _draw_regions(axes: Axes, points: np.ndarray, size: np.ndarray, shown: np.ndarray, across: int, up: int) -> None:
    # Draw distant regions first, so that near ones are on top. Depth is the axis that is not drawn. From behind,
    # near means a small y; from the right and from above, a large x and z.
    depth = ({0, 1, 2} - {across, up}).pop()
    order = np.flatnonzero(shown)[np.argsort(points[shown, depth] * (-1 if depth == 1 else 1), kind="stable")]
    biggest = float(np.abs(size[shown]).max()) or 1.0
    axes.scatter(
        points[order, across],
        points[order, up],
        s=3 + 95 * np.abs(size[order]) / biggest,
        c=[_COLOURS[1 if v >= 0 else -1] for v in size[order]],
        alpha=0.75,
        linewidths=0.4,
        edgecolors="white",
        zorder=3,
    )


def _draw_edges(
    axes: Axes,
    points: np.ndarray,
    shown: np.ndarray,
    edges: Sequence[tuple[int, int, float]],
    across: int,
    up: int,
) -> None:
    from matplotlib.collections import LineCollection

    kept = [(a, b, v) for a, b, v in edges if shown[a] and shown[b] and np.isfinite(v)]
    if not kept:
        return
    strongest = max(abs(v) for _, _, v in kept) or 1.0
    lines = LineCollection(
        [points[[a, b]][:, [across, up]] for a, b, _ in kept],
        linewidths=[0.4 + 2.2 * abs(v) / strongest for _, _, v in kept],
        colors=[_COLOURS[1 if v >= 0 else -1] for _, _, v in kept],
        alpha=0.45,
        zorder=2,
    )
    axes.add_collection(lines)
