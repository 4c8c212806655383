"""One array with all matrices, and a table that says whose is whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectome_tl.atlas import order_of
from connectome_tl.cohort.files import Search
from connectome_tl.cohort.matrices import Matrices, kept_regions, room_for, seen_as_read
from connectome_tl.cohort.tables import read_table, whole_ids
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.connectome.formats.matlab import conn_stack
from connectome_tl.connectome.formats.stacks import StackedArray, open_arrays, released
from connectome_tl.connectome.labels import doubled
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
    search: Search,
    *,
    id_columns: Sequence[str],
) -> Matrices:
    """Read a stacked `.npz` or `.npy`, or CONN's `.mat` of all subjects; every subject's faults go to `findings`.

    The array is (n_subjects, n_regions, n_regions) or (n_subjects, n_edges), with an axis of measures
    after the subjects where there are several. An `.npz` may also hold `ids`, `regions`, `node_mask`
    (n_subjects, n_regions) and `region_features` (n_subjects, n_regions, n_features). Matrices are read some
    subjects at a time, so that neither the file nor the cohort need fit into memory.

    Raises:
        MissingInputError, DataError: the files themselves.
    """
    path, findings = search.folder / str(spec.stack), search.findings
    arrays, large = _conn(path) if path.suffix == ".mat" else open_arrays(path)
    values, several = _values(large, spec, path)
    owners = _owners(arrays, spec, search.folder, values.shape[0], id_columns, path)
    layout = _layout(arrays, values, spec, known, path)
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
        if start == 0 and layout.unnamed:
            mean = np.asarray(block[:, 0] if several else block, dtype=float).mean(axis=0)
            check_row_order(mean if mean.ndim == 1 else mean[upper_indices(len(mean))], known, path)
        start += len(block)
        use, at = np.flatnonzero(at >= 0), at[at >= 0]
        square = layout.lined_up((block if several else block[:, None])[use])
        for name, seen in seen_as_read(square).items() if values.ndim > 2 + several else ():
            as_read.setdefault(name, np.zeros(len(wanted)))[at] = seen
        if spec.zero_rows == "missing":
            node_mask[at] &= (square != 0).any(axis=(1, 3))
        faults += _faults(square, node_mask[at], [wanted[i] for i in at], layout.regions, path)
        weights[at] = square[:, :, kept[:, None], kept]
        released(weights)
    findings.problems += faults[:_SHOWN]
    if len(faults) > _SHOWN:
        findings.problems.append(Problem(f"{len(faults) - _SHOWN} more matrices are not usable", file=path))
    features = arrays.get("region_features")
    on_regions: np.ndarray | None = None
    if features is not None and features.ndim == 3 and features.shape[:2] == (len(owners), layout.n_file_rows):
        on_regions = np.full((len(wanted), len(layout.regions), features.shape[2]), np.nan)
        on_regions[:, layout.positions] = features[taken][:, layout.rows]
        on_regions = on_regions[:, kept]
    names = tuple(layout.regions[i] for i in kept)
    sources = {Path(str(spec.stack)).name: file_hash(path)}
    return Matrices(wanted, names, weights, np.ascontiguousarray(node_mask[:, kept]), sources, on_regions, as_read)


def _conn(path: Path) -> tuple[dict[str, np.ndarray], dict[str, StackedArray]]:
    """`resultsROI_Condition001.mat` of CONN: Fisher's z of all subjects, and the region names."""
    z, names = conn_stack(path)
    return {"regions": np.array(names, dtype=np.str_)}, {"Z": z}


