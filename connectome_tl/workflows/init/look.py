"""Inspect a participants table and a folder of matrices."""

from __future__ import annotations

import glob
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.atlas import atlas_names, load_atlas
from connectome_tl.cohort.arrays.stack import open_stack
from connectome_tl.cohort.arrays.stack_rows import listed_ids, own_ids
from connectome_tl.cohort.columns.file_ids import FORMS
from connectome_tl.cohort.columns.guesses import (
    ColumnGuess,
    numbers_of,
)
from connectome_tl.cohort.columns.ids import bare
from connectome_tl.cohort.tables.cells import texts, whole
from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.connectome.formats.table import formats_of, read_matrix
from connectome_tl.connectome.matrix_file import MatrixFile
from connectome_tl.connectome.names.labels import listed
from connectome_tl.connectome.names.rows import atlases_that_know
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.plurals import counted
from connectome_tl.settings.cohort import Transform
from connectome_tl.workflows.init.events import Events, Joined
from connectome_tl.workflows.init.matched import cells_of, matched_rows, rows_of

_MOST_FILES = 200_000
_STACKS = (".npy", ".npz", ".mat", ".h5", ".hdf5")
SERIES, _FEWEST_REGIONS = "series", 10  # the format of time series, and their smallest number
_TRIED = 5  # files of a pattern, until one can be read

Choose = Callable[[str, tuple[str, ...]], str]  # chooses a `pattern`, `format` or `measure`


@dataclass(frozen=True)
class Seen:
    """Content of the table and the folder.

    Attributes:
        ids: id columns. pattern: pattern of the matrix files, or one file of all, relative to the output folder.
        n_matched: number of rows with a matrix. n_rows: number of rows of the table.
        other_patterns: further files of the same subjects, as `pattern`.
        format: `auto`, or the chosen atlas or variable of the files, as `qsirecon:AAL`.
        measure: the chosen measure of files with several, or the one in the names of the files; else empty.
        n_regions: rows of the first matrix. named: whether the matrix names its rows.
        atlases: the smallest that have its names, or those of its size.
        transform: transform suggested by its values. columns: probable meaning of each column of the table.
        rows: table or list with the ids in the order of one file of all matrices. key: its array, if it has several.
        images: whether the files are images, not matrices; `measure` is then their contrast.
        events: the events that the rows of the table are; `cells` then has one row per subject.
        scan_ids: columns of subject and session, if rows are scans; `ids` is then a column that joins them.
        joined: events and further tables whose columns are among `cells`.
    """

    table: Path
    cells: pd.DataFrame
    ids: str
    pattern: str
    n_matched: int
    n_rows: int
    other_patterns: tuple[str, ...]
    format: str
    measure: str
    n_regions: int
    atlases: tuple[str, ...]
    named: bool
    transform: Transform
    columns: tuple[ColumnGuess, ...]
    rows: str = ""
    key: str = ""
    images: bool = False
    events: Events | None = None
    scan_ids: tuple[str, ...] = ()
    joined: tuple[Joined, ...] = ()

    @property
    def is_stack(self) -> bool:
        """Whether one file has all matrices."""
        return "{id}" not in self.pattern


def look(tables: Sequence[Path], matrices: Path, folder: Path, choose: Choose) -> Seen:
    """Find the id column and the names of the files, and inspect the first readable matrix.

    Args:
        tables: the table of the participants, and further ones. matrices: folder of the matrices, or one file with all.
        choose: chooses among several patterns of files, among the atlases or variables of a file, and among its
            measures.

    Raises:
        MissingInputError: no table, no folder, or an empty folder. DataError: no column has ids that occur in file
            names, or no file is a matrix.
    """
    if matrices.is_file():
        return _stack(tables, matrices, folder, choose)
    table = tables[0]
    rows = matched_rows(matrices, tables)
    cells, ids = rows.cells, rows.ids
    read = {one: _first_matrix(matrices, cells, ids, one) for one, _ in rows.patterns}
    readable = {one: n for one, n in rows.patterns if not isinstance(read[one], ConnectomeTLError)}
    if not readable:
        raise next(error for error in read.values() if isinstance(error, ConnectomeTLError))
    chosen = choose("pattern", tuple(readable)) if len(readable) > 1 else next(iter(readable))
    matrix, format = read[chosen], "auto"
    if isinstance(matrix, tuple):
        format = choose("format", matrix)
        matrix = _first_matrix(matrices, cells, ids, chosen, format)
    if not isinstance(matrix, MatrixFile):
        assert isinstance(matrix, ConnectomeTLError)
        raise matrix
    names = matrix.names
    fits = atlases_that_know(names) if names is not None else atlases_of_size(matrix.row_counts)
    place = Path(os.path.relpath(matrices, folder))
    return Seen(
        table,
        cells,
        ids,
        (place / chosen).as_posix(),
        readable[chosen],
        len(cells),
        tuple((place / one).as_posix() for one in readable if one != chosen),
        format,
        choose("measure", matrix.measures) if len(matrix.measures) > 1 else _measure_in(chosen, matrix),
        len(names) if names is not None else matrix.n_rows,
        fits,
        names is not None,
        _transform(matrix.values),
        rows.columns,
        events=rows.events,
        scan_ids=rows.scan_ids,
        joined=rows.joined,
    )


