"""`connectome-tl convert`: convert matrix files to a format with region names and metadata."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from connectome_tl.arguments import checked_arguments
from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.export import files_written, refuse_overwriting, write_connectome
from connectome_tl.connectome.formats.table import Format, format_named, is_matrix_name, read_matrix, recognised
from connectome_tl.connectome.names.labels import read_labels
from connectome_tl.connectome.names.naming import Layout, RowNames, RowOrder, lined_up
from connectome_tl.connectome.names.row_order import check_row_order
from connectome_tl.connectome.names.rows import in_atlas
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, Problem, UsageError, raise_all
from connectome_tl.files import is_hidden
from connectome_tl.plurals import counted
from connectome_tl.provenance import file_hash, sidecar_path
from connectome_tl.settings.cohort import NUMBERED
from connectome_tl.workflows.data.convert_checks import chosen_layout, content_notes, only_measure
from connectome_tl.workflows.data.convert_names import bids_name

_MEASURE = re.compile(r"_meas-([A-Za-z0-9+]+)")
Say = Callable[[str], None]


def _silent(note: str) -> None:
    del note


@dataclass(frozen=True)
class _Job:
    """Options of a conversion, the same for every file."""

    known: RowNames
    format: str = "auto"
    labels: str | Path | None = None
    atlas: str = ""
    measure: str | None = None
    layout: Layout | None = None
    notes: Counter[str] = field(default_factory=Counter)


@checked_arguments
def convert(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "auto",
    labels: str | Path | None = None,
    atlas: str | None = None,
    pattern: str | None = None,
    measure: str | None = None,
    layout: Layout | None = None,
    order: RowOrder | None = None,
    track: Callable[[Sequence[Path], str], Iterable[Path]] | None = None,
    say: Say = _silent,
) -> tuple[Path, ...]:
    """Convert a matrix file, or every matrix file of a folder, like `connectome-tl convert`.

    If `out` is a folder, every atlas and measure of every file is written to a separate table with a BIDS name.

    Args:
        source: a file, or a folder. out: the file to write (.tsv, .csv, .npy, .npz, .mat, .graphml), or a folder.
        format: `auto`, a name of a format, or `NAME:CHOICE`.
        labels: table of the rows, for files without names; `numbered` for rows without names.
        atlas: atlas to align the rows with, and to name them if the file does not.
        pattern: pattern of the files of a folder (`**/*_connectivity.mat`).
        measure: measure to select, or name of the only measure of a file without names.
        layout: layout of a triangle, row by row: upper, lower or full.
        order: order of unnamed rows: table or label.
        track: wraps the list of files of a folder, to show progress.
        say: called with each note and warning.

    Returns:
        The written files.

    Raises:
        UsageError: no such format, atlas or extension, or an output would overwrite an input.
        MissingInputError: no such file. DataError: a file is damaged, or its rows have no names.
    """
    if Path(source).is_dir() or Path(out).is_dir() or not Path(out).suffix:
        return convert_folder(
            source, out, format=format, labels=labels, atlas=atlas, pattern=pattern, measure=measure, layout=layout,
            order=order, track=track, say=say,
        )  # fmt: skip
    return convert_file(
        source, out, format=format, labels=labels, atlas=atlas, measure=measure, layout=layout, order=order, say=say
    )


@checked_arguments
def read_connectome(
    file: str | Path,
    *,
    format: str = "auto",
    labels: str | Path | None = None,
    atlas: str | None = None,
    measure: str | None = None,
    layout: Layout | None = None,
    order: RowOrder | None = None,
    say: Say = _silent,
) -> Connectome:
    """Read the connectome of one file of any supported format, with the names of its regions.

    Args:
        file: the file.
        format, labels, atlas, measure, layout, order, say: as in `convert`.

    Returns:
        All measures of the file, or the one that `measure` selects; with an atlas, in the order of its regions.

    Raises:
        UsageError: no such format or atlas. MissingInputError: no such file.
        DataError: damaged, unnamed rows without labels or atlas, or rows that do not fit.
    """
    job = _job(format, labels, atlas, measure, layout, order)
    connectome, notes = _read(Path(file), _with_choice(Path(file), job), job, Path(file).name)
    for note in notes:
        say(note)
    return connectome


def convert_file(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "auto",
    labels: str | Path | None = None,
    atlas: str | None = None,
    measure: str | None = None,
    layout: Layout | None = None,
    order: RowOrder | None = None,
    say: Say = _silent,
) -> tuple[Path, ...]:
    """Convert one matrix file.

    Args:
        out: output file; its extension determines the format: .tsv (BIDS relmat style), .csv, .npy, .npz, .mat,
            .graphml.
        format: `auto`, a name of `formats.FORMATS`, or `NAME:CHOICE`.
        labels: table of the rows, for files without names; `numbered` for rows without names.
        atlas: atlas to align the rows with, and to name them if the file does not.
        measure: measure to select, or name of the only measure of a file without names.
        layout: layout of a triangle, row by row; None for upper, which is noted and checked.
        order: the order of unnamed rows; see `cohort.yaml`.
        say: called with each note and warning.

    Returns:
        The written files; one per measure for formats with one measure per file.

    Raises:
        UsageError: no such format, atlas or ending, or an output that would overwrite an input or another
            program's JSON. MissingInputError: no such file. DataError: damaged, unnamed rows without labels or
            atlas, rows that do not fit, or a matrix without a single value.
    """
    file, target = Path(source), Path(out)
    if os.path.realpath(target) == os.path.realpath(file):
        raise UsageError("input and output are the same file", file=file)
    job = _job(format, labels, atlas, measure, layout, order)
    made = _convert(file, target, _with_choice(file, job), job, others=())
    for note in job.notes:
        say(note)
    return made


def convert_folder(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "auto",
    labels: str | Path | None = None,
    atlas: str | None = None,
    pattern: str | None = None,
    measure: str | None = None,
    layout: Layout | None = None,
    order: RowOrder | None = None,
    track: Callable[[Sequence[Path], str], Iterable[Path]] | None = None,
    say: Say = _silent,
) -> tuple[Path, ...]:
    """Convert every matrix file of a folder, or one file with everything in it, to BIDS-style tables in a folder.

    Folders and BIDS entities of names are kept, and `atlas-` and `meas-` are added; each atlas and measure of a file
    is written to a separate table. Files that cannot be converted do not stop the conversion of others.

    Args:
        source: a folder, or one file. out: the folder to write to.
        format, labels, atlas, measure, layout, order, say: as in `convert_file`; each note is reported once.
        pattern: pattern of the files (`**/*_connectivity.mat`); None for files whose name identifies them as matrices.
        track: wraps the list of files, to show progress.

    Raises:
        UsageError: an output would overwrite an input. MissingInputError: no file matches. DataError: lists all files
            that could not be read, after the others were written.
    """
    root = Path(source)
    job = _job(format, labels, atlas, measure, layout, order)
    files = [root] if root.is_file() else _matrix_files(root, pattern, Path(out))
    if not files:
        remedy = "Give --pattern, for example '**/*.csv'."
        raise MissingInputError("no matrix file in the folder", file=root, remedy=remedy)
    written: dict[Path, Path] = {}
    problems: list[Problem] = []
    kinds: set[type[ConnectomeTLError]] = set()
    for file in files if track is None else track(files, "matrices"):
        folder = Path(out) / (file.parent.relative_to(root) if root.is_dir() else "")
        try:
            for choice in _choices(file, job):
                target = folder / _name(file, choice, job)
                made = _convert(file, target, choice, job, others=files, taken=written)
                written |= dict.fromkeys(made, file)
        except ConnectomeTLError as error:
            kinds.add(type(error))
            problems += [replace(problem, file=problem.file or file) for problem in error.problems]
    for note, count in job.notes.items():
        say(note if count == 1 else f"{note} ({counted(count, 'file')})")
    kind = UsageError if kinds == {UsageError} else DataError
    raise_all(
        f"{counted(len(written), 'table was', 'tables were')} written; some files could not be read", problems, kind
    )
    return tuple(written)


def _job(
    format: str,
    labels: str | Path | None,
    atlas: str | None,
    measure: str | None,
    layout: Layout | None,
    order: RowOrder | None,
) -> _Job:
    for name, value, known in (("layout", layout, get_args(Layout)), ("order", order, get_args(RowOrder))):
        if value is not None and value not in known:
            raise UsageError(f"unknown {name}", expected=f"one of {', '.join(known)}", got=repr(value))
    numbered = str(labels) == NUMBERED
    if numbered and atlas is not None:
        raise UsageError("--labels numbered means no names, and --atlas defines names", expected="one of them")
    of_atlas = None if atlas is None else load_atlas(atlas)
    table = None if labels is None or numbered else read_labels(labels)
    if of_atlas is not None and table is not None:
        table = in_atlas(table, of_atlas)
    names = RowNames(of_atlas, table, order, count_only=numbered)
    return _Job(names, format, None if numbered else labels, atlas or "", measure, layout)


def _matrix_files(root: Path, pattern: str | None, out: Path) -> list[Path]:
    """Matching files of the folder, without hidden files and outputs of earlier calls."""
    if not root.is_dir():
        raise MissingInputError("file or folder not found", file=root)
    if pattern is not None and (Path(pattern).is_absolute() or ".." in Path(pattern).parts):
        raise UsageError("a pattern must stay inside the folder", got=pattern)
    found = []
    for path in sorted(root.glob(pattern or "**/*")):
        hidden = any(map(is_hidden, path.relative_to(root).parts))
        if not path.is_file() or hidden or not (pattern is not None or is_matrix_name(path)):
            continue
        if out.resolve() == root.resolve() or not path.resolve().is_relative_to(out.resolve()):
            found.append(path)
    return found


def _format_of(file: Path, job: _Job) -> Format | None:
    """The format of an existing file."""
    if not file.is_file():
        return None  # the reader reports the problem
    name = job.format.partition(":")[0]
    return recognised(file) if name == "auto" else format_named(name)


def _with_choice(file: Path, job: _Job) -> str:
    """The format of one file, with the array or variable that `measure` names."""
    known = _format_of(file, job)
    if ":" in job.format or known is None or known.chooses not in ("array", "variable") or known.choices is None:
        return job.format
    return f"{known.name}:{job.measure}" if job.measure in known.choices(file) else job.format


def _choices(file: Path, job: _Job) -> list[str]:
    """The format, with a choice for each atlas or variable of the file."""
    known = _format_of(file, job)
    if ":" in job.format or known is None:
        return [job.format]
    several = known.choices(file) if known.choices is not None else ()
    if len(several) > 1 and known.chooses in ("array", "variable") and job.measure in several:
        several = (job.measure,)
    with_choice = len(several) > 1 or (len(several) == 1 and known.chooses == "atlas")
    return [f"{known.name}:{choice}" for choice in several] if with_choice else [known.name]


def _name(file: Path, choice: str, job: _Job) -> str:
    name, _, chosen = choice.partition(":")
    of_atlas = name != "auto" and format_named(name).chooses == "atlas"
    return bids_name(file, job.atlas or (chosen if of_atlas else ""))


def _read(file: Path, format: str, job: _Job, name_of: str) -> tuple[Connectome, tuple[str, ...]]:
    """The connectome of a file, and notes; `name_of` is a file name that may state the measure."""
    matrix = read_matrix(file, format=format)
    name, _, choice = format.partition(":")
    chooses = "" if name == "auto" else format_named(name).chooses
    layout, notes = chosen_layout(matrix, job.layout)
    entity = _MEASURE.search(name_of) or _MEASURE.search(file.name)
    variable = choice if chooses in ("array", "variable") and "," not in choice else ""
    single = entity.group(1) if entity else job.measure or variable or "weight"  # not stated in the file
    measures = tuple(f"measure{i + 1}" for i in range(len(matrix.values))) if len(matrix.values) > 1 else (single,)
    connectome, rows = lined_up(matrix, job.known, measures=measures, layout=layout, file=file)
    if job.measure is not None:
        connectome = only_measure(connectome, job.measure, named=bool(matrix.measures), file=file)
    notes = (*matrix.notes, *rows.notes, *notes)
    if rows.needs_check(matrix):
        note = check_row_order(
            matrix.values[0],
            rows.names,
            job.known,
            file,
            layout=layout,
            assumed_order=rows.assumed,
            otherwise=rows.otherwise,
        )
        notes += (f"WARNING: {note}",) if note else ()
    return connectome, (*notes, *content_notes(connectome, file, estimated=name == "series"))


def _convert(
    file: Path, target: Path, format: str, job: _Job, *, others: Sequence[Path], taken: dict[Path, Path] | None = None
) -> tuple[Path, ...]:
    connectome, notes = _read(file, format, job, target.name)
    name, _, choice = format.partition(":")
    files = files_written(target, connectome.measures, always_measure=taken is not None)
    for made in files:
        if taken and made in taken:
            raise DataError(f"would overwrite the output of {taken[made].name}", file=file, got=made.name)
    beside = [one for one in (sidecar_path(file), file.with_name(f"{file.stem}_labels.txt")) if one.is_file()]
    labels = [] if job.labels is None else [job.labels]
    refuse_overwriting(files, [file, *labels, *beside, *others])
    inputs = {file.name: file_hash(file)} | {Path(one).name: file_hash(one) for one in labels}
    chosen = choice if choice and format_named(name).chooses == "atlas" else ""
    atlas = job.known.atlas.name if job.known.atlas is not None else chosen
    settings = {"format": format, "atlas": atlas or None, "labels": Path(labels[0]).name if labels else None}
    made_files = write_connectome(
        connectome,
        target,
        atlas=atlas,
        inputs=inputs,
        settings=settings,
        notes=notes,
        always_measure=taken is not None,
    )
    job.notes.update(notes)
    return made_files
