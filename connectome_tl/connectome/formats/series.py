"""Region time series as files: a table of frames by regions, to a functional connectome through nilearn."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from connectome_tl.connectome.formats.arrays import load_array
from connectome_tl.connectome.functional import Kind, functional_connectome
from connectome_tl.connectome.naming import MatrixFile
from connectome_tl.errors import DataError, UsageError
from connectome_tl.files import read_text

_KINDS: dict[str, Kind] = {
    "correlation": "correlation",
    "partial": "partial correlation",
    "covariance": "covariance",
}
_MISSING = frozenset({"n/a", "na", "nan", ""})
_MAX_BYTES = 1_000_000_000


def read_series(path: Path, choice: str = "correlation") -> MatrixFile:
    """One subject's functional connectome from a table of time series, one column per region.

    A header names the regions (XCP-D, giga_connectome) or numbers them (`#2001`, as in ABIDE's `.1D` files;
    numbers from 0 are positions and say nothing). A column that is constant or `n/a` throughout is a missing region.

    Args:
        choice: correlation, partial (correlation) or covariance; each with Ledoit and Wolf's shrinkage.

    Raises:
        UsageError: no such kind. DataError: damaged, too short, or single values missing.
    """
    if choice not in _KINDS:
        raise UsageError(f"no functional connectome is called {choice!r}", expected=", ".join(_KINDS))
    header, values = ([], load_array(path)) if path.suffix == ".npy" else _table(path)
    if values.ndim != 2 or not values.size:
        raise DataError("not a table of time series", file=path, expected="frames by regions", got=str(values.shape))
    places = [str(i) for i in range(values.shape[1])]
    found = functional_connectome(values, places, kind=_KINDS[choice], file=str(path))
    matrix = found.weights.copy()
    matrix[:, ~found.node_mask] = np.nan
    matrix[:, :, ~found.node_mask] = np.nan
    notes = (f"functional connectomes ({_KINDS[choice]}) were made of time series by nilearn",)
    numbers = [re.fullmatch(r"#?(\d+)", name) for name in header]
    if not header or not all(numbers):
        names = tuple(header) or None
        return MatrixFile(matrix, found.measures, names=names, nan_is_missing=True, notes=notes)
    labels = tuple(int(number.group(1)) for number in numbers if number is not None)
    if labels in (tuple(range(len(labels))), tuple(range(1, len(labels) + 1))) or labels[0] > 2_000:
        # Positions, or the AAL toolbox's numbers (2001 to 9170): both stand in the order of the labels.
        if list(labels) != sorted(set(labels)):
            raise DataError("the numbers of the columns do not rise", file=path)
        return MatrixFile(matrix, found.measures, order="label", nan_is_missing=True, notes=notes)
    return MatrixFile(matrix, found.measures, labels=labels, nan_is_missing=True, notes=notes)


def _table(path: Path) -> tuple[list[str], np.ndarray]:
    """Header, if there is one, and numbers (n_frames, n_regions)."""
    lines = [line for line in read_text(path, limit=_MAX_BYTES).split("\n") if line.strip()]
    if not lines:
        raise DataError("the file is empty", file=path)
    mark = "\t" if "\t" in lines[-1] else "," if "," in lines[-1] else None
    rows = [[cell.strip().strip('"') for cell in line.split(mark)] for line in lines]
    counted = [[str(i) for i in range(start, start + len(rows[0]))] for start in (0, 1)]  # pandas writes 0, 1, 2 ...
    named = lines[0].startswith("#") or rows[0] in counted or not all(_is_number(cell) for cell in rows[0])
    header, body = (rows[0], rows[1:]) if named else ([], rows)
    width = len(header) or len(body[0])
    for i, row in enumerate(body, 1 + bool(header)):
        if len(row) != width:
            raise DataError(
                f"line {i} has {len(row)} values", file=path, expected=str(width), remedy="It may be cut off."
            )
    try:
        values = [[float("nan") if cell.casefold() in _MISSING else float(cell) for cell in row] for row in body]
    except ValueError as error:
        raise DataError(f"text where a number belongs: {error}", file=path) from error
    return header, np.array(values, dtype=float).reshape(len(body), width)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.casefold() in _MISSING
    return True
