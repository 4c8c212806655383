"""Read the files of a finished run, without torch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.plurals import counted
from connectome_tl.provenance import MISSING
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.wording import first_fault

_NUMBERS = ("repeat", "fold", "y_true", "y_score", "y_pred")


def read_record(folder: Path) -> RunRecord:
    """`results.json` of a finished run; raises as `study_run.read_run` does."""
    file = folder / "results.json"
    try:
        return RunRecord.model_validate_json(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingInputError(
            "not a finished run", file=file, remedy="Run `connectome-tl run` first; it resumes where it stopped."
        ) from error
    except (ValidationError, UnicodeDecodeError, RecursionError) as error:
        what = first_fault(error) if isinstance(error, ValidationError) else type(error).__name__
        raise DataError(
            f"not the results of a run: {what}",
            file=file,
            remedy="If another version of connectome-tl made the run, repeat `connectome-tl run` with a new --out.",
        ) from error


def read_predictions(path: Path) -> pd.DataFrame:
    """The prediction table of a run.

    Raises:
        DataError: it cannot be read as one.
    """
    try:
        text = {"subject": str, "task": str, "model": str}
        table = pd.read_csv(path, sep="\t", na_values=[MISSING], keep_default_na=False, dtype=text)
        numbers = table.astype(dict.fromkeys(_NUMBERS, float))
        _check_present(numbers, path)
        return numbers.astype({"repeat": int, "fold": int})
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingInputError("not a finished run", file=path) from error
    except (ValueError, KeyError) as error:
        raise DataError(f"not a table of predictions: {error}", file=path) from error


def _check_present(table: pd.DataFrame, path: Path) -> None:
    """Check that only true outcomes and probabilities of other tasks' levels are missing.

    Raises:
        DataError: another cell is missing or infinite; the message names the first one.
        KeyError: a column is missing.
    """
    for column in ("subject", "task", "model", *_NUMBERS):
        values = table[column]
        missing = values.isna() & (column != "y_true")
        wrong = np.flatnonzero(missing | values.isin([np.inf, -np.inf]))
        if wrong.size:
            raise DataError(
                f"column {column} holds a value that is missing or infinite ({counted(wrong.size, 'row')})",
                subject=str(table["subject"].iloc[wrong[0]]),
                file=path,
                line=int(wrong[0]) + 2,
                remedy="The table was changed after the run. Run the study again.",
            )


def as_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Records as a table, one row each."""
    return pd.DataFrame([record.model_dump() for record in records])


def table_text(table: pd.DataFrame) -> pd.DataFrame:
    """The cells of a table as its file has them."""
    buffer = io.StringIO(table.to_csv(sep="\t", index=False, na_rep=MISSING, lineterminator="\n"))
    return pd.read_csv(buffer, sep="\t", dtype=str, keep_default_na=False)


def table_cells(path: Path) -> pd.DataFrame:
    """The cells of a table on disk; nothing where the file is not a table any more, which differs from every table."""
    try:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except ValueError:
        return pd.DataFrame()