def _stack(tables: Sequence[Path], matrices: Path, folder: Path, choose: Choose) -> Seen:
    """Inspect one file with the matrices of all subjects, and find the list of their ids."""
    table, cells = tables[0], cells_of(tables[0])
    if matrices.suffix.lower() not in _STACKS:
        raise UsageError(
            "--matrices names a folder with one matrix per subject, or one file with the matrices of all subjects",
            expected=f"one of {', '.join(_STACKS)}",
            got=matrices.name,
            file=matrices,
        )
    small, large = open_stack(matrices)
    arrays = {key: one for key, one in large.items() if one.ndim == 3 and one.shape[1] == one.shape[2] > 1}
    if not arrays:
        raise DataError(
            "no array of square matrices in the file",
            file=matrices,
            expected="(n_subjects, n_regions, n_regions)",
            got=listed([f"{key} {one.shape}" for key, one in large.items()]) or "no numeric array",
            remedy="If each array is one subject, write them as one (n_subjects, n_regions, n_regions) with `ids`."
            if len({one.shape for one in large.values()}) == 1 < len(large)
            else "Triangles and several measures need settings: write cohort.yaml by hand, with connectomes: "
            "{stack: FILE, rows: TABLE}; `connectome-tl init FOLDER` writes a commented example.",
        )
    key = choose("key", tuple(arrays)) if len(arrays) > 1 else next(iter(arrays))
    if key not in arrays:
        raise UsageError(f"answer {key!r} to key", expected=f"one of {', '.join(arrays)}")
    n_matrices, n_regions, _ = arrays[key].shape
    owners, rows = own_ids(small, n_matrices), ""
    if owners is None:
        lists = _id_lists(matrices, table, len(cells), n_matrices)
        rows = choose("rows", tuple(os.path.relpath(one, matrices.parent) for one in lists))
        file = matrices.parent / rows
        owners = () if file.resolve() == table.resolve() else listed_ids(file, n_matrices, list(cells.columns), [])
    known = {bare(one) for one in owners}
    hits = {str(name): sum(bare(whole(cell)) in known for cell in set(texts(cells[name]))) for name in cells.columns}
    distinct = [str(name) for name in cells.columns if cells[name].nunique() == len(cells)]
    ids = max(hits, key=lambda name: hits[name]) if owners else next(iter(distinct), "")
    if not ids or (owners and not hits[ids]):
        got = f"columns {', '.join(map(str, cells.columns[:12]))}"
        expected = f"ids such as {owners[0]}" if owners else "a column with another value in each row"
        raise DataError("no column of the table holds the ids of the matrices", expected=expected, got=got, file=table)
    found = rows_of(cells, ids, tables[1:])
    names = small.get("regions")
    names = None if names is None or len(names) != n_regions else names
    known_by = atlases_that_know(tuple(names)) if names is not None else atlases_of_size({n_regions})
    return Seen(
        table,
        found.cells,
        ids,
        Path(os.path.relpath(matrices, folder)).as_posix(),
        hits[ids] if owners else len(cells),
        len(found.cells),
        (),
        "auto",
        "",
        n_regions,
        known_by,
        names is not None,
        _transform(next(arrays[key].blocks())[0].astype(float)),
        found.columns,
        Path(os.path.relpath(matrices.parent / rows, folder)).as_posix() if rows else "",
        key if len(large) > 1 else "",
        events=found.events,
        joined=found.joined,
    )


