"""Read the matrices of a cohort (one file per subject or one stack) and align their regions."""

from __future__ import annotations

import difflib
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from connectome_tl.atlas import Atlas, load_atlas, order_of
from connectome_tl.cohort.arrays.files import Search, found_files
from connectome_tl.cohort.tables.saved import Findings
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.formats.stacks import released
from connectome_tl.connectome.formats.table import format_named, read_matrix, recognised
from connectome_tl.connectome.names.labels import read_labels
from connectome_tl.connectome.names.naming import MatrixFile, RowNames, lined_up
from connectome_tl.connectome.names.row_order import check_row_order
from connectome_tl.connectome.names.rows import Rows, in_atlas
from connectome_tl.errors import ConnectomeTLError, DataError, Problem, UsageError
from connectome_tl.plurals import counted
from connectome_tl.provenance import content_hash, file_hash
from connectome_tl.settings.cohort import NUMBERED, ConnectomeFiles

IN_MEMORY = 4_000_000_000
_OFTEN = 100  # number of files after which memory of an array on disk is released
_NOT_CEREBRUM = ("Cerebellum", "Brainstem", "White matter", "Ventricles", "CSF", "Background")  # of its grey matter
Track = Callable[[Sequence[Path], str], Iterable[Path]]


@dataclass(frozen=True, eq=False)
class Matrices:
    """Matrices of the subjects that have one, before transforms.

    Attributes:
        ids: (n_subjects,) as in the table.
        weights: (n_subjects, n_measures, n_regions, n_regions) float32.
        node_mask: (n_subjects, n_regions) bool.
        region_features: (n_subjects, n_regions, n_features) if the stack contains them, else None.
        sources: input name to SHA-256.
        as_read: measures of each matrix in the file, before symmetrisation (see `seen_as_read`).
        without: reasons for missing connectomes, by id; their edges are 0 and all their regions masked.
    """

    ids: tuple[str, ...]
    regions: tuple[str, ...]
    weights: np.ndarray
    node_mask: np.ndarray
    sources: dict[str, str]
    region_features: np.ndarray | None = None
    as_read: dict[str, np.ndarray] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)


