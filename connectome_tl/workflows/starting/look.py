"""Inspect a participants table and a folder of matrices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.atlas import atlas_names, load_atlas
from connectome_tl.cohort.columns.guesses import ColumnGuess, guess_columns, id_pattern, numbers_of
from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.settings.cohort import Transform

_MOST_FILES = 200_000


@dataclass(frozen=True)
class Seen:
    """Content of the table and the folder.

    Attributes:
        ids: id columns. pattern: pattern of the matrix files, relative to the output folder.
        n_matched: number of rows with a matrix. n_rows: number of rows of the table.
        other_patterns: further files of the same subjects.
        n_regions: rows of the first matrix. atlases: atlases of this size. named: whether the matrix names its rows.
        transform: transform suggested by its values. columns: probable meaning of each column of the table.
    """

    table: Path
    cells: pd.DataFrame
    ids: str
    pattern: str
    n_matched: int
    n_rows: int
    other_patterns: tuple[str, ...]
    n_regions: int
    atlases: tuple[str, ...]
    named: bool
    transform: Transform
    columns: tuple[ColumnGuess, ...]


def look(table: Path, matrices: Path, folder: Path, *, pattern: str | None = None) -> Seen:
    """Find the id column and the names of the files, and inspect the first matrix.

    Raises:
        MissingInputError: no table, no folder, or an empty folder. DataError: no column has ids that occur in file
            names.
    """
    cells = read_table(table)
    if not matrices.is_dir():
        raise MissingInputError("folder not found", file=matrices)
    files = [path.relative_to(matrices).as_posix() for path in sorted(matrices.rglob("*")) if path.is_file()]
    files = [name for name in files if not name.startswith(".") and (matrices / name).resolve() != table.resolve()]
    if not files or len(files) > _MOST_FILES:
        raise MissingInputError("no files, or too many of them", file=matrices, got=str(len(files)))
    found = id_pattern(cells, files)
    if found is None:
        raise DataError(
            "no column of the table holds ids that occur in the names of the files",
            file=table,
            expected=f"a column with the ids of names such as {files[0]}",
            got=f"columns {', '.join(map(str, cells.columns[:12]))}",
            remedy="Add a column with the id as the files write it, or rename the files.",
        )
    ids, patterns = found
    readable = [(p, n) for p, n in patterns if _readable(matrices, cells, ids, p)]
    if not readable:
        first = patterns[0][0]
        raise DataError("the files of the subjects cannot be read as matrices", file=matrices / first)
    chosen, n_matched = _chosen(readable, pattern, matrices)
    first_file = _first(matrices, cells, ids, chosen)
    matrix = read_matrix(first_file)
    names = matrix.names
    if names is not None:
        fits = tuple(a for a in atlas_names() if set(load_atlas(a).resolved(names)) <= set(load_atlas(a).names))
    else:
        fits = tuple(a for a in atlas_names() if load_atlas(a).n_regions in matrix.row_counts)
    return Seen(
        table,
        cells,
        ids,
        (Path(os.path.relpath(matrices, folder)) / chosen).as_posix(),
        n_matched,
        len(cells),
        tuple(p for p, _ in readable if p != chosen),
        len(names) if names is not None else matrix.n_rows,
        fits,
        names is not None,
        _transform(matrix.values),
        guess_columns(cells, [ids]),
    )


def _transform(values: np.ndarray) -> Transform:
    """Suggest a transform: negative values within 1 indicate correlations, a long tail counts or sums of weights."""
    known = values[np.isfinite(values)]
    if len(known) and known.min() < 0 and np.abs(known).max() <= 1.0 + 1e-6:
        return "fisher_z"
    positive = known[known > 0]
    return "log1p" if len(positive) and known.min() >= 0 and positive.max() > 20 * np.median(positive) else "none"


def _chosen(patterns: Sequence[tuple[str, int]], wanted: str | None, matrices: Path) -> tuple[str, int]:
    if wanted is None:
        return patterns[0]
    found = dict(patterns).get(wanted)
    if found is None:
        raise UsageError(
            "no matrices of this pattern",
            file=matrices / wanted,
            expected=f"one of {', '.join(p for p, _ in patterns)}",
        )
    return wanted, found


def _first(matrices: Path, cells: pd.DataFrame, ids: str, pattern: str) -> Path:
    names = (matrices / pattern.replace("{id}", str(one).removeprefix("sub-")) for one in cells[ids])
    return next(path for path in names if path.is_file())


def _readable(matrices: Path, cells: pd.DataFrame, ids: str, pattern: str) -> bool:
    try:
        return read_matrix(_first(matrices, cells, ids, pattern)).n_rows > 1
    except (DataError, UsageError):
        return False


def span_of(seen: Seen, column: ColumnGuess) -> str:
    values = numbers_of(seen.cells[column.column])
    return f"{values.min():g} to {values.max():g}" if len(values) else "no numbers"


def first_of(seen: Seen, meaning: str) -> ColumnGuess | None:
    return next((one for one in seen.columns if one.meaning == meaning), None)


def all_of(seen: Seen, meaning: str) -> tuple[ColumnGuess, ...]:
    return tuple(one for one in seen.columns if one.meaning == meaning)
