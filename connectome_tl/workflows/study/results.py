"""The files of a finished run, read back; torch is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.provenance import MISSING
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.results import RunRecord


def read_record(folder: Path) -> RunRecord:
    """`results.json` of a finished run; raises as `study_run.read_run` does."""
    file = folder / "results.json"
    try:
        return RunRecord.model_validate_json(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise MissingInputError(
            "no finished run here", file=file, remedy="Run `connectome-tl run` first; it resumes where it stopped."
        ) from error
    except (ValidationError, UnicodeDecodeError, RecursionError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else type(error).__name__
        raise DataError(f"not the results of a run: {what}", file=file) from error


def read_predictions(path: Path) -> pd.DataFrame:
    """The prediction table of a run.

    Raises:
        DataError: it cannot be read as one.
    """
    try:
        table = pd.read_csv(path, sep="\t", na_values=[MISSING], keep_default_na=False, dtype={"subject": str})
        return table.astype({"repeat": int, "fold": int, "y_true": float, "y_score": float, "y_pred": float})
    except FileNotFoundError as error:
        raise MissingInputError("no finished run here", file=path) from error
    except (ValueError, KeyError) as error:
        raise DataError(f"not a table of predictions: {error}", file=path) from error


def as_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Records as a table, one row each."""
    return pd.DataFrame([record.model_dump() for record in records])
