"""Figures of one scan: slices, matrix, motion over volumes, gradient directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from connectome_tl.report.figures.drawing import ACCENT, INK, figure_of, panel, style, to_svg, to_url

# For each view: viewing direction, direction from left to right, direction from bottom to top.
_VIEWS = (("axial", "IS", "LR", "PA"), ("coronal", "PA", "LR", "IS"), ("sagittal", "LR", "PA", "IS"))
_FLAGGED = "#D55E00"
_Box = tuple[float, float, float, float]
_WIDTH, _GAP, _TITLE = 9.8, 0.1, 0.25  # of the slices, in inches


@dataclass(frozen=True, eq=False)
class Row:
    """A row of slices of an image on the grid of the brain mask.

    Attributes:
        image: (x, y, z), or (x, y, z, 3) of colours in 0 to 1.
        colours: name of the colour map.
        most: value of the brightest colour.
        with_labels: whether to overlay the regions.
        outline: another image, (x, y, z), whose edges are overlaid; None for no overlay.
    """

    title: str
    image: np.ndarray
    colours: str = "gray"
    most: float = 1.0
    with_labels: bool = False
    outline: np.ndarray | None = None


def cuts(rows: Sequence[Row], mask: np.ndarray, parcels: np.ndarray, codes: Sequence[str]) -> str:
    """Axial, coronal and sagittal slices through the centre of the brain, as a data URL of a PNG.

    The subject's left is on the left for every voxel order.

    Args:
        mask, parcels: (x, y, z) bool and int.
        codes: direction of each axis of the images, as returned by nibabel's `aff2axcodes`.
    """
    centre = np.rint(np.argwhere(mask).mean(axis=0)).astype(int)
    along = [np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    box_of = tuple(slice(max(int(r[0]) - 2, 0), int(r[-1]) + 3) for r in along)
    widths, highest = _extent([one.stop - one.start for one in box_of], codes)
    # Places are computed here: a layout engine draws everything twice more.
    scale, line_height = (_WIDTH - 4 * _GAP) / sum(widths), (_WIDTH - 4 * _GAP) * highest / sum(widths) + _TITLE
    size = _WIDTH, line_height * len(rows) + _GAP
    figure = figure_of(*size)
    figure.set_facecolor("white")
    for column, (view, normal, sides, ends) in enumerate(_VIEWS):
        axis, across, up = (_axis(codes, pair) for pair in (normal, sides, ends))
        turned = (codes[up] == ends[1], codes[across] == sides[1])
        flips = tuple(slice(None, None, 1 if way else -1) for way in turned)

        def cut(
            image: np.ndarray, axis: int = axis, upright: bool = up > across, flips: tuple[slice, ...] = flips
        ) -> np.ndarray:
            found = np.take(image[box_of], centre[axis] - box_of[axis].start, axis=axis)
            return (np.swapaxes(found, 0, 1) if upright else found)[flips]

        for line, row in enumerate(rows):
            left = (column + 1) * _GAP + scale * sum(widths[:column])
            bottom = size[1] - (line + 1) * line_height
            box = figure.add_axes(_share(left, bottom, scale * widths[column], line_height - _TITLE, size))
            box.imshow(cut(row.image), origin="lower", cmap=row.colours, vmin=0, vmax=row.most)
            box.contour(cut(mask.astype(float)), levels=[0.5], colors="#ffd166", linewidths=0.8)
            if row.outline is not None:
                _edges(box, cut(row.outline))
            box.text(0.02, 0.5, sides[0], color="white", transform=box.transAxes, va="center")
            box.set_axis_off()
            box.set_anchor("N")
            box.set(xticks=(), yticks=())
            box.set_title(f"{view}: {row.title}" if column == 0 else view, fontsize=10, loc="left")
            if row.with_labels:
                found = cut(parcels)
                colour = np.ma.masked_where(found == 0, found % 20)
                box.imshow(colour, origin="lower", cmap="tab20", vmin=0, vmax=19, alpha=0.5, interpolation="nearest")
    return to_url(figure)


def _share(left: float, bottom: float, width: float, height: float, of: tuple[float, float]) -> _Box:
    """A box in inches as shares of a figure of this size."""
    return left / of[0], bottom / of[1], width / of[0], height / of[1]


def _axis(codes: Sequence[str], pair: str) -> int:
    """Axis of an image that runs between these two directions."""
    return next(k for k in range(3) if codes[k] in pair)


def _extent(sizes: Sequence[int], codes: Sequence[str]) -> tuple[list[int], int]:
    """Width of each view, and the height of the highest, in voxels."""
    heights = [sizes[_axis(codes, ends)] for _, _, _, ends in _VIEWS]
    return [sizes[_axis(codes, sides)] for _, _, sides, _ in _VIEWS], max(heights)


def _edges(box: Any, image: np.ndarray) -> None:
    seen = image[image > 0]
    if seen.size > 10 and np.ptp(seen) > 0:
        box.contour(image, levels=np.quantile(seen, [0.25, 0.75]), colors=["#56b4e9", "#e69f00"], linewidths=0.6)


def matrix_image(shown: np.ndarray, regions: Sequence[str], legend: str) -> str:
    """A matrix as a data URL of a PNG; NaN is grey."""
    named = len(regions) <= 40
    margin = 0.15 + 0.07 * max(map(len, regions), default=0) if named else 0.4  # of names in 7 points
    side, size = 3.9, (margin + 5.0, margin + 4.0)
    figure = figure_of(*size)
    figure.set_facecolor("white")
    box = figure.add_axes(_share(margin, margin, side, side, size))
    drawn = box.imshow(shown, cmap="viridis", interpolation="nearest", aspect="auto")
    box.set_facecolor("#eef1f4")
    figure.colorbar(drawn, cax=figure.add_axes(_share(margin + side + 0.15, margin, 0.2, side, size)), label=legend)
    if named:
        box.set_xticks(range(len(regions)), regions, rotation=90, fontsize=7)
        box.set_yticks(range(len(regions)), regions, fontsize=7)
    return to_url(figure)


def motion_figure(displacement: np.ndarray, flagged: np.ndarray, name: str, *, stamp: str = "") -> str | None:
    """Framewise displacement in mm, (n_volumes,), with flagged volumes marked; None if it was not estimated."""
    if not np.isfinite(displacement).any():
        return None
    volumes = np.arange(1, len(displacement) + 1)
    with style():
        figure, box = panel()
        box.plot(volumes, displacement, color=ACCENT, linewidth=1.0)
        height = np.nan_to_num(displacement)
        box.plot(volumes[flagged], height[flagged], "x", color=_FLAGGED, markersize=5)
        box.set_xlabel("volume")
        box.set_ylabel("displacement (mm)")
        box.set_ylim(0, max(1.0, 1.1 * float(np.nanmax(displacement))))
        return to_svg(figure, name, description="Framewise displacement of each volume", stamp=stamp)


def sphere_figure(bvals: np.ndarray, directions: np.ndarray, name: str, *, stamp: str = "") -> str | None:
    """Gradient directions on a hemisphere in equal-area projection from above, one colour per b-value."""
    weighted = np.linalg.norm(directions, axis=1) > 0.5
    if not weighted.any():
        return None
    upper = directions[weighted] * np.where(directions[weighted, 2:] < 0, -1.0, 1.0)
    flat = upper[:, :2] / np.sqrt(1 + upper[:, 2:])
    shells = 100 * np.round(bvals[weighted] / 100)
    levels = np.unique(shells)
    palette = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
    with style():
        figure, box = panel(3.0, 3.0, left=0.1, bottom=0.35)
        turn = np.linspace(0, 2 * np.pi, 200)
        box.plot(np.cos(turn), np.sin(turn), color=INK, linewidth=0.8)
        for k, level in enumerate(levels[:6]):
            own = shells == level
            label = f"b = {level:.0f} ({int(own.sum())})"
            box.plot(*flat[own].T, "o", color=palette[k], markersize=4, label=label, linestyle="none")
        box.set_aspect("equal")
        box.set_axis_off()
        box.legend(loc="lower center", ncols=2, bbox_to_anchor=(0.5, -0.16), handletextpad=0.1, columnspacing=0.8)
        return to_svg(figure, name, description="Gradient directions on half a sphere", stamp=stamp)