def seen_as_read(square: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of matrices (n, n_measures, n_rows, n_rows) that symmetrisation and removal of the diagonal discard,
    each (n,): the largest |w - w'| relative to the largest |w|, and the diagonal's share of the summed |w|."""
    size = np.abs(np.nan_to_num(square, posinf=0.0, neginf=0.0))
    error = np.abs(size - size.swapaxes(2, 3)).max(axis=(1, 2, 3), initial=0.0)
    largest, total = size.max(axis=(1, 2, 3), initial=0.0), size.sum(axis=(1, 2, 3))
    diagonal = np.diagonal(size, axis1=2, axis2=3).sum(axis=(1, 2))
    found = {"symmetry error": (error, largest), "diagonal": (diagonal, total)}
    return {name: np.divide(a, b, out=np.zeros(len(a)), where=b > 0) for name, (a, b) in found.items()}


def known_rows(spec: ConnectomeFiles, folder: Path) -> RowNames:
    """Row names from the settings.

    Raises:
        UsageError: no such atlas. MissingInputError, DataError: the label table.
    """
    atlas = None if spec.atlas is None else load_atlas(spec.atlas)
    table = None if spec.label_table is None else read_labels(folder / spec.label_table)
    if atlas is not None and table is not None:
        table = in_atlas(table, atlas)
    return RowNames(atlas, table, spec.order, count_only=spec.labels == NUMBERED)


def kept_regions(kept: str | tuple[str, ...], names: Sequence[str], atlas: Atlas | None) -> np.ndarray:
    """Positions of the regions that the setting `regions` keeps, (n_kept,).

    Raises:
        DataError: a listed region does not exist.
    """
    if kept == "all":
        return np.arange(len(names))
    if kept == "cerebrum":
        if atlas is None:
            raise UsageError("regions: cerebrum needs an atlas, which defines the lobes")
        cerebrum = {region.name for region in atlas.regions if region.lobe not in _NOT_CEREBRUM}
        return np.array([i for i, name in enumerate(names) if name in cerebrum], dtype=int)
    return order_of(kept if atlas is None else atlas.resolved(tuple(kept)), names, where="the connectomes")


def read_files(
    spec: ConnectomeFiles,
    known: RowNames,
    search: Search,
    *,
    other: Sequence[str] = (),
    track: Track | None = None,
) -> Matrices | None:
    """Read one file per subject (and per measure, if the pattern contains `{measure}`).

    A subject with a reason in the search has no connectome, even if there is a file.

    Args:
        other: files that may match the pattern but are not matrices (tables).
        track: wraps the list of files to show progress.

    Returns:
        None if nothing could be read; all problems are in the findings of the search.
    """
    folder, findings, keep = search.folder, search.findings, spec.unmatched == "missing"
    own = replace(search, ids=[subject for subject in search.ids if subject not in search.reasons])
    pattern = str(spec.files)
    per_measure = "{measure}" in pattern
    patterns = [pattern.replace("{measure}", name) for name in spec.measures] if per_measure else [pattern]
    found = [found_files(one, folder, findings, other=other) for one in patterns]
    lacking = "stay without one" if keep else "were left out"
    names = [
        own.owners(files, what="a matrix", file=one, lacking=lacking)
        for one, files in zip(patterns, found, strict=True)
    ]
    there = {subject for subject in own.ids if all(subject in name for name in names)}
    wanted = tuple(i for i in search.ids if i in there or i in search.reasons or keep)
    rows = [row for row, subject in enumerate(wanted) if subject in there]
    files = [found[k][names[k][wanted[row]]] for row in rows for k in range(len(found))]
    gathered = _Gathered(spec, known, findings, wanted)
    for at, path in enumerate(files if track is None else track(files, "matrices")):
        gathered.add(path, rows[at // len(found)], at % len(found) if per_measure else None)
        if at % _OFTEN == 0 and gathered.weights is not None:
            released(gathered.weights)
    if gathered.weights is None and not findings.problems:
        findings.problems.append(Problem("no matrix was found", file=folder / pattern))
    without = {i: search.reasons.get(i, "no matrix") for i in wanted if i not in there}
    return gathered.matrices(folder / pattern, without)


class _Gathered:
    """Collect the matrices of all files; the first one defines the regions."""

    def __init__(self, spec: ConnectomeFiles, known: RowNames, findings: Findings, wanted: tuple[str, ...]) -> None:
        self.spec, self.known, self.findings, self.wanted = spec, known, findings, wanted
        self.weights: np.ndarray | None = None
        self.node_mask = np.ones((len(wanted), 0), dtype=bool)
        self.regions: tuple[str, ...] = ()
        self.kept = np.zeros(0, dtype=int)
        self.n_rows = self.first = 0
        self.unnamed = _Unnamed()
        self.as_read = {name: np.zeros(len(wanted)) for name in ("symmetry error", "diagonal")}
        self.hashes: list[str] = []

    def add(self, path: Path, i: int, part: int | None) -> None:
        """Read the file of subject `i`; problems are added to the findings.

        Args:
            part: number of the measure of the file, None if it contains all.
        """
        try:
            self._read(path, i, part)
        except ConnectomeTLError as error:
            self.findings.problems += [
                replace(problem, subject=problem.subject or self.wanted[i], file=problem.file or path)
                for problem in error.problems
            ]

    def _read(self, path: Path, i: int, part: int | None) -> None:
        """Read one file, see `add`.

        Raises:
            ConnectomeTLError: any problem of the file.
        """
        spec, subject = self.spec, self.wanted[i]
        measures = spec.measures if part is None else (spec.measures[part],)
        matrix = read_matrix(path, format=_format(spec, path, part))
        matrix = replace(matrix, measures=()) if len(spec.keys) > 1 else matrix  # in the order of the keys
        connectome, rows = one_connectome(spec, self.known, matrix, path, subject, measures)
        if self.weights is None:
            self.regions, self.n_rows, self.first = connectome.regions, rows.n_rows, i
            self.kept = kept_regions(spec.regions, self.regions, self.known.atlas)
            self.weights = room_for((len(self.wanted), len(spec.measures), len(self.kept), len(self.kept)))
            self.node_mask = np.ones((len(self.wanted), len(self.kept)), dtype=bool)
        if rows.assumed and self.known.count_only and rows.n_rows != self.n_rows:
            raise DataError(
                "matrices without names of regions differ in size, so their rows are not the same regions",
                expected=f"{counted(self.n_rows, 'row')}, as the first matrix has ({self.wanted[self.first]})",
                got=str(rows.n_rows),
                subject=subject,
                file=path,
                remedy="Write the region names into the files, or leave this subject out.",
            )
        connectome = connectome.aligned_to(self.regions)
        if rows.needs_check(matrix):
            self.unnamed.add(matrix.values[0], rows)
        self.findings.notes += [n for n in (*matrix.notes, *rows.notes) if n not in self.findings.notes]
        if matrix.values.ndim == 3 and not matrix.triangle and spec.layout == "full":
            for name, seen in seen_as_read(matrix.values[None]).items():
                self.as_read[name][i] = max(self.as_read[name][i], float(seen[0]))
        self.hashes.append(file_hash(path))
        at = slice(None) if part is None else slice(part, part + 1)
        with np.errstate(over="ignore"):
            self.weights[i, at] = connectome.weights[:, self.kept[:, None], self.kept]
        if not np.isfinite(self.weights[i]).all():
            self.findings.problems.append(Problem("a weight is too large for float32", subject=subject, file=path))
        self.node_mask[i] &= connectome.node_mask[self.kept]

    def matrices(self, where: Path, without: dict[str, str]) -> Matrices | None:
        if self.weights is None:
            return None
        self.node_mask[[self.wanted.index(subject) for subject in without]] = False
        self.findings.notes += self.unnamed.check(self.known, where, self.spec)
        sources = {f"connectomes ({counted(len(self.hashes), 'file')})": content_hash(sorted(self.hashes))}
        names = tuple(self.regions[i] for i in self.kept)
        return Matrices(
            self.wanted, names, self.weights, self.node_mask, sources, as_read=self.as_read, without=without
        )


class _Unnamed:
    """Sums of matrices whose order of rows or values was assumed, one for each order of regions."""

    def __init__(self) -> None:
        self.sums: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[np.ndarray, Rows]] = {}

    def add(self, values: np.ndarray, rows: Rows) -> None:
        key = rows.names, values.shape
        before, rows = self.sums.get(key, (np.zeros(values.shape), rows))
        self.sums[key] = before + np.nan_to_num(values, posinf=0.0, neginf=0.0), rows

    def check(self, known: RowNames, where: Path, spec: ConnectomeFiles) -> list[str]:
        """Notes, or an error if an order or a triangle is clearly different; see `check_row_order`."""
        notes = [
            check_row_order(
                values,
                rows.names,
                known,
                where,
                layout=spec.layout,
                assumed_order=rows.assumed,
                otherwise=rows.otherwise,
            )
            for values, rows in self.sums.values()
        ]
        return [note for note in dict.fromkeys(notes) if note]


def _format(spec: ConnectomeFiles, path: Path, part: int | None) -> str:
    """The format, with the arrays that `key` chooses.

    Raises:
        UsageError: a key for a format with one matrix per file.
    """
    keys = spec.keys
    if not keys:
        return spec.format
    known = recognised(path) if spec.format == "auto" else format_named(spec.format.partition(":")[0])
    if known.chooses not in ("array", "variable"):
        raise UsageError(
            f"key selects an array of .npz, .mat or .h5 files, but these have the format {known.name}", file=path
        )
    return f"{known.name}:{keys[part] if part is not None and len(keys) > 1 else ','.join(keys)}"


def room_for(size: tuple[int, ...]) -> np.ndarray:
    """Zeros (float32) of that size; above IN_MEMORY bytes in a temporary file."""
    if 4 * math.prod(size) <= IN_MEMORY:
        return np.zeros(size, dtype=np.float32)
    with tempfile.TemporaryFile() as file:
        file.truncate(4 * math.prod(size))
        return np.memmap(file, dtype=np.float32, mode="r+", shape=size)


def one_connectome(
    spec: ConnectomeFiles, known: RowNames, matrix: MatrixFile, path: Path, subject: str, measures: tuple[str, ...]
) -> tuple[Connectome, Rows]:
    """Name, align and check the matrices of one file; returns the requested measures in their order.

    Raises:
        DataError: any problem of the file.
    """
    connectome, rows = lined_up(
        matrix,
        known,
        measures=measures,
        layout=spec.layout,
        zero_rows=spec.zero_rows,
        subject=subject,
        file=path,
    )
    if not matrix.measures or matrix.measures == measures:
        return connectome, rows
    if len(matrix.measures) == 1 and measures == ("weight",):
        return replace(connectome, measures=measures), rows
    positions = []
    for name in measures:
        if name not in matrix.measures:
            near = difflib.get_close_matches(name, matrix.measures, n=3, cutoff=0.3)
            raise DataError(
                f"measure {name!r} is not in the file",
                expected=f"one of {', '.join(matrix.measures)}",
                subject=subject,
                file=path,
                remedy=f"Nearest: {', '.join(near)}." if near else None,
            )
        positions.append(matrix.measures.index(name))
    return replace(connectome, weights=connectome.weights[positions], measures=measures), rows
