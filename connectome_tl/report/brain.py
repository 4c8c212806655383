"""A glass brain without an image: regions at their centroids, seen from the right, from behind, from above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.report.drawing import MUTED, figure_of, style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Outline of an adult brain in MNI space, mm: centre and half axes of the ellipse in each view. Smaller
# brains (neonates) scale it by the extent of their own centroids.
_CENTRE, _HALF = np.array([0.0, -18.0, 12.0]), np.array([70.0, 89.0, 62.0])
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
        ValueError: shapes do not fit, or an edge names a region that is not there.
    """
    points, size = np.asarray(coordinates, dtype=float), np.asarray(values, dtype=float)
    if points.ndim != 2 or points.shape[1] != 3 or size.shape != (len(points),):
        raise ValueError(
            f"expected (n_regions, 3) coordinates and (n_regions,) values, got {points.shape}, {size.shape}"
        )
    if any(not 0 <= end < len(points) for first, second, _ in edges for end in (first, second)):
        raise ValueError(f"an edge names a region outside 0 to {len(points) - 1}")
    shown = np.isfinite(points).all(axis=1) & np.isfinite(size)
    if not shown.any():
        return None
    scale = float(np.max(np.abs(points[shown] - _CENTRE) / _HALF))
    half = _HALF * (scale * 1.06 if scale > 0.3 else 1.0)
    with style():
        # One scale for all three views: so many inches per millimetre, with a margin around each ellipse.
        margin, bottom = 1.1, 0.32
        inches = 7.2 / (2 * margin * sum(half[across] for across, _, _ in _VIEWS))
        height = 2 * margin * max(half[up] for _, up, _ in _VIEWS) * inches + bottom
        figure = figure_of(7.2, height)
        left = 0.0
        for across, up, view in _VIEWS:
            width = 2 * margin * half[across] * inches / 7.2
            axes = figure.add_axes((left, bottom / height, width, 1 - bottom / height))
            axes.set_axis_off()
            axes.set_aspect("equal")
            axes.set_xlim(_CENTRE[across] - margin * half[across], _CENTRE[across] + margin * half[across])
            axes.set_ylim(_CENTRE[up] - margin * half.max(), _CENTRE[up] + margin * half.max())
            _outline(axes, _CENTRE[across], _CENTRE[up], half[across], half[up])
            _draw_edges(axes, points, shown, edges, across, up)
            _draw_regions(axes, points, size, shown, across, up)
            sides = ("L", "R") if across == 0 else ("back", "front")
            for at, text, side in ((left, sides[0], "left"), (left + width, sides[1], "right")):
                figure.text(at + (0.012 if side == "left" else -0.012), 0.03, text, ha=side, color=MUTED, fontsize=7.0)
            figure.text(left + width / 2, 0.03, view, ha="center", color=MUTED, fontsize=7.0)
            left += width
        return to_svg(figure, name, description="Importance of brain regions in three projections", stamp=stamp)


def _draw_regions(axes: Axes, points: np.ndarray, size: np.ndarray, shown: np.ndarray, across: int, up: int) -> None:
    # Far regions first, so that near ones lie on top: depth is the axis that is not drawn. From behind,
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


def _outline(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    from matplotlib.patches import Ellipse

    ellipse = Ellipse((x, y), 2 * width, 2 * height, facecolor="#F4F6F9", edgecolor="#B6C0CC", linewidth=0.9, zorder=0)
    axes.add_patch(ellipse)


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