@dataclass(frozen=True, eq=False)
class _Layout:
    """Regions of the cohort, where in them each kept row of the file goes, which rows are kept, and of how many.

    `unnamed`: the file did not name its rows, so that their order is worth a look.
    """

    regions: tuple[str, ...]
    positions: np.ndarray
    rows: np.ndarray
    n_file_rows: int
    unnamed: bool

    def lined_up(self, block: np.ndarray) -> np.ndarray:
        """(n, n_measures, n_edges) or (n, n_measures, n_rows, n_rows) as float32 over the cohort's regions."""
        shape = (*block.shape[:2], len(self.regions), len(self.regions))
        out = np.zeros(shape, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite and is listed
            if block.ndim == 3:
                first, second = upper_indices(len(self.positions))
                out[:, :, self.positions[first], self.positions[second]] = block
                out[:, :, self.positions[second], self.positions[first]] = block
            else:
                at, rows = self.positions, self.rows
                out[:, :, at[:, None], at[None, :]] = block[:, :, rows[:, None], rows[None, :]]
        return out


def _values(large: dict[str, StackedArray], spec: ConnectomeFiles, path: Path) -> tuple[StackedArray, bool]:
    """The array of matrices, and whether it has an axis of measures after that of subjects."""
    numeric = {name: array for name, array in large.items() if name not in ("node_mask", "region_features")}
    if spec.key is None and len(numeric) != 1:
        raise DataError(
            "the stack does not say which array holds the matrices",
            file=path,
            expected=f"key: one of {', '.join(numeric) or '(no numeric array in it)'}",
        )
    key = spec.key or next(iter(numeric))
    if key not in numeric or numeric[key].dtype.kind not in "fiu" or numeric[key].ndim < 2:
        raise DataError(f"no numeric array is called {key!r}", file=path, expected=f"one of {', '.join(numeric)}")
    values = numeric[key]
    n_measures = len(spec.measures)
    wanted = 2 if spec.layout == "upper" else 3
    fits = spec.layout == "upper" or values.shape[-1] == values.shape[-2]
    if fits and values.ndim == wanted and n_measures == 1:
        return values, False
    if fits and values.ndim == wanted + 1 and values.shape[1] == n_measures:
        return values, True
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


def _layout(
    arrays: dict[str, np.ndarray], values: StackedArray, spec: ConnectomeFiles, known: RowNames, path: Path
) -> _Layout:
    named = arrays.get("regions")
    own = tuple(str(name) for name in named) if named is not None and named.dtype.kind in "US" else None
    if values.shape[0] == 0:
        raise DataError("the stack holds no subject", file=path)
    n_values, upper = values.shape[-1], spec.layout == "upper"
    one = np.zeros((1, n_values)) if upper else np.zeros((1, n_values, n_values))
    first = MatrixFile(one, names=own if spec.labels is None else None)
    if upper and first.n_rows * (first.n_rows - 1) // 2 != n_values:
        raise DataError("not an upper triangle", file=path, expected="n (n - 1) / 2 values", got=str(n_values))
    names, rows = row_names(first, known, file=path)
    if len(rows) != first.n_rows and upper:
        raise DataError("an upper triangle with a background row cannot be read; use layout: full", file=path)
    target = known.names or names
    return _Layout(target, order_of(names, target, where=known.where), rows, first.n_rows, own is None)


def _mask(arrays: dict[str, np.ndarray], key: str, taken: np.ndarray, rows: np.ndarray, path: Path) -> np.ndarray:
    mask = arrays.get(key)
    if mask is None:
        return np.ones((len(taken), len(rows)), dtype=bool)
    if mask.dtype != bool or mask.ndim != 2 or len(mask) <= taken.max(initial=0) or mask.shape[1] <= rows.max():
        raise DataError(f"{key} does not fit the stack", file=path, got=f"{mask.dtype} {mask.shape}")
    return mask[taken][:, rows]


def _faults(
    weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str], regions: Sequence[str], path: Path
) -> list[Problem]:
    """NaN and asymmetry, subject by subject; masked rows are set to zero and rounding asymmetry is evened out."""
    if not node_mask.all():
        weights[np.broadcast_to(~(node_mask[:, None, :, None] & node_mask[:, None, None, :]), weights.shape)] = 0.0
    found = []
    for subject, matrix in zip(ids, weights, strict=True):
        wrong = np.argwhere(~np.isfinite(matrix))
        turned = matrix.swapaxes(1, 2)
        if len(wrong):
            found.append(
                Problem(
                    f"{len(wrong)} entries are NaN or infinite",
                    got=f"first at {regions[wrong[0][1]]} - {regions[wrong[0][2]]}",
                    subject=subject,
                    file=path,
                    remedy="A region without data is left out or masked, not filled with NaN.",
                )
            )
        elif not np.array_equal(matrix, turned):
            error = np.abs(matrix - turned)
            if error.max() > _SYMMETRY * max(float(np.abs(matrix).max()), 1e-30):
                _, a, b = np.unravel_index(int(error.argmax()), error.shape)
                found.append(
                    Problem(
                        "the matrix is not symmetric",
                        got=f"a difference of {error.max():.3g} between {regions[int(a)]} and {regions[int(b)]}",
                        subject=subject,
                        file=path,
                        remedy="An upper triangle is read with layout: upper; directed connectomes are not supported.",
                    )
                )
            matrix[:] = (matrix + turned) / 2
    return found
