"""The table of out-of-fold predictions: build its rows, and read them as arrays per model and task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError, DivergedError, InternalError
from connectome_tl.evaluation.intervals.out_of_fold import (
    ESTIMANDS,
    UNKNOWN_INSTABILITY,
    instability,
    ranking_instability,
)
from connectome_tl.plurals import counted
from connectome_tl.settings.metrics import Estimand, metric_named
from connectome_tl.settings.records.results import Score
from connectome_tl.tasks import Task

Interval = tuple[float, float, float]  # a value, and the two ends of its interval
COLUMNS = ("subject", "task", "model", "repeat", "fold", "y_true", "y_score", "y_pred")


def prediction_rows(
    task: Task,
    model: str,
    repeat: int,
    fold: int,
    ids: Sequence[str],
    y_true: np.ndarray,
    outputs: np.ndarray,
    threshold: float,
) -> pd.DataFrame:
    """Rows of the prediction table of one task, model and fold.

    Args:
        ids: (n_subjects,) ids of the test fold.
        y_true: (n_subjects,) 0 or 1, a value, or the number of the level; NaN where it is missing.
        outputs: (n_subjects,) or (n_subjects, n_columns): probability of the positive class; value; or a
            probability per level.
        threshold: probability at which a binary risk becomes the positive class.

    Returns:
        Columns `COLUMNS`, and `p_0`, `p_1`, ... for ordinal and multiclass tasks.

    Raises:
        DivergedError: outputs that are not finite. InternalError: of another shape, or no probabilities.
    """
    values = np.asarray(outputs, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    shape = (len(ids), task.n_columns)
    if values.shape != shape:
        raise InternalError(f"task {task.name}: outputs of model {model}", expected=str(shape), got=str(values.shape))
    total = values.sum(axis=1) if task.spec.by_level else np.ones(len(values))
    probabilities = task.spec.by_level or task.is_binary
    if not np.isfinite(values).all():
        raise DivergedError(
            f"task {task.name}: a prediction of model {model} is not finite",
            subject=str(ids[int((~np.isfinite(values)).any(axis=1).argmax())]),
            remedy="Look for extreme values in this subject's data; for a network, lower its learning rate.",
        )
    if probabilities and ((values < -1e-9).any() or (values > 1 + 1e-9).any()):
        raise InternalError(f"task {task.name}: model {model} gave a prediction that is not a probability")
    if not np.allclose(total, 1.0, atol=1e-4):
        raise InternalError(
            f"task {task.name}: probabilities of model {model} must sum to 1",
            got=f"{total[np.abs(total - 1).argmax()]:g}",
        )
    rows = pd.DataFrame(
        {
            "subject": list(ids),
            "task": task.name,
            "model": model,
            "repeat": repeat,
            "fold": fold,
            "y_true": y_true,
            "y_score": score_of(task, values),
            "y_pred": called(task, values, threshold),
        },
        columns=list(COLUMNS),
    )
    return rows.assign(**{f"p_{k}": values[:, k] for k in range(task.n_columns)}) if task.spec.by_level else rows


def score_of(task: Task, outputs: np.ndarray) -> np.ndarray:
    """(n_subjects,) `y_score`: the risk, the value, the expected level, or the probability of the likeliest class.

    Args:
        outputs: (n_subjects, n_columns).
    """
    if not task.spec.by_level:
        return outputs[:, 0]
    if task.form == "levels":
        return outputs @ np.arange(outputs.shape[1])
    return outputs.max(axis=1)


def called(task: Task, outputs: np.ndarray, threshold: float) -> np.ndarray:
    """(n_subjects,) `y_pred`: the class at the threshold, the value, the median level, or the likeliest class."""
    if task.is_binary:
        return (outputs[:, 0] >= threshold).astype(float)
    if not task.spec.by_level:
        return outputs[:, 0]
    if task.form == "levels":
        return (np.cumsum(outputs, axis=1) >= 0.5 - 1e-9).argmax(axis=1).astype(float)
    return outputs.argmax(axis=1).astype(float)


def columns_of(table: pd.DataFrame, task: Task) -> np.ndarray:
    """Predictions of each row, (n_rows, n_columns): `y_score`, or the probabilities of the levels.

    Raises:
        DataError: a column of probabilities is missing.
    """
    names = [f"p_{k}" for k in range(task.n_columns)] if task.spec.by_level else ["y_score"]
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(f"predictions of {task.kind} task {task.name} lack columns", expected=", ".join(names))
    return table[names].to_numpy(dtype=float)


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Out-of-fold predictions of one model for one task, without subjects that lack the outcome.

    Attributes:
        subjects: (n_subjects,) ids, sorted.
        y_true: (n_subjects,).
        score, predicted: (n_repeats, n_subjects) probability or value; class or value.
        fold: (n_repeats, n_subjects) number of the test fold; -1 where a repeat does not test a subject
            (few-label splits keep the labelled ones for training), and the predictions are NaN there.
        cluster: (n_subjects,) integer code of the family; a separate code where no family is known.
        probability: (n_repeats, n_subjects, n_levels) of ordinal and multiclass tasks; None for others.
        n_labelled: number of training subjects in each repeat of a few-label split; None for other splits.
    """

    subjects: np.ndarray
    y_true: np.ndarray
    score: np.ndarray
    predicted: np.ndarray
    fold: np.ndarray
    cluster: np.ndarray
    probability: np.ndarray | None = None
    n_labelled: int | None = None

    @property
    def n_learning(self) -> float | None:
        """Number of training subjects over all repeats: draws of few labels add up, folds of all subjects do not."""
        return None if self.n_labelled is None else self.n_labelled * float(np.sqrt(self.n_repeats))

    @cached_property
    def instability(self) -> float:
        """Dependence of the predictions on the training subjects, from 0 to 1; unknown in few-label splits."""
        return instability(self.outputs, self.fold) if self.instability_known else UNKNOWN_INSTABILITY

    @property
    def instability_known(self) -> bool:
        """Whether repeats with the same training subjects show it."""
        return self.n_labelled is None and self.n_repeats > 1

    @cached_property
    def ranking_instability(self) -> float:
        """The same of the ranking within test folds."""
        return UNKNOWN_INSTABILITY if self.n_labelled is not None else ranking_instability(self.outputs, self.fold)

    @property
    def outputs(self) -> np.ndarray:
        """Probabilities of each level where there are any, else `score`."""
        return self.score if self.probability is None else self.probability

    @property
    def n_repeats(self) -> int:
        """Number of repeats."""
        return len(self.score)

    def with_scores(self, score: np.ndarray) -> OutOfFold:
        """The same subjects, folds and outcomes with other scores (n_repeats, n_subjects)."""
        return replace(self, score=score, predicted=score)

    def at(self, inside: np.ndarray) -> OutOfFold:
        """Some of the subjects, (n_subjects,) bool."""
        return OutOfFold(
            self.subjects[inside],
            self.y_true[inside],
            self.score[:, inside],
            self.predicted[:, inside],
            self.fold[:, inside],
            np.unique(self.cluster[inside], return_inverse=True)[1].ravel(),
            None if self.probability is None else self.probability[:, inside],
            self.n_labelled,
        )

    def scores(self, found: Mapping[str, Interval], task: Task, model: str, estimand: Estimand) -> list[Score]:
        """Result records of metrics, each given as its value and the two ends of its interval."""
        counts = [int((self.y_true == level).sum()) for level in range(task.n_levels)]
        return [
            Score(
                task=task.name,
                model=model,
                metric=metric,
                value=value,
                low=low,
                high=high,
                n=self.y_true.size,
                n_positive=counts[1] if task.is_binary else None,
                per_level=tuple(counts) if task.spec.by_level else (),
                method=self.method(metric, estimand),
            )
            for metric, (value, low, high) in found.items()
        ]

    def method(self, metric: str, estimand: Estimand) -> str:
        """Description of the method of a metric's interval."""
        record = metric_named(metric)
        repeats = f"{self.n_repeats} repeat{'s' if self.n_repeats > 1 else ''}"
        return (
            f"out of fold, {repeats}; {record.interval or 'interval by the extension'}; "
            f"{record.widened(estimand, self.y_true.size)}95 % for {ESTIMANDS[estimand]}"
        )


