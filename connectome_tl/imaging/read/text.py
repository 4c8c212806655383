"""Read rows of numbers from small text files: b-values, b-vectors, gradient tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.files import read_bytes

_MAX_BYTES = 10_000_000


def read_number_rows(path: str | Path, *, subject: str | None = None, joined: bool = False) -> np.ndarray:
    """Blank- or comma-separated numbers, (n_rows, n_columns); lines with `#` are comments.

    Args:
        joined: rows of unequal length are parts of one row.

    Raises:
        MissingInputError: no such file. DataError: text, or rows of unequal length.
    """
    file = Path(path)
    try:
        text = read_bytes(file, limit=_MAX_BYTES, subject=subject).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            "not a text file", subject=subject, file=file, remedy="Save it as plain text (UTF-8)."
        ) from error
    rows = [line.replace(",", " ").split() for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    if joined and len({len(row) for row in rows}) > 1:
        rows = [[word for row in rows for word in row]]
    if len({len(row) for row in rows}) > 1:
        raise DataError(
            "rows of numbers differ in length",
            got=", ".join(str(len(row)) for row in rows[:6]),
            subject=subject,
            file=file,
            remedy="The file is probably cut off.",
        )
    try:
        return np.array(rows, dtype=float)
    except ValueError as error:
        raise DataError(
            f"not a table of numbers: {error}",
            subject=subject,
            file=file,
            remedy="Numbers are separated by blanks, tabs or commas, and have decimal points.",
        ) from error
