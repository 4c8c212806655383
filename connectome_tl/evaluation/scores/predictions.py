"""The table of out-of-fold predictions, read into arrays: one model and task at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError
from connectome_tl.settings.results import Score
from connectome_tl.tasks import Task

COLUMNS = ("subject", "task", "model", "repeat", "fold", "y_true", "y_score", "y_pred")


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Out-of-fold predictions of one model for one task; subjects without an outcome are left out.

    Attributes:
        subjects: (n_subjects,) ids, sorted.
        y_true: (n_subjects,).
        score, predicted: (n_repeats, n_subjects) probability or value; class or value.
        fold: (n_repeats, n_subjects) number of the test fold; -1 where a repeat does not test a subject
            (few-label splits keep the labelled ones for training), and the predictions are NaN there.
        cluster: (n_subjects,) integer code of the family; alone in it where no family is known.
    """

    subjects: np.ndarray
    y_true: np.ndarray
    score: np.ndarray
    predicted: np.ndarray
    fold: np.ndarray
    cluster: np.ndarray

    @property
    def n_repeats(self) -> int:
        return len(self.score)

    def with_scores(self, score: np.ndarray) -> OutOfFold:
        """The same subjects, folds and outcomes with other scores (n_repeats, n_subjects)."""
        return replace(self, score=score, predicted=score)

    def scores(
        self, found: Mapping[str, tuple[float, float, float, str]], task: str, model: str, *, binary: bool
    ) -> list[Score]:
        """Result records of metrics, each given as its value, the two ends of its interval and its method."""
        n_positive = int(self.y_true.sum()) if binary else None
        return [
            Score(
                task=task,
                model=model,
                metric=metric,
                value=value,
                low=low,
                high=high,
                n=self.y_true.size,
                n_positive=n_positive,
                method=method,
            )
            for metric, (value, low, high, method) in found.items()
        ]


def out_of_fold(
    predictions: pd.DataFrame, task: str, model: str, clusters: Mapping[str, str] | None = None
) -> OutOfFold:
    """Take one model and task out of the table.

    Args:
        predictions: one row per subject, task, model and repeat (columns `COLUMNS`).
        clusters: family of each subject; unknown or "" means alone.

    Raises:
        DataError: a column is missing, there are no rows, a repeat predicts a subject twice, a
            prediction is not finite, or a subject's outcome differs between rows.
    """
    missing = [column for column in COLUMNS if column not in predictions.columns]
    if missing:
        raise DataError("not a table of predictions", expected=", ".join(COLUMNS), got=f"no {', '.join(missing)}")
    rows = predictions[(predictions["task"] == task) & (predictions["model"] == model)]
    rows = rows[rows["y_true"].notna()]
    what = f"predictions of model {model} for task {task}"
    if rows.empty:
        raise DataError(f"no {what} with a known outcome")
    if rows.duplicated(["subject", "repeat"]).any():
        first = rows[rows.duplicated(["subject", "repeat"])].iloc[0]
        raise DataError(f"{what}: predicted twice in repeat {first['repeat']}", subject=str(first["subject"]))
    finite = np.isfinite(rows[["y_score", "y_pred", "fold"]].to_numpy(dtype=float)).all(axis=1)
    if not finite.all():
        raise DataError(f"{what}: a prediction is not finite", subject=str(rows["subject"].iloc[int(finite.argmin())]))
    if (rows.groupby("subject")["y_true"].nunique() > 1).any():
        raise DataError(f"{what}: the outcome of a subject differs between repeats")
    tables = {
        column: rows.pivot(index="repeat", columns="subject", values=column)
        for column in ("y_true", "y_score", "y_pred", "fold")
    }
    arrays = {column: table.to_numpy(dtype=float) for column, table in tables.items()}
    subjects = tables["fold"].columns.to_numpy().astype(str)
    return OutOfFold(
        subjects,
        np.nanmax(arrays["y_true"], axis=0),
        arrays["y_score"],
        arrays["y_pred"],
        np.nan_to_num(arrays["fold"], nan=-1).astype(int),
        cluster_codes(subjects, clusters),
    )


def cluster_codes(subjects: np.ndarray, clusters: Mapping[str, str] | None) -> np.ndarray:
    """(n_subjects,) integers; subjects of one family share one."""
    families = clusters or {}
    # A prefix keeps a family's name from meeting the id of a subject who has none.
    keys = [f"family {family}" if (family := families.get(s, "")) else f"alone {s}" for s in subjects]
    return np.unique(keys, return_inverse=True)[1].ravel()


def tasks_and_models(predictions: pd.DataFrame, tasks: tuple[Task, ...] | list[Task]) -> list[tuple[Task, str]]:
    """Pairs present in the table, tasks in the given order, models in the table's order."""
    found: list[tuple[Task, str]] = []
    for task in tasks:
        rows = predictions[(predictions["task"] == task.name) & predictions["y_true"].notna()]
        found += [(task, str(model)) for model in rows["model"].drop_duplicates()]
    return found
