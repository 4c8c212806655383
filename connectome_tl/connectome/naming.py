"""From what a file says to a `Connectome`: name the rows, line them up, mask what is missing.

Rows are matched by name or label number. Where a file has neither, its rows are taken in a declared
order and only when the sizes agree: a matrix that lost its last region must not shift the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.connectome import Connectome, from_upper
from connectome_tl.connectome.labels import LabelTable, doubled
from connectome_tl.errors import DataError, Problem, raise_all

RowOrder = Literal["table", "label"]
BACKGROUND = frozenset({"0", "background", "unknown", "???", "unassigned"})
_SHORT = (
    "Tools that size the matrix by the largest label drop the last regions; "
    "export it again with names, or with every label present."
)


@dataclass(frozen=True, eq=False)
class MatrixFile:
    """What one file says.

    Attributes:
        values: (n_measures, n_rows, n_rows), or (n_measures, n_edges) upper triangles without diagonal.
        measures: their names, () where the file does not tell.
        names, labels: region names or label numbers of the rows, None where the file has none. Where it has both,
            rows go by name, and the numbers show whether names were exchanged.
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

    @property
    def n_rows(self) -> int:
        if self.values.ndim == 3:
            return int(self.values.shape[-1])
        return int((1 + np.sqrt(1 + 8 * self.values.shape[-1])) // 2)


@dataclass(frozen=True)
class RowNames:
    """What the user said about rows: an atlas, a label table in row order, the order of unnamed rows."""

    atlas: Atlas | None = None
    table: LabelTable | None = None
    order: RowOrder | None = None

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
        if self.atlas is not None:
            return {region.index: region.name for region in self.atlas.regions}
        return {}


def row_names(
    matrix: MatrixFile, known: RowNames, *, subject: str | None = None, file: str | Path | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the rows that are regions, and their positions in the file.

    Returns:
        names (n_kept,), rows (n_kept,): background rows are left out.

    Raises:
        DataError: no names and nothing to take them from; sizes that disagree; unknown or doubled
            names or numbers, with the nearest known ones.
    """
    n_rows = matrix.n_rows
    if matrix.names is not None:
        _same_size(n_rows, len(matrix.names), "names", subject, file)
        found = list(matrix.names)
        if known.atlas is not None:
            found = list(known.atlas.resolved(found))
            _check_numbers(found, matrix.labels, known.atlas, subject, file)
        kept = [i for i, name in enumerate(found) if not (name.strip().casefold() in BACKGROUND and i == 0)]
    elif matrix.labels is not None and known.numbered():
        _same_size(n_rows, len(matrix.labels), "label numbers", subject, file)
        numbered = known.numbered()
        kept = [i for i, label in enumerate(matrix.labels) if label != 0]
        raise_all(
            f"label numbers do not fit {known.where}",
            [
                Problem(f"label {matrix.labels[i]} is not in {known.where}", subject=subject, file=file)
                for i in kept
                if matrix.labels[i] not in numbered
            ],
        )
        found = [numbered.get(label, "") for label in matrix.labels]
    elif matrix.labels is not None:
        _same_size(n_rows, len(matrix.labels), "label numbers", subject, file)
        kept = [i for i, label in enumerate(matrix.labels) if label != 0]
        found = [str(label) for label in matrix.labels]
    else:
        declared = known.unnamed(matrix.order)
        if declared is None:
            raise DataError(
                "the rows have no names",
                subject=subject,
                file=file,
                expected="region names in the file, or a label table (labels), or an atlas",
                remedy="Give --labels TABLE or --atlas NAME (see `connectome-tl atlas list`).",
            )
        if n_rows != len(declared):
            remedy = _SHORT if n_rows < len(declared) else "If row 0 is the background, say format: dipy."
            raise DataError(
                "an unnamed matrix and its labels differ in size",
                subject=subject,
                file=file,
                expected=f"{len(declared)} rows ({known.where})",
                got=str(n_rows),
                remedy=remedy,
            )
        found, kept = list(declared), list(range(n_rows))
    names = tuple(found[i] for i in kept)
    problems = [Problem(f"region {name!r} stands twice", subject=subject, file=file) for name in doubled(names)]
    problems += [
        Problem(f"region {name!r} is no name", subject=subject, file=file)
        for name in names
        if not name.strip() or any(ord(character) < 32 for character in name)
    ]
    raise_all("the region names cannot be used", problems)
    return names, np.array(kept, dtype=int)


def _check_numbers(
    names: list[str], labels: tuple[int, ...] | None, atlas: Atlas, subject: str | None, file: str | Path | None
) -> None:
    """Refuse names that were exchanged: nearly all stand beside the number that the atlas gives them, and a few
    beside each other's. A file that numbers its regions in a way of its own says nothing."""
    if labels is None or len(labels) != len(names):
        return
    number = {region.name: region.index for region in atlas.regions}
    pairs = [(name, label) for name, label in zip(names, labels, strict=True) if name in number]
    wrong = [(name, label) for name, label in pairs if number[name] != label]
    exchanged = {number[name] for name, _ in wrong} == {label for _, label in wrong}
    if wrong and exchanged and len(wrong) <= 0.2 * len(pairs):
        raise DataError(
            "names and label numbers of the rows contradict each other",
            subject=subject,
            file=file,
            expected=f"{wrong[0][0]} is label {number[wrong[0][0]]} of atlas {atlas.name}",
            got=f"{wrong[0][0]} beside {wrong[0][1]}" + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""),
            remedy="Were names exchanged? Compare the file with the table it was made with.",
        )


def _same_size(n_rows: int, n_names: int, what: str, subject: str | None, file: str | Path | None) -> None:
    if n_rows != n_names:
        raise DataError(
            f"matrix and {what} differ in size",
            subject=subject,
            file=file,
            expected=f"{n_names} rows",
            got=str(n_rows),
            remedy=_SHORT if n_rows < n_names else None,
        )


def connectome_from(
    matrix: MatrixFile,
    known: RowNames,
    *,
    measures: tuple[str, ...] = (),
    layout: Literal["full", "upper"] = "full",
    zero_rows: Literal["keep", "missing"] = "keep",
    subject: str | None = None,
    file: str | Path | None = None,
) -> Connectome:
    """Name, mirror, mask and line up one matrix file.

    Args:
        measures: names for measures that the file does not name.
        layout: `upper` also accepts a square whose lower triangle is empty.

    Returns:
        A connectome in the order of the atlas or label table, else in the file's own.

    Raises:
        DataError: any disagreement; says subject and file.
    """
    names, rows = row_names(matrix, known, subject=subject, file=file)
    square = _square(matrix, layout, subject, file)[:, rows[:, None], rows[None, :]].astype(float)
    present = np.ones(len(names), dtype=bool)
    if matrix.nan_is_missing:
        off_diagonal = ~np.eye(len(names), dtype=bool)
        present &= ~(np.isnan(square) | ~off_diagonal).all(axis=(0, 2))
    if zero_rows == "missing":
        off_diagonal = ~np.eye(len(names), dtype=bool)
        present &= ((square != 0) & off_diagonal).any(axis=(0, 2))
    square[:, ~present, :] = 0.0
    square[:, :, ~present] = 0.0
    text = None if file is None else str(file)
    connectome = Connectome(square, names, matrix.measures or measures, present, subject=subject, file=text)
    symmetric = (connectome.weights + connectome.weights.swapaxes(1, 2)) / 2
    connectome = replace(connectome, weights=symmetric)
    if known.names is None:
        return connectome
    try:
        return connectome.aligned_to(known.names)
    except DataError as error:
        raise_all(
            "region names do not fit",
            [replace(problem, subject=subject, file=file) for problem in error.problems],
        )
        raise


def _square(
    matrix: MatrixFile, layout: Literal["full", "upper"], subject: str | None, file: str | Path | None
) -> np.ndarray:
    values = matrix.values
    if values.ndim == 2:
        if layout == "full":
            raise DataError(
                "a list of edges, not a matrix",
                subject=subject,
                file=file,
                got=f"{values.shape[-1]} values",
                remedy="If it is an upper triangle without diagonal, say layout: upper.",
            )
        return from_upper(values, subject=subject, file=None if file is None else str(file))
    if layout == "full" and not matrix.triangle:
        return values
    lower = np.tril(values, -1)
    if (lower != 0).any() and not np.array_equal(lower, np.tril(values.swapaxes(1, 2), -1)):
        raise DataError(
            "not an upper triangle: the lower half holds other values",
            subject=subject,
            file=file,
            remedy="Say layout: full for a symmetric matrix; directed connectomes are not supported.",
        )
    upper = np.triu(values)
    return upper + np.triu(values, 1).swapaxes(1, 2)
