"""All matrices of a cohort, from one file per subject or one stack, lined up to one set of regions."""

from __future__ import annotations

import difflib
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from connectome_tl.atlas import Atlas, load_atlas, order_of
from connectome_tl.cohort.files import Search, found_files
from connectome_tl.connectome.connectome import Connectome, upper_indices
from connectome_tl.connectome.formats.stacks import released
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.labels import read_labels
from connectome_tl.connectome.naming import MatrixFile, RowNames, connectome_from
from connectome_tl.connectome.row_order import check_row_order
from connectome_tl.errors import ConnectomeTLError, DataError, Problem, UsageError
from connectome_tl.provenance import content_hash, file_hash
from connectome_tl.settings.cohort import ConnectomeFiles

IN_MEMORY = 4_000_000_000
_OFTEN = 100  # files after which the memory of a cohort that lies on disk is given back
_NOT_CEREBRUM = ("Cerebellum", "Brainstem", "White matter", "Ventricles", "CSF", "Background")  # of its grey matter
Track = Callable[[Sequence[Path], str], Iterable[Path]]


@dataclass(frozen=True, eq=False)
class Matrices:
    """Matrices of the subjects that have one, not yet transformed.

    Attributes:
        ids: (n_subjects,) as the table writes them.
        weights: (n_subjects, n_measures, n_regions, n_regions) float32.
        node_mask: (n_subjects, n_regions) bool.
        region_features: (n_subjects, n_regions, n_features) where the stack holds them, else None.
        sources: input name to SHA-256.
        as_read: measures of each matrix as the file has it, before it was made symmetric (see `seen_as_read`).
    """

    ids: tuple[str, ...]
    regions: tuple[str, ...]
    weights: np.ndarray
    node_mask: np.ndarray
    sources: dict[str, str]
    region_features: np.ndarray | None = None
    as_read: dict[str, np.ndarray] = field(default_factory=dict)


def seen_as_read(square: np.ndarray) -> dict[str, np.ndarray]:
    """What is gone once a matrix is symmetric and without diagonal, of (n, n_measures, n_rows, n_rows), each (n,):
    the largest |w - w'| over the largest |w|, and the diagonal's part of the summed |w|."""
    size = np.abs(np.nan_to_num(square, posinf=0.0, neginf=0.0))
    error = np.abs(size - size.swapaxes(2, 3)).max(axis=(1, 2, 3), initial=0.0)
    largest, total = size.max(axis=(1, 2, 3), initial=0.0), size.sum(axis=(1, 2, 3))
    diagonal = np.diagonal(size, axis1=2, axis2=3).sum(axis=(1, 2))
    found = {"symmetry error": (error, largest), "diagonal": (diagonal, total)}
    return {name: np.divide(a, b, out=np.zeros(len(a)), where=b > 0) for name, (a, b) in found.items()}


def known_rows(spec: ConnectomeFiles, folder: Path) -> RowNames:
    """What the settings say about rows.

    Raises:
        UsageError: no such atlas. MissingInputError, DataError: the label table.
    """
    atlas = None if spec.atlas is None else load_atlas(spec.atlas)
    table = None if spec.labels is None else read_labels(folder / spec.labels)
    if atlas is not None and table is not None:
        if table.numbers is not None and table.names == tuple(str(number) for number in table.numbers):
            numbered = {region.index: region.name for region in atlas.regions}  # a bare list of label numbers
            table = replace(table, names=tuple(numbered.get(n, str(n)) for n in table.numbers))
        table = replace(table, names=atlas.resolved(table.names))
        order_of(table.names, atlas.names, where=f"atlas {atlas.name}")
    return RowNames(atlas, table, spec.order)


