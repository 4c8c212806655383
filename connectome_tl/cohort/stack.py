"""One array with all matrices, and a table that says whose is whose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.atlas import order_of
from connectome_tl.cohort.files import matched
from connectome_tl.cohort.matrices import Matrices, kept_regions
from connectome_tl.cohort.tables import Findings, read_table, whole_ids
from connectome_tl.connectome.array_matrices import load_arrays
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.connectome.labels import doubled
from connectome_tl.connectome.matlab_matrices import conn_arrays
from connectome_tl.connectome.naming import MatrixFile, RowNames, row_names
from connectome_tl.connectome.row_order import check_row_order
from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.provenance import file_hash
from connectome_tl.settings.cohort import ConnectomeFiles

_ID_COLUMNS = ("participant_id", "subject", "sub", "subject_id", "id")
_SYMMETRY = 1e-6
_SHOWN = 20


def read_stack(
    spec: ConnectomeFiles,
    known: RowNames,
    ids: Sequence[str],
    everyone: Sequence[str],
    folder: Path,
    findings: Findings,
    *,
    id_columns: Sequence[str],
) -> Matrices:
    """Read a stacked `.npz` or `.npy`, or CONN's `.mat` of all subjects; every subject's faults go to `findings`.

    The array is (n_subjects, n_regions, n_regions) or (n_subjects, n_edges), with an axis of measures
    after the subjects where there are several. An `.npz` may also hold `ids`, `regions`, `node_mask`
    (n_subjects, n_regions) and `region_features` (n_subjects, n_regions, n_features).

    Raises:
        MissingInputError, DataError: the files themselves.
    """
    path = folder / str(spec.stack)
    arrays = _conn(path) if path.suffix == ".mat" else load_arrays(path)
    values = _values(arrays, spec, path)
    owners = _owners(arrays, spec, folder, len(values), id_columns, path)
    regions, positions, rows = _regions(arrays, values, spec, known, path)
    found = matched(ids, everyone, owners, findings, what="a matrix", file=path, unmatched=spec.unmatched)
    row_of = {owner: i for i, owner in enumerate(owners)}
    wanted = tuple(subject for subject in ids if subject in found)
    taken = np.array([row_of[found[subject]] for subject in wanted], dtype=int)
    values = values[taken]
    n_regions = len(regions)
    weights = np.zeros((len(wanted), values.shape[1], n_regions, n_regions), dtype=np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is listed below
        if values.ndim == 3:
            first, second = upper_indices(len(positions))
            weights[:, :, positions[first], positions[second]] = values
            weights[:, :, positions[second], positions[first]] = values
        else:
            weights[:, :, positions[:, None], positions[None, :]] = values[:, :, rows[:, None], rows[None, :]]
    node_mask = np.zeros((len(wanted), n_regions), dtype=bool)
    node_mask[:, positions] = _mask(arrays, "node_mask", taken, rows, path)
    if spec.zero_rows == "missing":
        node_mask &= (weights != 0).any(axis=(1, 3))
    _check(weights, node_mask, wanted, regions, path, findings)
    features = arrays.get("region_features")
    lined_up: np.ndarray | None = None
    if features is not None and features.ndim == 3 and features.shape[:2] == (len(owners), _n_rows(values)):
        lined_up = np.full((len(wanted), n_regions, features.shape[2]), np.nan)
        lined_up[:, positions] = features[taken][:, rows]
    kept = kept_regions(spec.regions, regions, known.atlas)
    if not np.array_equal(kept, np.arange(n_regions)):
        weights, node_mask = weights[:, :, kept[:, None], kept], node_mask[:, kept]
        lined_up = None if lined_up is None else lined_up[:, kept]
    names = tuple(regions[i] for i in kept)
    return Matrices(wanted, names, weights, node_mask, {Path(str(spec.stack)).name: file_hash(path)}, lined_up)


def _conn(path: Path) -> dict[str, np.ndarray]:
    """`resultsROI_Condition001.mat` of CONN: Fisher's z of all subjects, and the region names."""
    z, names = conn_arrays(path)
    return {"Z": z, "regions": np.array(names, dtype=np.str_)}


def _n_rows(values: np.ndarray) -> int:
    return MatrixFile(values[0]).n_rows if len(values) else 0


def _values(arrays: dict[str, np.ndarray], spec: ConnectomeFiles, path: Path) -> np.ndarray:
    """(n_subjects, n_measures, n_edges) or (n_subjects, n_measures, n, n), as read."""
    numeric = {
        name: array
        for name, array in arrays.items()
        if array.dtype.kind in "fiu" and array.ndim >= 2 and name not in ("node_mask", "region_features")
    }
    if spec.key is None and len(numeric) != 1:
        raise DataError(
            "the stack does not say which array holds the matrices",
            file=path,
            expected=f"key: one of {', '.join(numeric) or '(no numeric array in it)'}",
        )
    key = spec.key or next(iter(numeric))
    if key not in numeric:
        raise DataError(f"no numeric array is called {key!r}", file=path, expected=f"one of {', '.join(numeric)}")
    values = numeric[key]
    n_measures = len(spec.measures)
    wanted = 2 if spec.layout == "upper" else 3
    square = values.shape[-1] == values.shape[-2]
    if values.ndim == wanted and n_measures == 1 and (spec.layout == "upper" or square):
        return values[:, None]
    if values.ndim == wanted + 1 and values.shape[1] == n_measures and (spec.layout == "upper" or square):
        return values
    shape = "(n_subjects, n_edges)" if spec.layout == "upper" else "(n_subjects, n_regions, n_regions)"
    raise DataError(
        "the stack has the wrong shape",
        file=path,
        expected=f"{shape}{f', with {n_measures} measures after the subjects' if n_measures > 1 else ''}",
        got=str(values.shape),
        remedy="Check layout (full or upper) and measure.",
    )