def out_of_fold(
    predictions: pd.DataFrame,
    task: Task,
    model: str,
    clusters: Mapping[str, str] | None = None,
    n_labelled: int | None = None,
) -> OutOfFold:
    """Select one model and task from the table.

    Args:
        predictions: one row per subject, task, model and repeat (columns `COLUMNS`, and `p_0` ... where the
            task has more than two levels).
        clusters: family of each subject; unknown or "" means alone.
        n_labelled: subjects drawn to train on, where the splits are few-label ones.

    Raises:
        DataError: a column is missing, there are no rows, a repeat predicts a subject twice, a
            prediction is not finite, or a subject's outcome differs between rows.
    """
    missing = [column for column in COLUMNS if column not in predictions.columns]
    if missing:
        raise DataError("not a table of predictions", expected=", ".join(COLUMNS), got=f"no {', '.join(missing)}")
    rows = predictions[(predictions["task"] == task.name) & (predictions["model"] == model)]
    rows = rows[rows["y_true"].notna()]
    what = f"predictions of model {model} for task {task.name}"
    if rows.empty:
        raise DataError(f"no {what} with a known outcome")
    subjects, subject = np.unique(rows["subject"].to_numpy(dtype=str), return_inverse=True)
    repeats, repeat = np.unique(rows["repeat"].to_numpy(), return_inverse=True)
    outputs = columns_of(rows, task)
    numbers = {column: rows[column].to_numpy(dtype=float) for column in ("y_true", "y_score", "y_pred", "fold")}
    _check_rows(what, task, subjects, subject, repeat, numbers, outputs)
    shape = len(repeats), len(subjects)
    tables = {column: np.full(shape, np.nan) for column in numbers}
    for column, values in numbers.items():
        tables[column][repeat, subject] = values
    probability = None
    if task.spec.by_level:
        probability = np.full((*shape, task.n_levels), np.nan)
        probability[repeat, subject] = outputs
    return OutOfFold(
        subjects,
        np.nanmax(tables["y_true"], axis=0),
        tables["y_score"],
        tables["y_pred"],
        np.nan_to_num(tables["fold"], nan=-1).astype(int),
        cluster_codes(subjects, clusters),
        probability,
        n_labelled,
    )


