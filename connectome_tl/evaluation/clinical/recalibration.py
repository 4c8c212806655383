"""Recalibrate risks and choose a threshold on the inner folds of each outer fold.

One Platt (or temperature) scaling and one threshold are fitted on held-out risks of the training rows of an outer fold
and applied to its test rows. The inner models have fewer training subjects than the outer model, so that the
recalibration is slightly conservative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.clinical.calibration import Platt, calibration_curve, fit_platt, threshold_at_specificity
from connectome_tl.evaluation.nested_cv import CrossValidation, PlannedFold, tasks_of
from connectome_tl.evaluation.scores.metrics import BASE_MODEL, scores
from connectome_tl.evaluation.scores.predictions import out_of_fold, prediction_rows
from connectome_tl.plurals import counted
from connectome_tl.settings.records.statistics import Recalibrated
from connectome_tl.settings.study import Recalibration, StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.networks.outputs import columns_of
from connectome_tl.training.schemes import ALWAYS, StudyCohorts

METRICS = ("brier", "scaled_brier", "calibration_intercept", "calibration_slope", "sensitivity", "specificity")
_KEY = ["task", "model", "repeat", "fold"]


@dataclass(frozen=True)
class FoldCalibrator:
    """Scaling and threshold of one model, fitted on the inner folds of one outer fold."""

    task: str
    model: str
    repeat: int
    fold: int
    scaling: Platt
    threshold: float


@dataclass(frozen=True, eq=False)
class RecalibratedStudy:
    """Recalibrated rows of the prediction table, and their calibrators."""

    predictions: pd.DataFrame
    calibrators: tuple[FoldCalibrator, ...]


def inner_plan(splits: SplitPlan, only: Iterable[tuple[int, int]] | None = None) -> SplitPlan:
    """The inner folds as a separate split plan with one "repeat" per outer fold.

    The outer test rows are test rows of every inner fold, so that no inner fit can use them.

    Args:
        only: (repeat, fold) of the requested outer folds; all by default.
    """
    wanted = None if only is None else set(only)
    return SplitPlan(
        tuple(
            tuple(Fold(inner.train, (*inner.test, *fold.test)) for inner in fold.inner)
            if wanted is None or (repeat, number) in wanted
            else ()
            for repeat, number, fold in splits.folds()
        )
    )


def inner_predictions(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    validation: CrossValidation,
    *,
    only: Iterable[tuple[int, int]] | None = None,
) -> pd.DataFrame:
    """Out-of-fold risks of each outer fold's training rows, by the full model, its parts and the baselines.

    For the full model these are the held-out predictions of its own fit: leave-one-family-out predictions of the
    core, and predictions of the network for its held-out parts. Baselines are fitted on the inner folds.

    Args:
        validation: the outer folds' fits.

    Returns:
        Rows as those of the prediction table; `repeat` and `fold` are those of the outer fold.
    """
    tasks = tasks_of(study, cohorts)
    wanted = None if only is None else set(only)
    tables = [
        _held_out(item, validation, cohorts, study.threshold)
        for item in validation.planned
        if item.model in ALWAYS and (wanted is None or (item.repeat, item.fold_number) in wanted)
    ]
    found = baseline_predictions(study, cohorts, inner_plan(splits, only), tasks)
    outer = [(repeat, number, set(fold.train)) for repeat, number, fold in splits.folds()]
    if len(found):
        places = zip(found["subject"], found["repeat"], strict=True)
        kept = [str(subject) in outer[place][2] for subject, place in places]
        found = found[np.array(kept, dtype=bool)]
        repeat, fold = (found["repeat"].map(dict(enumerate(column))) for column in zip(*((r, f) for r, f, _ in outer)))
        tables.append(found.assign(repeat=repeat, fold=fold))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def _held_out(item: PlannedFold, validation: CrossValidation, cohorts: StudyCohorts, threshold: float) -> pd.DataFrame:
    """Held-out predictions of one model for its training rows."""
    target, places = cohorts.target, columns_of(item.tasks)
    sides = [validation.results[plan.key].held_out for plan in item.plans]
    ids = [i for i in item.fold.train if all(i in side for side in sides)]
    if not ids:
        return pd.DataFrame()
    outputs = np.mean([[side[i] for i in ids] for side in sides], axis=0)
    truth = target.targets[[task.name for task in item.tasks]].to_numpy(float)[target.positions(ids)]
    tables = []
    for t, task in enumerate(item.tasks):
        own = outputs[:, places[task.name]]
        seen = np.isfinite(own).all(axis=1)
        some = [i for i, known in zip(ids, seen, strict=True) if known]
        tables.append(
            prediction_rows(task, item.model, item.repeat, item.fold_number, some, truth[seen, t], own[seen], threshold)
        )
    return pd.concat(tables, ignore_index=True)


def fit_calibrators(
    inner: pd.DataFrame, splits: SplitPlan, tasks: Sequence[Task], settings: Recalibration
) -> tuple[FoldCalibrator, ...]:
    """One scaling and one threshold per binary task, model and outer fold, from `inner_predictions`.

    Raises:
        LeakageError: a row of the outer test fold is among them.
    """
    found = []
    binary = [task.name for task in tasks if task.is_binary]
    known = inner[inner["task"].isin(binary) & inner["y_true"].notna() & (inner["model"] != BASE_MODEL)]
    for key, rows in known.groupby(_KEY, sort=False):
        task, model, repeat, number = _named(key)
        ids = tuple(rows["subject"].astype(str))
        splits.repeats[repeat][number].admit(f"recalibration of {model}", ids)
        risk, y = rows["y_score"].to_numpy(dtype=float), rows["y_true"].to_numpy(dtype=float)
        if min(y.sum(), (1 - y).sum()) < 1:
            continue  # neither can be fitted with a single class; the risks of this fold are not recalibrated
        found.append(
            FoldCalibrator(
                task,
                model,
                repeat,
                number,
                fit_platt(risk, y, ids, settings.method),
                threshold_at_specificity(risk, y, settings.specificity),
            )
        )
    return tuple(found)


def recalibrate(predictions: pd.DataFrame, calibrators: Sequence[FoldCalibrator], threshold: float) -> pd.DataFrame:
    """The prediction table of the calibrated models: `y_score` recalibrated, `y_pred` at the inner threshold.

    The risks of a fold without a calibrator are unchanged and classified at `threshold`.
    """
    by_key = {(c.task, c.model, c.repeat, c.fold): c for c in calibrators}
    pairs = {(c.task, c.model) for c in calibrators}
    tables = []
    for key, rows in predictions.groupby(_KEY, sort=False):
        if _named(key)[:2] not in pairs:
            continue
        risk = rows["y_score"].to_numpy(dtype=float)
        found = by_key.get(_named(key))
        cut = threshold if found is None else found.threshold
        new = risk if found is None else found.scaling.apply(risk)
        tables.append(rows.assign(y_score=new, y_pred=(risk >= cut).astype(float)))
    return pd.concat(tables, ignore_index=True) if tables else predictions.iloc[:0]


def recalibrate_study(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    predictions: pd.DataFrame,
    validation: CrossValidation,
    *,
    only: Iterable[tuple[int, int]] | None = None,
) -> RecalibratedStudy:
    """Calibrators and recalibrated predictions of a study with inner folds."""
    inner = inner_predictions(study, cohorts, splits, validation, only=only)
    calibrators = fit_calibrators(inner, splits, tasks_of(study, cohorts), study.recalibration)
    return RecalibratedStudy(recalibrate(predictions, calibrators, study.threshold), calibrators)


def recalibration_results(
    predictions: pd.DataFrame,
    fixed: RecalibratedStudy,
    tasks: Sequence[Task],
    clusters: Mapping[str, str],
    settings: Recalibration,
    n_labelled: int | None = None,
) -> tuple[Recalibrated, ...]:
    """Scores, calibration curve, scalings and thresholds of every recalibrated model.

    Args:
        predictions: table of raw predictions, for the prevalence model that scaled Brier refers to.
        n_labelled: number of labelled training subjects of few-label splits.
    """
    table, calibrators = fixed.predictions, fixed.calibrators
    if not calibrators:
        return ()
    base = predictions[predictions["model"] == BASE_MODEL]
    everything = scores(pd.concat([table, base], ignore_index=True), tasks, clusters, n_labelled=n_labelled)
    by_name = {task.name: task for task in tasks}
    records = []
    for task, model in dict.fromkeys((c.task, c.model) for c in calibrators):
        mine = [c for c in calibrators if (c.task, c.model) == (task, model)]
        records.append(
            Recalibrated(
                task=task,
                model=model,
                specificity=settings.specificity,
                scores=tuple(s for s in everything if (s.task, s.model) == (task, model) and s.metric in METRICS),
                curve=calibration_curve(out_of_fold(table, by_name[task], model, clusters), task, model),
                intercept=tuple(c.scaling.intercept for c in mine),
                slope=tuple(c.scaling.slope for c in mine),
                threshold=tuple(c.threshold for c in mine),
                method=f"{settings.method} scaling and threshold from inner out-of-fold risks of the training rows, "
                f"one of each per outer fold ({counted(len(mine), 'fold')})",
            )
        )
    return tuple(records)


def _named(key: Any) -> tuple[str, str, int, int]:
    task, model, repeat, fold = key
    return str(task), str(model), int(repeat), int(fold)
