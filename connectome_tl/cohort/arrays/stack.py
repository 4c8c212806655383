"""Read a stack: one array of all matrices, and a table that assigns its rows to subjects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.arrays.files import Search
from connectome_tl.cohort.arrays.matrices import Matrices, kept_regions, room_for, seen_as_read
from connectome_tl.cohort.arrays.stack_rows import row_owners, stack_layout, stacked_values
from connectome_tl.connectome.connectome import symmetry_remedy
from connectome_tl.connectome.formats.matlab import HDF5
from connectome_tl.connectome.formats.matlab_stacks import open_mat_stack
from connectome_tl.connectome.formats.narrow import refuse_narrow
from connectome_tl.connectome.formats.stacks import StackedArray, open_arrays, released
from connectome_tl.connectome.names.naming import RowNames, cleared_diagonal, refuse_codes, refuse_half
from connectome_tl.connectome.names.row_order import check_row_order
from connectome_tl.errors import DataError, Problem
from connectome_tl.plurals import counted
from connectome_tl.provenance import file_hash
from connectome_tl.settings.cohort import ConnectomeFiles

_SYMMETRY = 1e-6
_SHOWN = 20


def read_stack(
    spec: ConnectomeFiles,
    known: RowNames,
    search: Search,
    *,
    id_columns: Sequence[str],
) -> Matrices:
    """Read a stacked `.npz`, `.npy`, `.h5` or `.mat` (CONN's, or plain); problems of subjects are added to `findings`.

    The array is (n_subjects, n_regions, n_regions) or (n_subjects, n_edges), with an axis of measures
    after the subjects where there are several. An `.npz` may also hold `ids`, `regions`, `node_mask`
    (n_subjects, n_regions) and `region_features` (n_subjects, n_regions, n_features). Matrices are read in groups of
    subjects, so that neither the file nor the cohort need to fit into memory.

    Raises:
        MissingInputError, DataError: the files themselves.
    """
    path, findings = search.folder / str(spec.stack), search.findings
    arrays, large = open_stack(path)
    values, several = stacked_values(large, spec, path)
    owners = row_owners(arrays, spec, search.folder, values.shape[0], id_columns, path, findings.notes)
    layout = stack_layout(arrays, values, spec, known, path)
    findings.notes += layout.notes
    found = search.owners(owners, what="a matrix", file=path)
    row_of = {owner: i for i, owner in enumerate(owners)}
    wanted = tuple(subject for subject in search.ids if subject in found)
    taken = np.array([row_of[found[subject]] for subject in wanted], dtype=int)
    node_mask = np.zeros((len(wanted), len(layout.regions)), dtype=bool)
    node_mask[:, layout.positions] = _mask(arrays, "node_mask", taken, layout.rows, path)
    kept = kept_regions(spec.regions, layout.regions, known.atlas)
    weights = room_for((len(wanted), len(spec.measures), len(kept), len(kept)))
    place = np.full(len(owners), -1)
    place[taken] = np.arange(len(wanted))
    faults: list[Problem] = []
    as_read: dict[str, np.ndarray] = {}
    start = 0
    for block in values.blocks():
        at = place[start : start + len(block)]
        if start == 0 and (layout.unnamed or layout.otherwise or spec.layout != "full"):
            first = np.asarray(block[:, 0] if several else block, dtype=float)
            note = check_row_order(
                np.nan_to_num(first, posinf=0.0, neginf=0.0).mean(axis=0),
                layout.names,
                known,
                path,
                layout=spec.layout,
                assumed_order=layout.unnamed,
                otherwise=layout.otherwise,
            )
            findings.notes += [note] if note else []
        start += len(block)
        use, at = np.flatnonzero(at >= 0), at[at >= 0]
        refuse_narrow(block[use], path)
        square = layout.lined_up((block if several else block[:, None])[use])
        findings.notes += [note for note in cleared_diagonal(square) if note not in findings.notes]
        for name, seen in seen_as_read(square).items() if values.ndim > 2 + several else ():
            as_read.setdefault(name, np.zeros(len(wanted)))[at] = seen
        node_mask[at] &= present_rows(square, zero_is_missing=spec.zero_rows == "missing")
        faults += _faults(square, node_mask[at], [wanted[i] for i in at], layout.regions, path)
        weights[at] = square[:, :, kept[:, None], kept]
        released(weights)
    findings.problems += faults[:_SHOWN]
    if len(faults) > _SHOWN:
        findings.problems.append(
            Problem(f"{counted(len(faults) - _SHOWN, 'more matrix is', 'more matrices are')} not usable", file=path)
        )
    features = arrays.get("region_features")
    on_regions: np.ndarray | None = None
    if features is not None and features.ndim == 3 and features.shape[:2] == (len(owners), layout.n_file_rows):
        on_regions = np.full((len(wanted), len(layout.regions), features.shape[2]), np.nan)
        on_regions[:, layout.positions] = features[taken][:, layout.rows]
        on_regions = on_regions[:, kept]
    names = tuple(layout.regions[i] for i in kept)
    sources = {Path(str(spec.stack)).name: file_hash(path)}
    return Matrices(wanted, names, weights, np.ascontiguousarray(node_mask[:, kept]), sources, on_regions, as_read)


def present_rows(square: np.ndarray, *, zero_is_missing: bool) -> np.ndarray:
    """Presence of regions, (n_subjects, n_regions) bool: False if a row is NaN, or all 0 if `zero_is_missing`."""
    n_regions = square.shape[-1]
    if n_regions < 2:
        return np.ones(square.shape[::3], dtype=bool)
    diagonal = np.arange(n_regions)
    absent = np.isnan(square) if not zero_is_missing else np.isnan(square) | (square == 0)
    absent[:, :, diagonal, diagonal] = True
    return ~absent.all(axis=(1, 3))


def open_stack(path: Path) -> tuple[dict[str, np.ndarray], dict[str, StackedArray]]:
    """Names and masks in a stack, and its arrays with subjects on the first axis.

    Raises:
        MissingInputError: no such file. DataError: damaged, or without arrays.
    """
    return open_mat_stack(path) if path.suffix.lower() in (".mat", *HDF5) else open_arrays(path)


def _mask(arrays: dict[str, np.ndarray], key: str, taken: np.ndarray, rows: np.ndarray, path: Path) -> np.ndarray:
    mask = arrays.get(key)
    if mask is None:
        return np.ones((len(taken), len(rows)), dtype=bool)
    if mask.dtype != bool or mask.ndim != 2 or len(mask) <= taken.max(initial=0) or mask.shape[1] <= rows.max():
        raise DataError(f"{key} does not match the stack", file=path, got=f"{mask.dtype} {mask.shape}")
    return mask[taken][:, rows]


def _faults(
    weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str], regions: Sequence[str], path: Path
) -> list[Problem]:
    """Codes, NaN and asymmetry of subjects; masked rows are set to zero and asymmetry due to rounding is removed."""
    if not node_mask.all():
        weights[np.broadcast_to(~(node_mask[:, None, :, None] & node_mask[:, None, None, :]), weights.shape)] = 0.0
    found: list[Problem] = []
    for subject, matrix, there in zip(ids, weights, node_mask, strict=True):
        try:
            names = [name for name, is_there in zip(regions, there, strict=True) if is_there]
            refuse_half(matrix, subject, path)
            refuse_codes(matrix[:, there][:, :, there], names, subject, path)
        except DataError as refused:
            found += refused.problems
            continue
        wrong = np.argwhere(~np.isfinite(matrix))
        turned = matrix.swapaxes(1, 2)
        if len(wrong):
            found.append(
                Problem(
                    f"{counted(len(wrong), 'entry is', 'entries are')} NaN or infinite",
                    got=f"first at {regions[wrong[0][1]]} - {regions[wrong[0][2]]}",
                    subject=subject,
                    file=path,
                    remedy="A region without data is left out or masked, not filled with NaN.",
                )
            )
        elif not np.array_equal(matrix, turned):
            error = np.abs(matrix - turned)
            relative = float(error.max()) / max(float(np.abs(matrix).max()), 1e-30)
            if relative > _SYMMETRY:
                _, a, b = np.unravel_index(int(error.argmax()), error.shape)
                found.append(
                    Problem(
                        "the matrix is not symmetric",
                        got=f"a difference of {error.max():.3g} between {regions[int(a)]} and {regions[int(b)]}",
                        subject=subject,
                        file=path,
                        remedy=symmetry_remedy(relative),
                    )
                )
            matrix[:] = (matrix + turned) / 2
    return found
