"""Contents of one matrix file, and what the user declares about its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.names.labels import LabelTable

RowOrder = Literal["table", "label"]
Layout = Literal["full", "upper", "lower"]


@dataclass(frozen=True)
class RowList:
    """A list in or beside a file that may name its rows.

    Attributes:
        where: the variable or file it was found in, for messages.
        names, numbers: what it holds, one of the two.
        tells: whether its own name says that it lists regions (`labels`, `roi_names`).
        shared: it lies in the folder of the file and may belong to other files.
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
        """Whether no value occurs twice and none is empty."""
        values = self.names if self.names is not None else self.numbers or ()
        return len(set(values)) == len(values) and "" not in values


@dataclass(frozen=True, eq=False)
class MatrixFile:
    """What one file says.

    Attributes:
        values: (n_measures, n_rows, n_rows), or (n_measures, n_values) triangles with or without diagonal.
        measures: their names, () where the file does not tell.
        names, labels: region names or label numbers of the rows, None where the file has none. Where it has both,
            rows go by name, and the numbers show whether names were exchanged.
        lists: further lists that may name the rows; used where `names` and `labels` are None.
        order: the order of unnamed rows where the writing tool settles it.
        nan_is_missing: this tool writes NaN rows for regions it could not measure.
        notes: what the importer decided (factors applied, triangles mirrored).
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

    @property
    def row_counts(self) -> tuple[int, ...]:
        """Numbers of rows that the values allow, likeliest first: a triangle may lack the diagonal or hold it."""
        n = int(self.values.shape[-1])
        if self.values.ndim == 3:
            return (n,)
        return triangle_sizes(n)

    @property
    def n_rows(self) -> int:
        """The likeliest number of rows; 0 where the values are no triangle of any."""
        return self.row_counts[0] if self.row_counts else 0

    @property
    def is_named(self) -> bool:
        """Return whether the file, or a list that belongs to it, names its rows."""
        return self.names is not None or self.labels is not None


def triangle_sizes(n_values: int) -> tuple[int, ...]:
    """Numbers of rows of a triangle of so many values: without its diagonal, with it."""
    without = int((1 + np.sqrt(1 + 8 * n_values)) // 2)
    return tuple(n for n, k in ((without, -1), (without - 1, 1)) if n > 1 and n * (n + k) // 2 == n_values)


@dataclass(frozen=True)
class RowNames:
    """Declarations of the user about rows: an atlas, a label table in row order, the order of unnamed rows.

    `count_only`: the rows of unnamed matrices are numbered 1, 2, ... (`labels: numbered`).
    """

    atlas: Atlas | None = None
    table: LabelTable | None = None
    order: RowOrder | None = None
    count_only: bool = False

    @property
    def names(self) -> tuple[str, ...] | None:
        """The regions everything is lined up to; None where only the file itself can say."""
        if self.atlas is not None:
            return self.atlas.names
        return None if self.table is None else self.table.names

    @property
    def where(self) -> str:
        return f"atlas {self.atlas.name}" if self.atlas is not None else "the label table"

    def unnamed(self, order: RowOrder | None) -> tuple[str, ...] | None:
        """Names for rows without names, in the order the tool or the user declared."""
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
