"""Figures of label maps over volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.report.figures.drawing import figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLANES = ("sagittal", "coronal", "axial")
_MOST_NAMED = 20  # labels with a colour of their own, which is named


def labelled_slices(volume: np.ndarray, maps: Sequence[tuple[str, np.ndarray]], values: Sequence[int]) -> Figure:
    """Label maps over three slices of a volume, through the middle of the labels of the first map.

    Args:
        volume: (x, y, z) from left to right, back to front and bottom to top.
        maps: title and (x, y, z) classes of each map, one row of slices per map; 0 is not drawn.
        values: the label of each class from 1.
    """
    import matplotlib
    from matplotlib.patches import Patch

    legend = 0.25 * -(-min(len(values), _MOST_NAMED) // (_MOST_NAMED // 2))  # inches, ten labels per row
    figure = figure_of(7.2, 2.5 * len(maps) + legend)
    figure.set_facecolor("black")
    order = np.concatenate(
        [np.arange(0, _MOST_NAMED, 2), np.arange(1, _MOST_NAMED, 2)]
    )  # dark colours, then light ones
    colours = matplotlib.colormaps["tab20"](order[np.arange(max(len(values), 1)) % _MOST_NAMED])
    shares = np.vstack([[0, 0, 0, 0], np.column_stack([colours[:, :3], np.full(len(colours), 0.55)])])
    at = np.argwhere(maps[0][1] > 0)
    middle = at.mean(axis=0).round().astype(int) if len(at) else np.array(volume.shape) // 2
    inside = volume != 0  # of a normalised volume, whose background is 0
    low, high = np.quantile(volume[inside], (0.01, 0.995)) if inside.any() else (0.0, 1.0)
    grey = np.where(inside, 0.1 + 0.9 * np.clip((volume - low) / max(float(high - low), 1e-6), 0, 1), 0.0)
    height = 2.5 / (2.5 * len(maps) + legend)
    for row, (title, classes) in enumerate(maps):
        for axis, plane in enumerate(_PLANES):
            box = figure.add_axes((axis / 3, 1 - (row + 1) * height, 1 / 3, height * 0.92))
            box.imshow(_cut(grey, axis, middle), cmap="gray", origin="lower", vmin=0, vmax=1)
            box.imshow(shares[_cut(classes, axis, middle)], origin="lower", interpolation="nearest")
            box.axis("off")
            box.set_title(f"{title}, {plane}", color="white", fontsize=7, pad=2)
    shown = zip(colours[:_MOST_NAMED], values, strict=False)
    named = [Patch(color=colour, label=str(value)) for colour, value in shown]
    figure.legend(
        handles=named, ncols=_MOST_NAMED // 2, loc="lower left", frameon=False, labelcolor="white", fontsize=8,
        handlelength=1, handleheight=1, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip
    return figure


def _cut(values: np.ndarray, axis: int, middle: np.ndarray) -> np.ndarray:
    return np.asarray(np.take(values, middle[axis], axis=axis)).T