def _owners(
    arrays: dict[str, np.ndarray],
    spec: ConnectomeFiles,
    folder: Path,
    n_rows: int,
    id_columns: Sequence[str],
    path: Path,
) -> tuple[str, ...]:
    if spec.rows is None and "ids" in arrays and arrays["ids"].dtype.kind in "US":
        owners = tuple(str(value) for value in arrays["ids"])
        where: Path = path
    elif spec.rows is None:
        raise DataError(
            "nothing says whose row of the stack is whose",
            file=path,
            remedy="Give rows: a table with the ids in the order of the stack (it may be the participants table).",
        )
    else:
        where = folder / spec.rows
        table = read_table(where)
        columns = list(id_columns) if set(id_columns) <= set(table.columns) else []
        columns = columns or [name for name in _ID_COLUMNS if name in table.columns][:1]
        if not columns:
            raise DataError("the row table has no id column", file=where, expected=", ".join(id_columns))
        owners = tuple(whole_ids(table, columns))
    problems = [
        Problem("stands twice among the rows of the stack", subject=owner, file=where) for owner in doubled(owners)
    ]
    if len(owners) != n_rows:
        problems.append(
            Problem("the stack and its row table differ", expected=f"{len(owners)} rows", got=str(n_rows), file=path)
        )
    raise_all("the rows of the stack cannot be assigned", problems)
    return owners


def _regions(
    arrays: dict[str, np.ndarray], values: np.ndarray, spec: ConnectomeFiles, known: RowNames, path: Path
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Regions of the cohort, where in them each kept row goes, and which rows are kept."""
    named = arrays.get("regions")
    own = tuple(str(name) for name in named) if named is not None and named.dtype.kind in "US" else None
    if len(values) == 0:
        raise DataError("the stack holds no subject", file=path)
    first = MatrixFile(values[0], names=own if spec.labels is None else None)
    if values.ndim == 3 and first.n_rows * (first.n_rows - 1) // 2 != values.shape[-1]:
        raise DataError("not an upper triangle", file=path, expected="n (n - 1) / 2 values", got=str(values.shape[-1]))
    names, rows = row_names(first, known, file=path)
    if len(rows) != first.n_rows and values.ndim == 3:
        raise DataError("an upper triangle with a background row cannot be read; use layout: full", file=path)
    if own is None:
        mean = np.asarray(values[:200, 0], dtype=float).mean(axis=0)
        check_row_order(mean if mean.ndim == 1 else mean[upper_indices(len(mean))], known, path)
    target = known.names or names
    return target, order_of(names, target, where=known.where), rows


def _mask(arrays: dict[str, np.ndarray], key: str, taken: np.ndarray, rows: np.ndarray, path: Path) -> np.ndarray:
    mask = arrays.get(key)
    if mask is None:
        return np.ones((len(taken), len(rows)), dtype=bool)
    if mask.dtype != bool or mask.ndim != 2 or len(mask) <= taken.max(initial=0) or mask.shape[1] <= rows.max():
        raise DataError(f"{key} does not fit the stack", file=path, got=f"{mask.dtype} {mask.shape}")
    return mask[taken][:, rows]


def _check(
    weights: np.ndarray,
    node_mask: np.ndarray,
    ids: Sequence[str],
    regions: Sequence[str],
    path: Path,
    findings: Findings,
) -> None:
    """NaN and asymmetry, subject by subject but in one sweep; masked rows are set to zero."""
    if not node_mask.all():
        weights[np.broadcast_to(~(node_mask[:, None, :, None] & node_mask[:, None, None, :]), weights.shape)] = 0.0
    bad = np.flatnonzero(~np.isfinite(weights).all(axis=(1, 2, 3))).tolist()
    found = []
    for i in bad:
        wrong = np.argwhere(~np.isfinite(weights[i]))
        found.append(
            Problem(
                f"{len(wrong)} entries are NaN or infinite",
                got=f"first at {regions[wrong[0][1]]} - {regions[wrong[0][2]]}",
                subject=ids[i],
                file=path,
                remedy="A region without data is left out or masked, not filled with NaN.",
            )
        )
    for i in sorted(set(range(len(weights))) - set(bad)):
        matrix = weights[i]
        turned = matrix.swapaxes(1, 2)
        if np.array_equal(matrix, turned):
            continue
        error = np.abs(matrix - turned)
        if error.max() > _SYMMETRY * max(float(np.abs(matrix).max()), 1e-30):
            _, a, b = np.unravel_index(int(error.argmax()), error.shape)
            found.append(
                Problem(
                    "the matrix is not symmetric",
                    got=f"a difference of {error.max():.3g} between {regions[int(a)]} and {regions[int(b)]}",
                    subject=ids[i],
                    file=path,
                    remedy="An upper triangle is read with layout: upper; directed connectomes are not supported.",
                )
            )
        else:
            weights[i] = (matrix + turned) / 2
    findings.problems += found[:_SHOWN]
    if len(found) > _SHOWN:
        findings.problems.append(Problem(f"{len(found) - _SHOWN} more matrices are not usable", file=path))
