"""Figures of voxel maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from connectome_tl.report.figures.drawing import figure_of
from connectome_tl.settings.records.volume_maps import VolumeMapsRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"noise": "learned noise", "occlusion": "occlusion", "gradients": "integrated gradients"}
_SCALES = {
    "noise": "1: no noise",
    "occlusion": "change of the output",
    "gradients": "share in the output, per voxel",
}
_SHOWN, _BRIGHTEST = 70.0, 99.5  # percentiles of the values inside the head: the lowest one shown, the brightest colour


@dataclass(frozen=True, eq=False)
class MapImages:
    """Maps of a run with their arrays.

    Attributes:
        images: mean maps, (x, y, z) from left to right, back to front and bottom to top, by file name.
        backgrounds: mean volume, (x, y, z), by name of the outcome.
        inside: voxels of the head, (x, y, z) bool, by name of the outcome.
        affines: (4, 4) from voxels to mm, by name of the outcome.
    """

    record: VolumeMapsRecord
    images: Mapping[str, np.ndarray]
    backgrounds: Mapping[str, np.ndarray]
    inside: Mapping[str, np.ndarray]
    affines: Mapping[str, np.ndarray]

    def figure(self, task: str) -> Figure:
        """All maps of an outcome on the mean volume."""
        own = [one for one in self.record.maps if one.task == task]
        maps = [(f"{KINDS[one.kind]} ({_SCALES[one.kind]})", np.abs(self.images[one.file])) for one in own]
        return overlays(maps, self.backgrounds[task], self.inside[task], self.affines[task])


def overlays(
    maps: Sequence[tuple[str, np.ndarray]], background: np.ndarray, inside: np.ndarray, affine: np.ndarray
) -> Figure:
    """Largest values of maps on the mean volume, in three slices through the strongest place of each (nilearn).

    Without a voxel inside the head there is nothing to draw, which the figure says.

    Args:
        maps: title and magnitude (x, y, z) of each map.
        background: (x, y, z) mean volume. inside: (x, y, z) bool, the head.
        affine: (4, 4) from voxels to mm.
    """
    import nibabel as nib
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from nilearn.plotting import plot_stat_map
    from scipy.ndimage import gaussian_filter

    if not inside.any():
        figure = figure_of(9.6, 0.8)
        figure.text(
            0.5, 0.5, "The heads of the subjects have no voxel in common: no mean map.", ha="center", va="center"
        )
        return figure
    figure = figure_of(9.6, 3.4 * len(maps))
    figure.set_facecolor("black")
    low, high = np.quantile(background[inside], (0.01, 0.99))
    grey = np.where(inside, 0.1 + 0.9 * np.clip((background - low) / max(float(high - low), 1e-6), 0, 1), 0.0)
    visible = ListedColormap(colormaps["inferno"](np.linspace(0.25, 1, 256)))  # black would look like no value
    for row, (title, values) in enumerate(maps):
        shown = np.where(inside, values, 0.0).astype(np.float32)
        least, most = np.percentile(shown[inside], (_SHOWN, _BRIGHTEST))
        peak = np.unravel_index(int(np.argmax(gaussian_filter(shown, 1.0))), shown.shape)
        plot_stat_map(
            nib.Nifti1Image(shown, affine),
            bg_img=nib.Nifti1Image(grey.astype(np.float32), affine),
            figure=figure,
            axes=(0.0, 1 - (row + 1) / len(maps), 1.0, 1 / len(maps)),
            display_mode="ortho",
            cut_coords=tuple((affine @ [*peak, 1])[:3]),
            cmap=visible,
            threshold=max(float(least), 1e-12),
            vmin=float(least),
            vmax=max(float(most), 1.01 * float(least) + 1e-12),
            symmetric_cbar=False,
            cbar_tick_format="%.3g",  # nilearn rounds the bounds of the colours as the ticks
            draw_cross=False,
            black_bg=True,
            title=title,
        )
    return figure
