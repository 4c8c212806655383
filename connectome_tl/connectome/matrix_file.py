"""Contents of one matrix file, and the user's declarations about its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.names.labels import LabelTable

RowOrder = Literal["table", "label"]
_LEAST = 5  # equal values on a diagonal that are not due to chance
Layout = Literal["full", "upper", "lower"]


@dataclass(frozen=True)
class RowList:
    """A list in a file or in its folder that may name its rows.

    Attributes:
        where: variable or file of the list, for messages.
        names, numbers: its content, one of the two.
        tells: whether its name indicates a list of regions (`labels`, `roi_names`).
        shared: True for a list in the folder of the file, which may belong to other files.
    """

    where: str
    names: tuple[str, ...] | None = None
    numbers: tuple[int, ...] | None = None
    tells: bool = True
    shared: bool = False

    def __len__(self) -> int:
        return len(self.names if self.names is not None else self.numbers or ())

    @property
    def differs(self) -> bool:
        """Whether all values are distinct and none is empty."""
        values = self.names if self.names is not None else self.numbers or ()
        return len(set(values)) == len(values) and "" not in values


@dataclass(frozen=True, eq=False)
class MatrixFile:
    """Contents of one matrix file.

    Attributes:
        values: (n_measures, n_rows, n_rows), or (n_measures, n_values) triangles with or without diagonal.
        measures: names of the measures, () where the file does not name them.
        names, labels: region names or label numbers of the rows, None where the file has none. Where it has both,
        rows are matched by name, and the numbers show whether names were exchanged.
        lists: further lists that may name the rows; used where `names` and `labels` are None.
        order: the order of unnamed rows where the writing tool determines it.
        nan_is_missing: the writing tool marks missing regions with rows of NaN.
        notes: decisions of the importer (factors applied, triangles mirrored).
        n_frames: frames of the time series that the matrix was made from.
    """

    values: np.ndarray
    measures: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    labels: tuple[int, ...] | None = None
    order: RowOrder | None = None
    triangle: bool = False
    nan_is_missing: bool = False
    notes: tuple[str, ...] = ()
    lists: tuple[RowList, ...] = ()
    n_frames: int = 0

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Possible numbers of rows, most likely first: a triangle may exclude or include the diagonal."""
        n = int(self.values.shape[-1])
        if self.values.ndim == 3:
            return (n,)
        sizes = triangle_sizes(n)
        return sizes[::-1] if len(sizes) == 2 and _has_diagonal(self.values, sizes[1]) else sizes

    @property
    def n_rows(self) -> int:
        """The most likely number of rows; 0 where the number of values fits no triangle."""
        return self.row_counts[0] if self.row_counts else 0

    @property
    def is_named(self) -> bool:
        """Return whether the file, or a list that belongs to it, names its rows."""
        return self.names is not None or self.labels is not None


def _has_diagonal(values: np.ndarray, n_rows: int) -> bool:
    """Whether triangles (n_measures, n_values), if they include the diagonal, have one of equal values other than 0.

    So it is for correlations: 1, or infinite as Fisher's z, or NaN.
    """
    rows = np.arange(n_rows)
    for at in (rows * (rows + 3) // 2, rows * n_rows - rows * (rows - 1) // 2):  # of the lower and the upper triangle
        own, rest = values[:, at], np.delete(values, at, axis=1)
        same = np.isclose(own, own[:, :1], equal_nan=True).all() and not (own == 0).any()
        if same and n_rows >= _LEAST and not np.isclose(rest, own[:, :1], equal_nan=True).all():
            return True
    return False


def triangle_sizes(n_values: int) -> tuple[int, ...]:
    """Numbers of rows of a triangle with `n_values` values: without the diagonal, and with it."""
    without = int((1 + np.sqrt(1 + 8 * n_values)) // 2)
    return tuple(n for n, k in ((without, -1), (without - 1, 1)) if n > 1 and n * (n + k) // 2 == n_values)


@dataclass(frozen=True)
class RowNames:
    """The user's declarations about rows: an atlas, a label table in row order, the order of unnamed rows.

    `count_only`: the rows of unnamed matrices are numbered 1, 2, ... (`labels: numbered`).
    """

    atlas: Atlas | None = None
    table: LabelTable | None = None
    order: RowOrder | None = None
    count_only: bool = False

    @property
    def names(self) -> tuple[str, ...] | None:
        """Regions that connectomes are aligned to; None without an atlas or label table."""
        if self.atlas is not None:
            return self.atlas.names
        return None if self.table is None else self.table.names

    @property
    def where(self) -> str:
        """Source of the names, for messages."""
        return f"atlas {self.atlas.name}" if self.atlas is not None else "the label table"

    def unnamed(self, order: RowOrder | None) -> tuple[str, ...] | None:
        """Names for unnamed rows, in the order declared by the tool or the user."""
        order = order or self.order or "table"
        if self.table is not None:
            return self.table.by_number() if order == "label" else self.table.names
        if self.atlas is None:
            return None
        if order == "label":
            return tuple(self.atlas.names[i] for i in self.atlas.label_order)
        return self.atlas.names

    def numbered(self) -> dict[int, str]:
        """Label number to region name."""
        if self.table is not None and self.table.numbers is not None:
            return dict(zip(self.table.numbers, self.table.names, strict=True))
        if self.table is None and self.atlas is not None:
            return {region.index: region.name for region in self.atlas.regions}
        return {}
