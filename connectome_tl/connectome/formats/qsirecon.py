"""Read `*_connectivity.mat` of QSIRecon and QSIPrep: several atlases, several measures, SIFT2's mu."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.connectome.formats.matlab import names_of, read_mat, square_of, variable_names, whole_or_none
from connectome_tl.connectome.matrix_file import MatrixFile
from connectome_tl.errors import DataError
from connectome_tl.files import matching, read_text
from connectome_tl.plurals import counted

_LABELS = re.compile(r"^(?P<prefix>(?:atlas_)?(?P<atlas>.+?))_region_labels$")


def is_qsirecon(path: Path) -> bool:
    """Whether a file has the variables or the name of a QSIRecon file."""
    names = variable_names(path)
    if any(_LABELS.match(name) for name in names):
        return True
    return path.name.endswith("_connectivity.mat") and not {"sc", "fc", "nodes"} & names  # Connectome Mapper's too


def atlases_in(path: Path) -> tuple[str, ...]:
    """Atlases of a QSIRecon file."""
    return tuple(sorted(match.group("atlas") for name in read_mat(path) if (match := _LABELS.match(name))))


def read_qsirecon(path: Path, choice: str = "") -> MatrixFile:
    """`*_connectivity.mat` of QSIRecon and QSIPrep: one atlas, all its measures.

    Keys are `atlas_NAME_MEASURE_connectivity` (QSIRecon 1.0 and later) or `NAME_MEASURE_connectivity`.
    Measures that sum SIFT2 weights are multiplied by the `*_model-sift2_mu.txt` in the same folder, with a note;
    without it such sums are not comparable across subjects (doi:10.1016/j.neuroimage.2015.06.092).

    Args:
        choice: the atlas; required where the file has several.

    Raises:
        DataError: damaged; several atlases and no choice; labels and matrix of different size.
    """
    variables = read_mat(path)
    atlases = {m.group("atlas"): m.group("prefix") for name in variables if (m := _LABELS.match(name))}
    if not atlases:
        raise DataError("no region labels in the file", file=path, expected="keys like atlas_NAME_region_labels")
    if not choice and len(atlases) > 1:
        offered = ", ".join(sorted(atlases))
        raise DataError(
            "several atlases, and none was chosen", file=path, expected=f"format: qsirecon:NAME, one of {offered}"
        )
    atlas = choice or next(iter(atlases))
    if atlas not in atlases:
        raise DataError(f"atlas {atlas!r} is not in the file", file=path, expected=", ".join(sorted(atlases)))
    prefix = atlases[atlas]
    names = names_of(variables[f"{prefix}_region_labels"], path)
    ending = "_connectivity"
    keys = [key for key in variables if key.startswith(f"{prefix}_") and key.endswith(ending)]
    longer = [p for p in atlases.values() if p != prefix and p.startswith(f"{prefix}_")]
    keys = [key for key in keys if not any(key.startswith(f"{other}_") for other in longer)]
    if not keys:
        raise DataError(f"no connectivity of atlas {atlas!r} in the file", file=path)
    measures = tuple(key[len(prefix) + 1 : -len(ending)] for key in keys)
    ids = variables.get(f"{prefix}_region_ids")
    by_label = "tck2connectome" in str(variables.get("command", ""))
    values = np.stack([_rows_of(square_of(variables[key], path, key), ids, names, by_label, path) for key in keys])
    notes = []
    scaled = [i for i, measure in enumerate(measures) if "sift" in measure.lower()]
    mu = _mu_beside(path) if scaled else None
    if mu is not None:
        values[scaled] *= mu
        notes.append(f"{path.name}: SIFT2 measures were multiplied by mu = {mu:g}")
    elif scaled:
        notes.append("SIFT2 measures without a _mu.txt in their folder: sums are not comparable between subjects")
    return MatrixFile(values, measures, names=names, labels=whole_or_none(ids), notes=tuple(notes))


def _rows_of(matrix: np.ndarray, ids: Any, names: tuple[str, ...], by_label: bool, path: Path) -> np.ndarray:
    """Positions of the rows that belong to the names, in the order of the names.

    `tck2connectome` writes row k for label k up to the largest label of the image. The names follow the table of the
    atlas, which may have gaps or another order (DSI Studio's matrices already follow this table).

    Raises:
        DataError: label numbers, names and matrix whose sizes cannot be reconciled.
    """
    labels = None if ids is None else np.asarray(ids).ravel()
    if not by_label or labels is None or labels.dtype.kind not in "iu" or not labels.size:
        return matrix
    if labels.size != len(names) or labels.min() < 1:
        raise DataError(
            "region ids and region labels differ", file=path, expected=str(len(names)), got=str(labels.size)
        )
    if np.array_equal(labels, np.arange(1, len(matrix) + 1)):
        return matrix
    if labels.max() != len(matrix):
        raise DataError(
            "the matrix does not have one row for each label number",
            file=path,
            expected=f"{counted(labels.max(), 'row')}, the largest label of the atlas",
            got=str(len(matrix)),
            remedy="tck2connectome drops the last labels where the image lacks them; export the matrix again.",
        )
    return matrix[np.ix_(labels - 1, labels - 1)]


def _mu_beside(path: Path) -> float | None:
    stem = path.name.removesuffix("_connectivity.mat")
    found = [f for f in matching(path.parent, "*_model-sift2_mu.txt") if f.name.startswith(stem.split("_space-")[0])]
    if not found:
        return None
    if len(found) > 1:
        raise DataError("several _mu.txt files in its folder", file=path, got=", ".join(f.name for f in found))
    text = read_text(found[0], limit=10_000).split()
    try:
        mu = float(text[0])
    except (IndexError, ValueError) as error:
        raise DataError("holds no number", file=found[0]) from error
    if not np.isfinite(mu) or mu <= 0:
        raise DataError("mu is a number above 0", file=found[0], got=text[0])
    return mu