def _check_rows(
    what: str,
    task: Task,
    subjects: np.ndarray,
    subject: np.ndarray,
    repeat: np.ndarray,
    numbers: Mapping[str, np.ndarray],
    outputs: np.ndarray,
) -> None:
    """Each subject once per repeat, with finite predictions and one outcome that is a level."""
    place = repeat * len(subjects) + subject
    counts = np.bincount(place)
    if counts.max() > 1:
        twice = int(counts.argmax())
        raise DataError(
            f"{what}: predicted twice in a repeat",
            got=counted(counts[twice], "row"),
            subject=str(subjects[twice % len(subjects)]),
        )
    finite = np.isfinite(outputs).all(axis=1)
    for column in ("y_score", "y_pred", "fold"):
        finite &= np.isfinite(numbers[column])
    if not finite.all():
        raise DataError(f"{what}: a prediction is not finite", subject=str(subjects[subject[int(finite.argmin())]]))
    y = numbers["y_true"]
    last = np.empty(len(subjects))
    last[subject] = y
    if (last[subject] != y).any():
        raise DataError(f"{what}: the outcome of a subject differs between repeats")
    if task.n_levels and not np.isin(y, np.arange(task.n_levels)).all():
        raise DataError(f"{what}: an outcome is not a level", expected=f"0 to {task.n_levels - 1}")


def cluster_codes(subjects: np.ndarray, clusters: Mapping[str, str] | None) -> np.ndarray:
    """(n_subjects,) integers; subjects of one family share one."""
    families = clusters or {}
    # The prefix prevents collisions between names of families and ids of subjects without a family.
    keys = [f"family {family}" if (family := families.get(s, "")) else f"alone {s}" for s in subjects]
    return np.unique(keys, return_inverse=True)[1].ravel()


def tasks_and_models(predictions: pd.DataFrame, tasks: Sequence[Task]) -> list[tuple[Task, str]]:
    """Pairs present in the table, tasks in the given order, models in the table's order."""
    found: list[tuple[Task, str]] = []
    for task in tasks:
        rows = predictions[(predictions["task"] == task.name) & predictions["y_true"].notna()]
        found += [(task, str(model)) for model in rows["model"].drop_duplicates()]
    return found