def _id_lists(matrices: Path, table: Path, n_rows: int, n_matrices: int) -> list[Path]:
    """Tables and lists beside a stack with as many rows as it has matrices; one may name their order.

    Raises:
        DataError: there is none.
    """
    found = [table] if n_rows == n_matrices else []
    for file in sorted(matrices.parent.iterdir()):
        if file.suffix.lower() in (".txt", ".csv", ".tsv") and file.resolve() != table.resolve():
            try:
                n = len(read_table(file, notes=[]))
            except ConnectomeTLError:
                continue
            found += [file] if n in (n_matrices, n_matrices - 1) else []
    if not found:
        raise DataError(
            "the matrices are not assigned to subjects",
            expected=f"a list of {counted(n_matrices, 'id')} beside the file",
            file=matrices,
            remedy="Write a text file with one id per line, in the order of the matrices, into the same folder.",
        )
    return found


def atlases_of_size(row_counts: Collection[int]) -> tuple[str, ...]:
    """Atlases with one of these numbers of regions."""
    return tuple(name for name in atlas_names() if load_atlas(name).n_regions in row_counts)


def _transform(values: np.ndarray) -> Transform:
    """Suggest a transform: correlations have negative values within 1, counts are whole, weights have a long tail."""
    known = values[np.isfinite(values)]
    if len(known) and known.min() < 0 and np.abs(known).max() <= 1.0 + 1e-6:
        return "fisher_z"
    positive = known[known > 0]
    if not len(positive) or known.min() < 0:
        return "none"
    counts = positive.max() > 1 and bool((positive == np.round(positive)).all())
    return "log1p" if counts or positive.max() > 20 * np.median(positive) else "none"


def _first_matrix(
    matrices: Path, cells: pd.DataFrame, ids: str, pattern: str, format: str = "auto"
) -> MatrixFile | tuple[str, ...] | ConnectomeTLError:
    """The first readable matrix among the first files of a pattern, or the formats to choose from, else what is wrong
    with the first of them."""
    wrong: list[ConnectomeTLError] = []
    for file in itertools.islice(files_of(matrices, cells, ids, pattern), _TRIED):
        try:
            formats = formats_of(file) if format == "auto" else ()
            if formats:
                return formats
            matrix = read_matrix(file, format=format)
            if matrix.n_rows > 1:
                return matrix
            wrong.append(DataError("not a matrix of regions", expected="at least 2 rows", got="1", file=file))
        except (DataError, UsageError) as error:
            if format == "auto" and _is_series(file):
                return (SERIES,)
            wrong.append(error)
    first = wrong[0].problems[0]
    return DataError(
        f"the files of the subjects cannot be read as matrices: {first.what}",
        expected=first.expected,
        got=first.got,
        file=first.file,
        remedy=first.remedy,
    )


def _is_series(file: Path) -> bool:
    """Whether a file that is no matrix can be read as time series of enough regions for a connectome."""
    try:
        return read_matrix(file, format=SERIES).n_rows >= _FEWEST_REGIONS
    except (DataError, UsageError):
        return False


def files_of(matrices: Path, cells: pd.DataFrame, ids: str, pattern: str) -> Iterator[Path]:
    """The files of a pattern that are there, in the order of the rows."""
    for one in cells[ids]:
        bare = str(one).removeprefix("sub-")
        spelled = (glob.escape(pattern.replace("{id}", unicodedata.normalize(form, bare))) for form in FORMS)
        paths = (path for name in spelled for path in sorted(matrices.glob(name.replace("[*]", "*"))))
        yield from itertools.islice((path for path in paths if path.is_file()), 1)


def _measure_in(pattern: str, matrix: MatrixFile) -> str:
    """The measure that the names of the files state as `meas-NAME`, unless the file states another one."""
    found = re.search(r"(?:^|[_/])meas-([A-Za-z0-9]+)", pattern)
    if found and matrix.measures in ((), (found[1],)):
        return found[1]
    return matrix.measures[0] if matrix.n_frames else ""  # that of time series


def span_of(seen: Seen, column: ColumnGuess) -> str:
    """Smallest and largest number of a column, in words."""
    values = numbers_of(seen.cells[column.column])
    return f"{values.min():g} to {values.max():g}" if len(values) else "no numbers"


def first_of(seen: Seen, meaning: str) -> ColumnGuess | None:
    """The first column with this meaning, if any."""
    return next((one for one in seen.columns if one.meaning == meaning), None)


def age_of(seen: Seen, roles: Mapping[str, str]) -> ColumnGuess | None:
    """The column of the age at scan, which may be an outcome too; `roles` are the answers on columns."""
    named = next((one for one in seen.columns if one.column == roles.get("age")), None)
    return named or first_of(seen, "age")


def all_of(seen: Seen, meaning: str) -> tuple[ColumnGuess, ...]:
    """All columns with this meaning."""
    return tuple(one for one in seen.columns if one.meaning == meaning)