def kept_regions(kept: str | tuple[str, ...], names: Sequence[str], atlas: Atlas | None) -> np.ndarray:
    """Positions of the regions that the setting `regions` keeps, (n_kept,).

    Raises:
        DataError: a listed region is not there.
    """
    if kept == "all":
        return np.arange(len(names))
    if kept == "cerebrum":
        if atlas is None:
            raise UsageError("regions: cerebrum needs an atlas, which knows the lobes")
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
    """One file per subject (and per measure, where `{measure}` stands in the pattern).

    Args:
        other: files that may fit the pattern and are something else (the tables).
        track: wraps the list of files to show progress.

    Returns:
        None when nothing could be read; all that is wrong is in the findings of the search.
    """
    folder, findings = search.folder, search.findings
    pattern = str(spec.files)
    per_measure = "{measure}" in pattern
    patterns = [pattern.replace("{measure}", name) for name in spec.measures] if per_measure else [pattern]
    found = [found_files(one, folder, findings, other=other) for one in patterns]
    names = [search.owners(files, what="a matrix", file=one) for one, files in zip(patterns, found, strict=True)]
    wanted = [subject for subject in search.ids if all(subject in name for name in names)]
    files = [found[k][names[k][subject]] for subject in wanted for k in range(len(found))]
    weights: np.ndarray | None = None
    node_mask = np.ones((len(wanted), 0), dtype=bool)
    regions: tuple[str, ...] = ()
    kept = np.zeros(0, dtype=int)
    edges, n_unnamed = np.zeros(0), 0
    as_read = {name: np.zeros(len(wanted)) for name in ("symmetry error", "diagonal")}
    hashes: list[str] = []
    for at, path in enumerate(files if track is None else track(files, "matrices")):
        i, part = divmod(at, len(found))
        try:
            measures = (spec.measures[part],) if per_measure else spec.measures
            matrix = read_matrix(path, format=spec.format)
            connectome = one_connectome(spec, known, matrix, path, wanted[i], measures)
            if weights is None:
                regions = connectome.regions
                kept = kept_regions(spec.regions, regions, known.atlas)
                weights = room_for((len(wanted), len(spec.measures), len(kept), len(kept)))
                node_mask = np.ones((len(wanted), len(kept)), dtype=bool)
                edges = np.zeros(len(regions) * (len(regions) - 1) // 2)
            connectome = connectome.aligned_to(regions)
            if matrix.names is None and matrix.labels is None and matrix.order is None:
                edges, n_unnamed = edges + connectome.weights[0][upper_indices(len(regions))], n_unnamed + 1
            findings.notes += [note for note in matrix.notes if note not in findings.notes]
            if matrix.values.ndim == 3 and not matrix.triangle and spec.layout == "full":
                for name, seen in seen_as_read(matrix.values[None]).items():
                    as_read[name][i] = max(as_read[name][i], float(seen[0]))
            hashes.append(file_hash(path))
        except ConnectomeTLError as error:
            findings.problems += [
                replace(problem, subject=problem.subject or wanted[i], file=problem.file or path)
                for problem in error.problems
            ]
            continue
        with np.errstate(over="ignore"):
            weights[i, part : part + 1 if per_measure else None] = connectome.weights[:, kept[:, None], kept]
        if not np.isfinite(weights[i]).all():
            findings.problems.append(Problem("a weight is too large for float32", subject=wanted[i], file=path))
        node_mask[i] &= connectome.node_mask[kept]
        if at % _OFTEN == 0:
            released(weights)
    if weights is None:
        if not findings.problems:
            findings.problems.append(Problem("no matrix was found", file=folder / pattern))
        return None
    if n_unnamed:
        check_row_order(edges / n_unnamed, known, folder / pattern)
    sources = {f"connectomes ({len(hashes)} files)": content_hash(sorted(hashes))}
    names_kept = tuple(regions[i] for i in kept)
    return Matrices(tuple(wanted), names_kept, weights, node_mask, sources, as_read=as_read)


def room_for(size: tuple[int, ...]) -> np.ndarray:
    """Zeros (float32) of that size; above IN_MEMORY bytes in a nameless file that vanishes with them."""
    if 4 * math.prod(size) <= IN_MEMORY:
        return np.zeros(size, dtype=np.float32)
    with tempfile.TemporaryFile() as file:
        file.truncate(4 * math.prod(size))
        return np.memmap(file, dtype=np.float32, mode="r+", shape=size)


def one_connectome(
    spec: ConnectomeFiles, known: RowNames, matrix: MatrixFile, path: Path, subject: str, measures: tuple[str, ...]
) -> Connectome:
    """Name, line up and check one file; the measures are those asked for, in their order.

    Raises:
        DataError: whatever is wrong with it.
    """
    connectome = connectome_from(
        matrix,
        known,
        measures=measures,
        layout=spec.layout,
        zero_rows=spec.zero_rows,
        subject=subject,
        file=path,
    )
    if not matrix.measures or matrix.measures == measures:
        return connectome
    if len(matrix.measures) == 1 and measures == ("weight",):
        return replace(connectome, measures=measures)
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
    return replace(connectome, weights=connectome.weights[positions], measures=measures)
