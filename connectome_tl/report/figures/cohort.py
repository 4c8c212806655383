"""Figures of cohort quality: measures with limits, missing regions, sites by age, matrices."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from connectome_tl.report.figures.drawing import ACCENT, INK, clean, panel, style, swarm, to_svg
from connectome_tl.settings.records.results import CohortQualityRecord, MatrixImage, SubjectMeasure, VolumeImage

_FLAG = "#D55E00"
_MOST_ROWS, _MOST_COLUMNS = 40, 60


def outliers(measure: SubjectMeasure) -> np.ndarray:
    """(n_subjects,) bool: beyond the limits of the measure; undefined values are not outliers."""
    values = np.array(measure.values, dtype=float)
    low = -np.inf if measure.low is None else measure.low
    high = np.inf if measure.high is None else measure.high
    return (values < low) | (values > high)


def measure_figure(measure: SubjectMeasure, name: str, *, stamp: str = "") -> str | None:
    """One dot per subject; limits as lines, subjects beyond them in orange. None without any value."""
    values = np.array(measure.values, dtype=float)
    finite = np.isfinite(values)
    if not finite.any():
        return None
    from matplotlib.ticker import MaxNLocator

    flagged = outliers(measure)[finite]
    values = values[finite]
    span = float(np.ptp(values)) or 1.0
    with style():
        figure, axes = panel(3.6, 1.75, left=0.2)
        heights = swarm(values, dot=0.022 * span, step=0.1, top=1.0)
        for limit in (measure.low, measure.high):
            if limit is not None and values.min() - span <= limit <= values.max() + span:
                axes.axvline(limit, color=_FLAG, lw=0.9, ls=(0, (4, 3)))
        for here, colour in ((~flagged, ACCENT), (flagged, _FLAG)):
            axes.plot(values[here], heights[here], "o", ms=3.8, color=colour, mec="white", mew=0.4)
        median = float(np.median(values))
        axes.plot([median, median], [-0.12, 1.1], color=INK, lw=1.2, zorder=1)
        suffix = f" ({clean(measure.unit, 18)})" if measure.unit else ""
        axes.set(ylim=(-0.2, 1.2), yticks=[], xlabel=f"{clean(measure.name)}{suffix}")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.spines["left"].set_visible(False)
        return to_svg(figure, name, description=f"Distribution of {clean(measure.name)}", stamp=stamp)


def site_age_figure(quality: CohortQualityRecord, name: str, *, stamp: str = "") -> str | None:
    """Age of every subject, one row per site, to show whether site and age are confounded. None without ages."""
    ages = np.array(quality.ages, dtype=float)
    if not np.isfinite(ages).any():
        return None
    sites = quality.sites if len(quality.sites) == len(ages) else ("",) * len(ages)
    order = sorted(set(sites))[:_MOST_ROWS]
    span = float(np.nanmax(ages) - np.nanmin(ages)) or 1.0
    with style():
        figure, axes = panel(3.6, max(1.75, 0.75 + 0.42 * len(order)), left=1.1)
        for row, site in enumerate(order):
            here = np.array([s == site for s in sites]) & np.isfinite(ages)
            heights = row - 0.1 + swarm(ages[here], dot=0.022 * span, step=0.12, top=0.6)
            axes.plot(ages[here], heights, "o", ms=3.6, color=ACCENT, mec="white", mew=0.4)
        counts = [sum(s == site for s in sites) for site in order]
        unsaid = "unknown" if any(sites) else "all"
        names = [f"{clean(site, 13) or unsaid} ({n})" for site, n in zip(order, counts, strict=True)]
        axes.set_yticks(range(len(order)), names)
        axes.set(ylim=(-0.4, len(order) - 0.2), xlabel=f"Age at scan ({clean(quality.age_unit, 18) or 'unit unknown'})")
        axes.tick_params(axis="y", length=0)
        return to_svg(figure, name, description="Age at scan by site", stamp=stamp)


def missing_figure(quality: CohortQualityRecord, name: str, *, stamp: str = "") -> str | None:
    """Missing regions: a square for each missing region of a subject; complete subjects and regions are omitted.

    None if nothing is missing. Subjects with most missing regions come first. At most 40 subjects and 60
    regions are drawn; the tables give the full counts.
    """
    if not quality.missing:
        return None
    lacking = [subject for subject, _ in quality.missing]
    rows = sorted(set(lacking), key=lambda i: (-lacking.count(i), i))[:_MOST_ROWS]
    columns = sorted({region for subject, region in quality.missing if subject in rows})[:_MOST_COLUMNS]
    row_of, column_of = {s: i for i, s in enumerate(rows)}, {r: i for i, r in enumerate(columns)}
    points = np.array([(column_of[r], row_of[s]) for s, r in quality.missing if s in row_of and r in column_of])
    names = [clean(quality.regions[region], 26) for region in columns]
    with style():
        bottom = 0.12 + 0.058 * max(len(text) for text in names)
        width = min(10.0, 1.5 + 0.17 * max(12, len(columns)))
        figure, axes = panel(width, 0.25 + bottom + 0.17 * max(3, len(rows)), left=1.1, bottom=bottom)
        axes.scatter(points[:, 0], points[:, 1], marker="s", s=42, color=_FLAG, linewidths=0)
        axes.set_yticks(range(len(rows)), [clean(quality.subjects[i], 16) for i in rows])
        axes.set_xticks(range(len(columns)), names, rotation=90)
        axes.set(xlim=(-0.6, max(12, len(columns)) - 0.4), ylim=(max(3, len(rows)) - 0.4, -0.6))
        axes.tick_params(length=0)
        return to_svg(figure, name, description="Regions missing by subject", stamp=stamp)


def matrix_pngs(matrices: Sequence[MatrixImage]) -> list[str]:
    """Connectomes as `data:` URLs of square images with one pixel per edge and a common colour range.

    Raises:
        ValueError: the number of values is not `n_rows` squared.
    """
    squares = []
    for matrix in matrices:
        if len(matrix.values) != matrix.n_rows**2 or not matrix.values:
            raise ValueError(f"matrix {matrix.title!r}: expected {matrix.n_rows}² values, got {len(matrix.values)}")
        squares.append(np.array(matrix.values, dtype=float).reshape(matrix.n_rows, matrix.n_rows))
    finite = np.concatenate([square[np.isfinite(square)] for square in squares]) if squares else np.empty(0)
    # Limit the colour range, so that a few very large edges do not make all others pale.
    high = float(np.quantile(np.abs(finite), 0.998)) if len(finite) else 0.0
    low = -high if len(finite) and finite.min() < 0 else 0.0
    return [_png(square, low, high) for square in squares]


def volume_pngs(volumes: Sequence[VolumeImage]) -> list[str]:
    """Slices through volumes as `data:` URLs of grey images.

    Raises:
        ValueError: the number of pixels is not height times width.
    """
    from matplotlib.image import imsave

    found = []
    for one in volumes:
        pixels = np.frombuffer(base64.b64decode(one.pixels), dtype=np.uint8)
        if pixels.size != one.height * one.width or not pixels.size:
            raise ValueError(f"volume of {one.subject}: expected {one.height} x {one.width} pixels, got {pixels.size}")
        buffer = io.BytesIO()
        grey = pixels.reshape(one.height, one.width)
        imsave(buffer, grey, format="png", cmap="gray", vmin=0, vmax=255, metadata=cast(Any, {"Software": None}))
        found.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    return found


def _png(square: np.ndarray, low: float, high: float) -> str:
    import matplotlib as mpl
    from matplotlib.image import imsave

    colours = mpl.colormaps["RdBu_r" if low < 0 else "magma_r"].with_extremes(bad="#9AA5B1")
    scaled = np.ma.masked_invalid(np.clip((square - low) / ((high - low) or 1.0), 0, 1))
    buffer = io.BytesIO()
    imsave(buffer, colours(scaled), format="png", metadata=cast(Any, {"Software": None}))
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
