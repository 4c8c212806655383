"""`connectome-tl convert`: any matrix file to one that names its rows and says what it is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from connectome_tl.atlas import load_atlas, order_of
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.connectome.export import files_written, write_connectome
from connectome_tl.connectome.formats.table import format_named, is_matrix_name, read_matrix, recognised
from connectome_tl.connectome.labels import read_labels
from connectome_tl.connectome.naming import MatrixFile, RowNames, connectome_from
from connectome_tl.connectome.row_order import check_row_order
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, Problem, UsageError, raise_all
from connectome_tl.provenance import file_hash

_MEASURE = re.compile(r"_meas-([A-Za-z0-9+]+)")


def convert_file(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "auto",
    labels: str | Path | None = None,
    atlas: str | None = None,
) -> tuple[Path, ...]:
    """Convert one matrix file.

    Args:
        out: its ending says what is written: .tsv (BIDS relmat style), .csv, .npy, .npz, .mat, .graphml.
        format: `auto`, a name of `formats.FORMATS`, or `NAME:CHOICE`.
        labels: table of the rows, for files that do not name them.
        atlas: lines the rows up with this atlas, and names them where the file does not.

    Returns:
        The files written; one per measure where the output holds one measure only.

    Raises:
        UsageError: no such format, atlas or ending. MissingInputError: no such file. DataError:
            damaged, unnamed rows without labels or atlas, or rows that do not fit.
    """
    file, target = Path(source), Path(out)
    if os.path.realpath(target) == os.path.realpath(file):
        raise UsageError("input and output are the same file", file=file)
    return _convert(file, target, format, _known(labels, atlas), labels=labels)


def convert_folder(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "auto",
    labels: str | Path | None = None,
    atlas: str | None = None,
    pattern: str | None = None,
    track: Callable[[Sequence[Path], str], Iterable[Path]] | None = None,
) -> tuple[Path, ...]:
    """Convert every matrix file of a folder, or one file with everything in it, to BIDS-style tables in a folder.

    Names keep their folders and BIDS entities and gain `atlas-` and `meas-`; each atlas and measure of a file
    becomes a table of its own. What can be converted is, whatever else is wrong.

    Args:
        source: a folder, or one file. out: the folder to write to.
        format, labels, atlas: as `convert_file`.
        pattern: which files of the folder (`**/*_connectivity.mat`); None means those whose name alone says that
            they are matrices, so that other tables are left alone.
        track: wraps the list of files, to show progress.

    Raises:
        UsageError: nothing fits. DataError: every file that could not be read, after the others were written.
    """
    root, known = Path(source), _known(labels, atlas)
    files = [root] if root.is_file() else _matrix_files(root, pattern, Path(out))
    if not files:
        remedy = "Say --pattern, for example '**/*.csv'."
        raise MissingInputError("no matrix file in the folder", file=root, remedy=remedy)
    written: dict[Path, Path] = {}
    problems: list[Problem] = []
    for file in files if track is None else track(files, "matrices"):
        try:
            for choice in _choices(file, format):
                folder = Path(out) / (file.parent.relative_to(root) if root.is_dir() else "")
                target = folder / _bids_name(file, choice, atlas)
                made = _convert(file, target, choice, known, labels=labels, taken=written)
                written |= dict.fromkeys(made, file)
        except ConnectomeTLError as error:
            problems += [replace(problem, file=problem.file or file) for problem in error.problems]
    raise_all(f"{len(written)} tables were written; some files could not be read", problems)
    return tuple(written)


def _known(labels: str | Path | None, atlas: str | None) -> RowNames:
    known = RowNames(
        atlas=None if atlas is None else load_atlas(atlas), table=None if labels is None else read_labels(labels)
    )
    if known.atlas is not None and known.table is not None:
        order_of(known.atlas.resolved(known.table.names), known.atlas.names, where=f"atlas {atlas}")
    return known


def _matrix_files(root: Path, pattern: str | None, out: Path) -> list[Path]:
    """Files of the folder that fit, without hidden ones and what an earlier call has written."""
    if not root.is_dir():
        raise MissingInputError("file or folder not found", file=root)
    if pattern is not None and (Path(pattern).is_absolute() or ".." in Path(pattern).parts):
        raise UsageError("a pattern stays inside the folder", got=pattern)
    found = []
    for path in sorted(root.glob(pattern or "**/*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not path.is_file() or hidden or not (pattern is not None or is_matrix_name(path)):
            continue
        if out.resolve() == root.resolve() or not path.resolve().is_relative_to(out.resolve()):
            found.append(path)
    return found


def _choices(file: Path, format: str) -> list[str]:
    """`format` as it is, or one with a choice for each atlas or variable that the file holds."""
    if ":" in format:
        return [format]
    known = recognised(file) if format == "auto" else format_named(format)
    several = known.choices(file) if known.choices is not None else ()
    return [f"{known.name}:{choice}" for choice in several] if len(several) > 1 else [known.name]


def _bids_name(file: Path, choice: str, atlas: str | None) -> str:
    """`sub-1_ses-1_space-ACPC_connectivity.mat` to `sub-1_ses-1_space-ACPC_atlas-X_relmat.tsv`."""
    parts = file.name.split(".")[0].split("_")
    entities = [part for part in parts if "-" in part or not any("-" in other for other in parts)]
    said = dict(part.split("-", 1) for part in entities if "-" in part)
    label = atlas or choice.partition(":")[2] or said.get("atlas") or said.get("seg") or ""
    entities = [part for part in entities if part.split("-")[0] not in ("atlas", "seg", "meas", "stat", "desc")]
    label = "".join(character for character in label if character.isalnum() and character.isascii())
    return "_".join([*entities, *([f"atlas-{label}"] if label else []), "relmat.tsv"])


def _convert(
    file: Path,
    target: Path,
    format: str,
    known: RowNames,
    *,
    labels: str | Path | None,
    taken: Mapping[Path, Path] | None = None,
) -> tuple[Path, ...]:
    matrix = read_matrix(file, format=format)
    layout, notes = _layout(matrix)
    entity = _MEASURE.search(target.name) or _MEASURE.search(file.name)
    single = entity.group(1) if entity else "weight"  # what the file does not say, the name asked for may
    measures = tuple(f"measure{i + 1}" for i in range(len(matrix.values))) if len(matrix.values) > 1 else (single,)
    connectome = connectome_from(matrix, known, measures=measures, layout=layout, file=file)
    if matrix.names is None and matrix.labels is None and matrix.order is None:
        check_row_order(connectome.weights[0][upper_indices(connectome.n_regions)], known, file)
    for made in files_written(target, connectome.measures, always_measure=True) if taken else ():
        if taken and made in taken:
            raise DataError(f"would overwrite what {taken[made].name} gave", file=file, got=made.name)
    missing = [name for name, there in zip(connectome.regions, connectome.node_mask, strict=True) if not there]
    if missing:
        notes += (f"{len(missing)} regions are missing and masked: {', '.join(missing)}",)
    linked = (connectome.weights != 0).any(axis=(0, 1))
    lonely = [connectome.regions[i] for i in np.flatnonzero(connectome.node_mask & ~linked)]
    if lonely:
        notes += (f"{len(lonely)} regions without an edge, isolated or not measured: {', '.join(lonely)}",)
    inputs = {file.name: file_hash(file)}
    if labels is not None:
        inputs[Path(labels).name] = file_hash(labels)
    atlas = "" if known.atlas is None else known.atlas.name
    return write_connectome(
        connectome,
        target,
        atlas=atlas or format.partition(":")[2],
        inputs=inputs,
        settings={"format": format, "atlas": atlas or None, "labels": None if labels is None else Path(labels).name},
        notes=(*matrix.notes, *notes),
        always_measure=taken is not None,
    )


def _layout(matrix: MatrixFile) -> tuple[Literal["full", "upper"], tuple[str, ...]]:
    """An upper triangle is mirrored knowingly: a list of edges, or a square with nothing below the diagonal."""
    if matrix.values.ndim == 2:
        return "upper", ("the upper triangle was mirrored",)
    lower, upper = np.tril(matrix.values, -1), np.triu(matrix.values, 1)
    if not np.nan_to_num(lower).any() and np.nan_to_num(upper).any():
        return "upper", ("the upper triangle was mirrored",)
    return "full", ()
