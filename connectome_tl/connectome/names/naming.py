"""Build a `Connectome` from a matrix file: name its rows, align them, mask missing regions.

Rows are matched by name or label number (`rows.named_rows`). The rows of a file without either are used in a declared
order, and only if the sizes agree, so that a matrix without one of its regions does not shift the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.matrix_file import Layout, MatrixFile, RowList, RowNames, RowOrder
from connectome_tl.connectome.names.labels import printable
from connectome_tl.connectome.names.rows import Rows, named_rows
from connectome_tl.errors import DataError, raise_all
from connectome_tl.plurals import counted

_CODES = (-9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0)
_FAR_CODES = (-999.0, -9999.0, -99999.0)
_LEAST = 5  # regions from which on equal values in a row are not due to chance

__all__ = [
    "Layout",
    "MatrixFile",
    "RowList",
    "RowNames",
    "RowOrder",
    "cleared_diagonal",
    "connectome_from",
    "from_triangle",
    "lined_up",
    "refuse_codes",
    "refuse_half",
    "squared",
]


def connectome_from(
    matrix: MatrixFile,
    known: RowNames,
    *,
    measures: tuple[str, ...] = (),
    layout: Layout = "full",
    zero_rows: Literal["keep", "missing"] = "keep",
    subject: str | None = None,
    file: str | Path | None = None,
) -> Connectome:
    """Name, mirror, mask and align one matrix file; see `lined_up`."""
    return lined_up(matrix, known, measures=measures, layout=layout, zero_rows=zero_rows, subject=subject, file=file)[0]


def lined_up(
    matrix: MatrixFile,
    known: RowNames,
    *,
    measures: tuple[str, ...] = (),
    layout: Layout = "full",
    zero_rows: Literal["keep", "missing"] = "keep",
    subject: str | None = None,
    file: str | Path | None = None,
) -> tuple[Connectome, Rows]:
    """Name, mirror, mask and align one matrix file.

    Args:
        measures: names for measures that the file does not name.
        layout: `upper` and `lower` read triangles, row by row, and squares whose other half is empty.

    Returns:
        A connectome in the order of the atlas or label table, else of the file; and the region of each row.

    Raises:
        DataError: any inconsistency; the message names subject and file.
    """
    unusable = [name for name in matrix.measures if not printable(name)]
    if unusable:
        raise DataError(
            "a measure has no name that can be used", subject=subject, file=file, got=ascii(unusable[0][:40])
        )
    rows = named_rows(matrix, known, subject=subject, file=file)
    whole = squared(matrix, layout, rows.n_rows, subject, file)
    square = whole[:, rows.kept[:, None], rows.kept[None, :]].astype(float)
    off_diagonal = ~np.eye(len(rows.names), dtype=bool)
    refuse_half(square, subject, file)
    notes = cleared_diagonal(square)
    refuse_codes(square, rows.names, subject, file)
    # A region without any value is missing. Single NaN are errors, which are found below.
    present = ~(np.isnan(square) | ~off_diagonal).all(axis=(0, 2)) if len(rows.names) > 1 else np.ones(1, dtype=bool)
    if zero_rows == "missing":
        present &= ((square != 0) & off_diagonal).any(axis=(0, 2))
    if not present.any():
        raise DataError("no region has a value", subject=subject, file=file, got="every entry is missing")
    square[:, ~present, :] = 0.0
    square[:, :, ~present] = 0.0
    text = None if file is None else str(file)
    connectome = Connectome(square, rows.names, matrix.measures or measures, present, subject=subject, file=text)
    symmetric = (connectome.weights + connectome.weights.swapaxes(1, 2)) / 2
    connectome = replace(connectome, weights=symmetric)
    rows = replace(rows, notes=(*rows.notes, *notes))
    if known.names is None:
        return connectome, rows
    try:
        return connectome.aligned_to(known.names), rows
    except DataError as error:
        problems = [replace(problem, subject=subject, file=file) for problem in error.problems]
        raise_all("region names do not fit", problems)
        raise


def cleared_diagonal(square: np.ndarray) -> tuple[str, ...]:
    """Set infinite and missing values of the diagonal (artanh of 1) to 0 in place; returns a note, if any."""
    diagonal = np.einsum("...ii->...i", square)
    wrong = ~np.isfinite(diagonal) & np.isfinite(square).any(axis=-1)  # rows of NaN are missing regions
    if not wrong.any():
        return ()
    diagonal[wrong] = 0.0
    return ("the diagonal holds NaN or infinite values and was set to 0; it is not used",)


def refuse_half(square: np.ndarray, subject: str | None, file: str | Path | None) -> None:
    """Refuse matrices (n_measures, n_rows, n_rows) with values in one half only.

    Raises:
        DataError: with the layout that reads them.
    """
    upper, lower = (np.nan_to_num(half(square, k)).any() for half, k in ((np.triu, 1), (np.tril, -1)))
    if upper != lower:
        kept = "upper" if upper else "lower"
        raise DataError(
            f"the matrix is not symmetric: only its {kept} triangle holds values",
            subject=subject,
            file=file,
            remedy=f"Set layout: {kept} (--layout {kept}).",
        )


def refuse_codes(square: np.ndarray, names: Sequence[str], subject: str | None, file: str | Path | None) -> None:
    """Refuse numeric codes for missing values (n_measures, n_rows, n_rows), in an entire row or far below all others.

    A row of one value other than 0 is a code, except where the whole matrix has one such value.

    Raises:
        DataError: a code, with the first region.
    """
    off_diagonal = ~np.eye(len(names), dtype=bool)
    coded = np.isin(square, _CODES)
    rows = (coded | ~off_diagonal).all(axis=(0, 2)) if len(names) > 2 else np.zeros(len(names), dtype=bool)
    if len(names) >= _LEAST:
        for values, marks in zip(square, coded, strict=True):
            edges = values[off_diagonal].reshape(len(names), -1)
            low = np.where(np.isnan(edges), np.inf, edges).min(axis=1)
            high = np.where(np.isnan(edges), -np.inf, edges).max(axis=1)
            same = (low == high) & (low != 0)
            if same.any() and np.unique(edges[(edges != 0) & ~np.isnan(edges)]).size > 1:
                rows |= same
                marks |= same[:, None] & (values == low[:, None])
    single = np.isin(square, _FAR_CODES) & (
        square < 10 * np.where(coded | ~np.isfinite(square), 0, square).min(initial=0.0)
    )
    at = [*np.flatnonzero(rows).tolist(), *np.argwhere(single)[:, 1].tolist()]
    if at:
        code = square[:, at[0]][coded[:, at[0]]][0]
        raise DataError(
            f"{code:g} looks like a code for a missing value",
            subject=subject,
            file=file,
            got=f"in the row of {names[at[0]]}",
            remedy="Write n/a (or nan) throughout the row and column of a region that was not measured.",
        )


def squared(
    matrix: MatrixFile, layout: Layout, n_rows: int, subject: str | None = None, file: str | Path | None = None
) -> np.ndarray:
    """(n_measures, n_rows, n_rows) of a matrix file, triangles mirrored.

    Raises:
        DataError: a list of values where a matrix is declared, or a second half with other values.
    """
    values = matrix.values
    if values.ndim == 2:
        if layout == "full":
            raise DataError(
                "a list of edges, not a matrix",
                subject=subject,
                file=file,
                got=counted(values.shape[-1], "value"),
                remedy="If it is a triangle of a matrix, row by row, set layout: upper or layout: lower (nilearn's).",
            )
        return from_triangle(values, n_rows, layout)
    if layout == "full" and not matrix.triangle:
        return values
    other = values if layout == "lower" else values.swapaxes(1, 2)
    other = np.triu(other, 1)  # should be empty, or the mirror image of the other half
    own = np.triu(values.swapaxes(1, 2) if layout == "lower" else values, 1)
    if np.nan_to_num(other).any() and not np.array_equal(other, own, equal_nan=True):
        half = "lower" if layout == "lower" else "upper"
        raise DataError(
            f"not {'a lower' if half == 'lower' else 'an upper'} triangle: the other half holds other values",
            subject=subject,
            file=file,
            remedy="Set layout: full for a symmetric matrix; directed connectomes are not supported.",
        )
    diagonal = np.einsum("mii->mi", values)
    out = own + own.swapaxes(1, 2)
    np.einsum("mii->mi", out)[:] = diagonal
    return out


def from_triangle(values: np.ndarray, n_rows: int, layout: Layout) -> np.ndarray:
    """(..., n_values) triangles, row by row, to (..., n_rows, n_rows); `n_values` shows whether they include the
    diagonal.
    """
    shift = 0 if values.shape[-1] == n_rows * (n_rows + 1) // 2 else 1
    rows, columns = np.triu_indices(n_rows, shift) if layout == "upper" else np.tril_indices(n_rows, -shift)
    matrices = np.zeros((*values.shape[:-1], n_rows, n_rows), dtype=values.dtype)
    matrices[..., rows, columns] = values
    matrices[..., columns, rows] = values
    return matrices
