"""Read tables of Stata (.dta) and SPSS (.sav) as rows of text, with value labels instead of codes."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.tables.frames import cells_of
from connectome_tl.cohort.tables.spss import read_spss
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.files import is_there, kind_of
from connectome_tl.plurals import counted

_MAX_BYTES = 100_000_000
_MAX_CELLS = 6_000_000
_AS_TEXT = "Export it as a .csv file (UTF-8)."


def is_statistics(path: str | Path) -> bool:
    """Return whether a file is one of Stata or SPSS, whatever its name."""
    named = Path(path).suffix.lower() == ".por"  # of portable files, which have no signature
    return not named and is_there(path) and kind_of(path) in ("a Stata file", "an SPSS file")


def statistics_rows(path: str | Path, notes: list[str] | None = None) -> list[list[str]]:
    """Read the header and the cells as text. Missing values of the program, also declared ones, are empty cells.

    Args:
        notes: takes a line with the columns whose codes were replaced by their labels.

    Raises:
        UsageError: pyreadstat is not installed, for SPSS. DataError: damaged, too large, or with equal labels of
            several values in Stata.
    """
    try:
        if Path(path).stat().st_size > _MAX_BYTES:
            raise DataError("too large for a table", file=path, expected=f"at most {_MAX_BYTES} bytes", remedy=_AS_TEXT)
        rows, labelled = _of_stata(path) if kind_of(path) == "a Stata file" else _of_spss(path)
    except ConnectomeTLError:
        raise
    except Exception as error:  # the readers raise many types for a damaged file
        said = "damaged" if isinstance(error, (LookupError, ArithmeticError)) else " ".join(str(error).split())[:200]
        what = f"this {kind_of(path).split(' ', 1)[1]} cannot be read: {said or type(error).__name__}"
        raise DataError(what, file=path, remedy=_AS_TEXT) from error
    if labelled and notes is not None:
        notes.append(f"{Path(path).name}: codes were replaced by their labels: {', '.join(labelled)}")
    return rows


def _of_stata(path: str | Path) -> tuple[list[list[str]], list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns of columns of which some values have no label
        with pd.read_stata(path, iterator=True, order_categoricals=False) as reader:
            n_columns = len(reader.variable_labels())
            table = reader.read(_MAX_CELLS // max(n_columns, 1) + 1)  # type: ignore[attr-defined] # of pandas-stubs
    _check_size(path, len(table), n_columns)
    labelled = [name for name in table if isinstance(table[name].dtype, pd.CategoricalDtype)]
    return [[str(name) for name in table], *cells_of(table)], labelled


def _of_spss(path: str | Path) -> tuple[list[list[str]], list[str]]:
    try:
        found = read_spss(Path(path), _MAX_CELLS)
    except ModuleNotFoundError as error:
        raise UsageError(
            "an SPSS file is read with pyreadstat, which is not installed",
            file=path,
            remedy=f'pip install "connectome-tl[spss]" (or pyreadstat). Or: {_AS_TEXT}',
        ) from error
    _check_size(path, *found["size"])
    return [found["names"], *found["rows"]], found["labelled"]


def _check_size(path: str | Path, n_rows: int, n_columns: int) -> None:
    if n_rows * n_columns > _MAX_CELLS:
        raise DataError(
            "too many cells for a table",
            file=path,
            expected=f"at most {_MAX_CELLS}",
            got=f"{counted(n_rows, 'row')}, {counted(n_columns, 'column')}",
            remedy="Keep the columns that the cohort file names.",
        )
