"""Every matrix file a lab holds, in: one table of formats, one small importer each.

An importer says what the file says and no more: values, and the names or label numbers of its rows
if it has any. Naming, lining up and checks are the same for all (`naming.connectome_from`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from connectome_tl.connectome.array_matrices import read_npy
from connectome_tl.connectome.naming import MatrixFile
from connectome_tl.connectome.text_matrices import read_text_matrix
from connectome_tl.errors import DataError, UsageError


@dataclass(frozen=True)
class Format:
    """One kind of file: how it is called, what it ends in, who reads it."""

    name: str
    title: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], MatrixFile]


FORMATS: tuple[Format, ...] = (
    Format("text", "CSV, TSV or blanks, with or without names", (".csv", ".tsv", ".txt", ".dat"), read_text_matrix),
    Format("npy", "NumPy array", (".npy",), read_npy),
)


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: there is none, with the nearest.
    """
    for known in FORMATS:
        if known.name == name:
            return known
    names = [known.name for known in FORMATS]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    raise UsageError(
        f"no matrix format is called {name!r}",
        expected=f"auto or one of {', '.join(names)}",
        remedy=f"Did you mean {near[0]}?" if near else None,
    )


def recognised(path: Path) -> Format:
    """The format of a file, by its ending.

    Raises:
        DataError: none is known.
    """
    name = path.name.lower()
    for known in FORMATS:
        if name.endswith(known.suffixes):
            return known
    endings = sorted({suffix for known in FORMATS for suffix in known.suffixes})
    raise DataError("no matrix format ends like this", file=path, expected=", ".join(endings))


def read_matrix(path: str | Path, *, format: str = "auto") -> MatrixFile:
    """What one matrix file says.

    Raises:
        MissingInputError: no such file. DataError: damaged, or not of that format.
        UsageError: no such format.
    """
    file = Path(path)
    known = recognised(file) if format == "auto" else format_named(format)
    return known.read(file)
