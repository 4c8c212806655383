"""Find the array of matrices in a stack, the subject of each matrix and the region of each row."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.atlas import order_of
from connectome_tl.cohort.tables.saved import read_table, whole_ids
from connectome_tl.connectome.formats.beside import lists_beside
from connectome_tl.connectome.formats.name_lists import row_lists, safe_texts
from connectome_tl.connectome.formats.narrow import refuse_narrow
from connectome_tl.connectome.formats.stacks import StackedArray
from connectome_tl.connectome.names.labels import doubled, listed
from connectome_tl.connectome.names.naming import Layout, MatrixFile, RowNames, from_triangle
from connectome_tl.connectome.names.rows import named_rows
from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.plurals import counted
from connectome_tl.settings.cohort import ConnectomeFiles

_ID_COLUMNS = ("participant_id", "subject", "sub", "subject_id", "id")
_SUBJECTS = re.compile(r"^ids?$|subject|participant|^subs?$|session|scan", re.IGNORECASE)
_NOT_MATRICES = ("node_mask", "region_features")


@dataclass(frozen=True, eq=False)
class StackLayout:
    """Mapping of the rows of the file to the regions of the cohort.

    `unnamed`: the file does not name its rows, so that `names` were assumed and their order should be checked.
    `otherwise`: as in `Rows`.
    """

    regions: tuple[str, ...]
    positions: np.ndarray
    rows: np.ndarray
    n_file_rows: int
    names: tuple[str, ...]
    unnamed: bool
    notes: tuple[str, ...]
    triangle: Layout
    otherwise: tuple[str, ...] = ()

    def lined_up(self, block: np.ndarray) -> np.ndarray:
        """(n, n_measures, n_values) or (n, n_measures, n_rows, n_rows) as float32 over the cohort's regions."""
        shape = (*block.shape[:2], len(self.regions), len(self.regions))
        out = np.zeros(shape, dtype=np.float32)
        if block.ndim == 3:
            block = from_triangle(block, self.n_file_rows, self.triangle)
        at, rows = self.positions, self.rows
        with np.errstate(over="ignore", invalid="ignore"):  # values beyond float32 become infinite and are reported
            out[:, :, at[:, None], at[None, :]] = block[:, :, rows[:, None], rows[None, :]]
        return out


def stacked_values(large: dict[str, StackedArray], spec: ConnectomeFiles, path: Path) -> tuple[StackedArray, bool]:
    """The array of matrices, and whether it has an axis of measures after that of subjects.

    Raises:
        DataError: no such array, or one of another shape.
    """
    numeric = {name: array for name, array in large.items() if name not in _NOT_MATRICES}
    if not spec.keys and len(numeric) != 1:
        raise DataError(
            "it is not clear which array contains the matrices",
            file=path,
            expected=f"key: one of {listed(list(numeric)) or '(no numeric array in it)'}",
            remedy="If each array is one subject, write them as one (n_subjects, n_regions, n_regions) with `ids`."
            if len(numeric) > len(spec.measures) > 0
            else None,
        )
    keys = spec.keys or tuple(numeric)
    for key in keys:
        if key not in numeric:
            raise DataError(f"no array is called {key!r}", file=path, expected=f"one of {listed(list(numeric))}")
        if numeric[key].dtype.kind not in "fiub" or numeric[key].ndim < 2:
            raise DataError(
                f"array {key!r} does not hold matrices of real numbers",
                file=path,
                got=f"{numeric[key].dtype} {numeric[key].shape}",
            )
    if len(keys) > 1:
        return _together([numeric[key] for key in keys], keys, path), True
    values = _squeezed(numeric[keys[0]])
    n_measures = len(spec.measures)
    is_triangle = spec.layout != "full"
    wanted = 2 if is_triangle else 3
    fits = is_triangle or values.shape[-1] == values.shape[-2]
    if fits and values.ndim == wanted and n_measures == 1:
        return values, False
    if fits and values.ndim == wanted + 1 and values.shape[1] == n_measures:
        return values, True
    shape = "(n_subjects, n_edges)" if is_triangle else "(n_subjects, n_regions, n_regions)"
    raise DataError(
        "the stack has the wrong shape",
        file=path,
        expected=f"{shape}{f', with {n_measures} measures after the subjects' if n_measures > 1 else ''}",
        got=str(values.shape),
        remedy=_shape_remedy(values.shape),
    )


