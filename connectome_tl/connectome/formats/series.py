"""Read region time series (frames by regions) as functional connectomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from connectome_tl.connectome.formats.arrays import load_array
from connectome_tl.connectome.formats.cells import is_number, numbers, whole_numbers
from connectome_tl.connectome.formats.text import COMMENT, split_cells
from connectome_tl.connectome.functional import Kind, functional_connectome
from connectome_tl.connectome.matrix_file import MatrixFile
from connectome_tl.connectome.names.spelling import default_positions
from connectome_tl.errors import DataError, UsageError
from connectome_tl.files import read_text
from connectome_tl.plurals import counted

_KINDS: dict[str, Kind] = {
    "correlation": "correlation",
    "partial": "partial correlation",
    "covariance": "covariance",
}
_MAX_BYTES = 200_000_000
_FEWEST = 5  # frames at equal distances; with fewer, a signal may rise so
_TRANSPOSED = "Each column is a region: transpose the table if its rows are the regions; else remove this column."


def read_series(path: Path, choice: str = "correlation") -> MatrixFile:
    """One subject's functional connectome from a table of time series, one column per region.

    A header has region names (XCP-D, giga_connectome) or numbers (`#2001` in ABIDE's `.1D` files: numbers of the AAL
    toolbox; 0 to n - 1 are positions). A column that is constant or entirely `n/a` is a missing region.

    Args:
        choice: correlation, partial (correlation) or covariance, each with Ledoit-Wolf shrinkage.

    A first column that rises by equal steps holds the frames' numbers or times and is left out.

    Raises:
        UsageError: unknown `choice`. DataError: damaged, too short, or with single missing values.
    """
    if choice not in _KINDS:
        raise UsageError(f"no functional connectome is called {choice!r}", expected=", ".join(_KINDS))
    header, values, said = ([], load_array(path), ()) if path.suffix == ".npy" else _table(path)
    if values.ndim != 2 or not values.size:
        raise DataError("not a table of time series", file=path, expected="frames by regions", got=str(values.shape))
    places = [str(i) for i in range(values.shape[1])]
    found = functional_connectome(values, places, kind=_KINDS[choice], file=str(path))
    matrix = found.weights.copy()
    matrix[:, ~found.node_mask] = np.nan
    matrix[:, :, ~found.node_mask] = np.nan
    notes = (f"functional connectomes ({_KINDS[choice]}) were made of time series by nilearn", *said)
    read = MatrixFile(matrix, found.measures, nan_is_missing=True, notes=notes, n_frames=len(values))
    numbered = whole_numbers([name.removeprefix("#") for name in header]) if header else None
    if numbered == tuple(range(1, len(header) + 1)):
        return replace(read, order="label")  # positions: numbers from 1 follow the order of the labels
    if numbered is not None:
        return replace(read, labels=numbered)
    positions = default_positions(header) if header else None
    return replace(read, labels=positions) if positions else replace(read, names=tuple(header) or None)


def _table(path: Path) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Header, if there is one, numbers (n_frames, n_regions), and notes."""
    lines = [line for line in read_text(path, limit=_MAX_BYTES).split("\n") if line.strip()]
    if not lines:
        raise DataError("the file is empty", file=path)
    comments = [line.lstrip("# ") for line in lines if COMMENT.match(line)]
    lines = [line for line in lines if not COMMENT.match(line)]
    if not lines:
        raise DataError("a header without frames", file=path)
    rows = split_cells(lines, path)
    said = [split_cells([line], path)[0] for line in comments if line]
    header = next((cells for cells in reversed(said) if len(cells) == len(rows[-1])), [])
    body = rows
    if not header and (not all(is_number(cell) for cell in rows[0]) or _counts(rows[0], rows[1:])):
        header, body = rows[0], rows[1:]
    if not body:
        raise DataError("a header without frames", file=path)
    if header and len(header) + 1 == len(body[0]):
        header = ["", *header]  # R leaves the first cell out
    if header and len(body[0]) != len(header):
        raise DataError(f"line 2 has {counted(len(body[0]), 'value')}", file=path, expected=str(len(header)))
    if len(body) > 1 and not any(is_number(row[0]) for row in body):
        raise DataError("the first column holds names", file=path, got=body[0][0][:40], remedy=_TRANSPOSED)
    values = numbers(body, path, first_line=1 + len(rows) - len(body) + len(comments))
    times = values[:, 0]
    if len(times) >= _FEWEST and times[1] > times[0] and np.allclose(np.diff(times), times[1] - times[0], rtol=1e-3):
        left_out = f"the first column was left out, as times or numbers of the frames: {times[0]:g} to {times[-1]:g}"
        return header[1:], values[:, 1:], (left_out,)
    return header, values, ()


def _counts(cells: list[str], body: list[list[str]]) -> bool:
    """Whether a first row of integers is a header (column or region numbers) and not a frame."""
    found = whole_numbers(cells[cells[:1] == [""] :])
    if found is None or len(found) < 3:
        return False
    return list(found) == sorted(found) or any("." in cell for row in body[:3] for cell in row)
