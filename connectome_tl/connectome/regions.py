"""Regions of a connectome: names in row order and their labels in the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.names.labels import LabelTable
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume

MAX_TABLE = 1 << 22  # labels below this use a lookup table


@dataclass(frozen=True)
class RegionTable:
    """Region names in row order and their unique labels in the image (`numbers`).

    Attributes:
        atlas: atlas of the rows, if known; its centroids are compared with the image.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    atlas: Atlas | None = None


def regions_of_image(labels: Volume) -> RegionTable:
    """Every label of the image, named by its number."""
    few = labels.data.max() < MAX_TABLE
    numbers = np.flatnonzero(np.bincount(labels.data.ravel())) if few else np.unique(labels.data)
    numbers = numbers[numbers > 0]
    return RegionTable(tuple(str(n) for n in numbers), tuple(int(n) for n in numbers))


def regions_of_table(table: LabelTable, *, file: str | None = None) -> RegionTable:
    """Rows of a label table.

    Raises:
        DataError: the table has no numbers, so that the labels of the image cannot be assigned.
    """
    numbers = table.in_image or table.numbers
    if numbers is None:
        raise DataError(
            "the label table has no numbers",
            expected="a column `index` (or `label`) with each region's label in the image",
            file=file,
        )
    return RegionTable(table.names, numbers)


def regions_of_atlas(atlas: Atlas) -> RegionTable:
    """Rows of an atlas in its order."""
    return RegionTable(atlas.names, tuple(region.index for region in atlas.regions), atlas)