def _shape_remedy(shape: tuple[int, ...]) -> str:
    """What to do about a stack of another shape."""
    if len(shape) == 3 and shape[0] == shape[1] != shape[2]:
        return "The first axis counts the subjects: save numpy.moveaxis(array, -1, 0)."
    n = math.isqrt(shape[-1])
    if len(shape) == 2 and n * n == shape[1]:
        return f"Save array.reshape(-1, {n}, {n}) if each row is a whole matrix."
    return (
        "The first axis counts the subjects. Check layout (full, upper or lower) and measure; several arrays are named "
        "by key: [A, B]."
    )


def _squeezed(values: StackedArray) -> StackedArray:
    """The array without last axes of length 1 behind the two of regions."""
    if values.ndim < 4 or values.shape[-1] != 1:
        return values

    def source(n_rows: int) -> Iterator[np.ndarray]:
        for block in values.source(n_rows):
            yield block[..., 0]

    return StackedArray(values.shape[:-1], values.dtype, source)


def _together(arrays: Sequence[StackedArray], keys: Sequence[str], path: Path) -> StackedArray:
    """Several arrays of one shape, one per measure, as one with an axis of measures."""
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        text = ", ".join(f"{key} {array.shape}" for key, array in zip(keys, arrays, strict=True))
        raise DataError("the arrays of the measures differ in shape", file=path, got=text)
    shape = arrays[0].shape

    def source(n_rows: int) -> Iterator[np.ndarray]:
        for parts in zip(*(array.source(n_rows) for array in arrays), strict=True):
            for part in parts:
                refuse_narrow(part, path)
            yield np.stack([np.asarray(part, dtype=float) for part in parts], axis=1)

    return StackedArray((shape[0], len(arrays), *shape[1:]), np.dtype(float), source)


def row_owners(
    arrays: dict[str, np.ndarray],
    spec: ConnectomeFiles,
    folder: Path,
    n_rows: int,
    id_columns: Sequence[str],
    path: Path,
    notes: list[str],
) -> tuple[str, ...]:
    """Ids of the rows of the stack, from the row table or the `ids` of the file.

    Raises:
        DataError: neither, ids that occur twice, another number of ids than of rows, or ids in the file in another
            order than in the row table.
    """
    own = _text_lists(arrays)
    owners = own_ids(arrays, n_rows) if spec.rows is None else None
    where = path
    if owners is None and spec.rows is None:
        raise DataError(
            "the rows of the stack are not assigned to subjects",
            file=path,
            remedy="Give rows: a table or a list with the ids in the order of the stack (it may be the participants "
            "table).",
        )
    if spec.rows is not None:
        where = folder / spec.rows
        owners = listed_ids(where, n_rows, id_columns, notes)
    assert owners is not None
    problems = [
        Problem("occurs twice among the rows of the stack", subject=owner, file=where) for owner in doubled(owners)
    ]
    if len(owners) != n_rows:
        problems.append(
            Problem(
                "the stack and its row table differ",
                expected=counted(len(owners), "row"),
                got=str(n_rows),
                file=path,
                remedy="The first axis counts the subjects; transpose the array if another one does.",
            )
        )
    raise_all("the rows of the stack cannot be assigned", problems)
    _check_own_ids(owners, own, where, path)
    return owners


def _text_lists(arrays: dict[str, np.ndarray]) -> dict[str, tuple[str, ...]]:
    lists = {name: array.astype(str) if name == "ids" and array.dtype.kind in "iu" else array
             for name, array in arrays.items()}  # fmt: skip
    return {name: safe_texts(array) for name, array in lists.items() if array.dtype.kind in "US" and array.ndim == 1}


def own_ids(arrays: dict[str, np.ndarray], n_rows: int) -> tuple[str, ...] | None:
    """Ids of the rows of a stack in its own file: `ids`, or the only list of subjects; None without one."""
    own = _text_lists(arrays)
    lists = [texts for name, texts in own.items() if _SUBJECTS.search(name) and len(set(texts)) == n_rows]
    return own["ids"] if "ids" in own else lists[0] if len(lists) == 1 else None


def listed_ids(file: Path, n_rows: int, id_columns: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    """Ids in a table with an id column, or in a list of `n_rows` ids with or without a header.

    Raises:
        MissingInputError: no such file. DataError: not a table, or none without an id column.
    """
    table = read_table(file, notes)
    columns = list(id_columns) if set(id_columns) <= set(table.columns) else []
    columns = columns or [name for name in _ID_COLUMNS if name in table.columns][:1]
    if not columns and table.shape[1] == 1:
        columns = [str(table.columns[0])]
        if len(table) == n_rows - 1:  # the first id was read as the header
            table = pd.DataFrame({columns[0]: [columns[0], *table.iloc[:, 0]]})
    if not columns:
        expected = f"a column {', '.join(id_columns)}, or one id per line and nothing else"
        raise DataError("the row table has no id column", file=file, expected=expected)
    return tuple(whole_ids(table, columns))


def _check_own_ids(owners: tuple[str, ...], own: dict[str, tuple[str, ...]], where: Path, path: Path) -> None:
    """Refuse a row table that lists the ids of the file in another order."""
    bare = [owner.removeprefix("sub-") for owner in owners]
    for name, texts in own.items():
        theirs = [text.removeprefix("sub-") for text in texts]
        if theirs != bare and sorted(theirs) == sorted(bare):
            at = next(i for i, (a, b) in enumerate(zip(bare, theirs, strict=True)) if a != b)
            raise DataError(
                f"the row table and {name!r} in the stack name the rows in different orders",
                file=path,
                expected=f"row {at + 1} is {texts[at]}",
                got=f"{owners[at]} in {where.name}",
                remedy="Leave rows out, or write the table in the order of the stack."
                if name == "ids" or _SUBJECTS.search(name)
                else None,
            )


def stack_layout(
    arrays: dict[str, np.ndarray], values: StackedArray, spec: ConnectomeFiles, known: RowNames, path: Path
) -> StackLayout:
    """Regions of the rows of the matrices; names in the file take precedence.

    Raises:
        DataError: no names, or names that do not fit; see `rows.named_rows`.
    """
    named = arrays.get("regions")
    own = safe_texts(named) if named is not None and named.dtype.kind in "US" and named.ndim == 1 else None
    if values.shape[0] == 0 or math.prod(values.shape) == 0:
        raise DataError("the stack has no subjects", file=path)
    n_values, is_triangle = values.shape[-1], spec.layout != "full"
    first = np.asarray(next(values.blocks())[0], dtype=float) if is_triangle else np.ones((n_values, n_values))
    one = first.reshape(-1, *first.shape[-1:]) if is_triangle else first[None]
    counts = MatrixFile(one).row_counts
    if not counts:
        expected = "n (n - 1) / 2 or n (n + 1) / 2 values"
        raise DataError("not a triangle of a matrix", file=path, expected=expected, got=str(n_values))
    lists = row_lists(arrays, counts, tuple(name for name in arrays if _SUBJECTS.search(name)))
    rows = named_rows(MatrixFile(one, names=own, lists=(*lists, *lists_beside(path, counts))), known, file=path)
    if len(rows.kept) != rows.n_rows and is_triangle:
        raise DataError("a triangle with a background row cannot be read; use layout: full", file=path)
    target = known.names or rows.names
    at = order_of(rows.names, target, where=known.where)
    return StackLayout(
        target, at, rows.kept, rows.n_rows, rows.names, rows.assumed, rows.notes, spec.layout, rows.otherwise
    )
