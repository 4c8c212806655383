"""Risks made true, and a threshold chosen, on the inner folds of each outer fold; its test rows only receive them.

Of each outer training fold the models are fitted anew without one inner part after the other; the
out-of-fold risks of these training rows teach one Platt (or temperature) scaling and one threshold,
which the outer fold's own model then takes. The inner models have fewer infants than the outer one, so
what they teach is a little too cautious.
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
from connectome_tl.evaluation.nested_cv import cross_validate, tasks_of
from connectome_tl.evaluation.scores.metrics import BASE_MODEL, scores
from connectome_tl.evaluation.scores.predictions import out_of_fold
from connectome_tl.settings.statistics import Recalibrated
from connectome_tl.settings.study import Recalibration, StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress
from connectome_tl.training.stages import StudyCohorts

METRICS = ("brier", "scaled_brier", "calibration_intercept", "calibration_slope", "sensitivity", "specificity")
_KEY = ["task", "model", "repeat", "fold"]


@dataclass(frozen=True)
class FoldCalibrator:
    """What the inner folds of one outer fold taught about one model's risks."""

    task: str
    model: str
    repeat: int
    fold: int
    scaling: Platt
    threshold: float


@dataclass(frozen=True, eq=False)
class RecalibratedStudy:
    """Rows as those of the prediction table, recalibrated, and what made them."""

    predictions: pd.DataFrame
    calibrators: tuple[FoldCalibrator, ...]


def inner_plan(splits: SplitPlan, only: Iterable[tuple[int, int]] | None = None) -> SplitPlan:
    """The inner folds as a plan of their own: one "repeat" per outer fold.

    The outer test rows stand on the test side of every inner fold, so that no inner fit may see them.

    Args:
        only: (repeat, fold) of the outer folds wanted; all by default.
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
    *,
    only: Iterable[tuple[int, int]] | None = None,
    store: FitStore | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Out-of-fold risks of each outer fold's training rows, by the full model and the baselines.

    Returns:
        Rows as those of the prediction table; `repeat` and `fold` are those of the outer fold.
    """
    plan = inner_plan(splits, only)
    full = study.model_copy(update={"controls": ()})
    tables = [cross_validate(full, cohorts, plan, store=store, progress=progress).predictions]
    tables.append(baseline_predictions(study, cohorts.target, plan, tasks_of(study, cohorts)))
    found = pd.concat(tables, ignore_index=True)
    outer = [(repeat, number, set(fold.train)) for repeat, number, fold in splits.folds()]
    kept = [str(subject) in outer[place][2] for subject, place in zip(found["subject"], found["repeat"], strict=True)]
    found = found[np.array(kept, dtype=bool)]
    repeat, fold = (found["repeat"].map(dict(enumerate(column))) for column in zip(*((r, f) for r, f, _ in outer)))
    return found.assign(repeat=repeat, fold=fold).reset_index(drop=True)


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
            continue  # one class alone teaches neither: this fold's risks stay as they are
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

    A fold without a calibrator keeps its risks and is cut at `threshold`.
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
    *,
    only: Iterable[tuple[int, int]] | None = None,
    store: FitStore | None = None,
    progress: Progress | None = None,
) -> RecalibratedStudy:
    """Inner fits, calibrators and recalibrated predictions of a study with inner folds."""
    inner = inner_predictions(study, cohorts, splits, only=only, store=store, progress=progress)
    calibrators = fit_calibrators(inner, splits, tasks_of(study, cohorts), study.recalibration)
    return RecalibratedStudy(recalibrate(predictions, calibrators, study.threshold), calibrators)


def recalibration_results(
    predictions: pd.DataFrame,
    mended: RecalibratedStudy,
    tasks: Sequence[Task],
    clusters: Mapping[str, str],
    settings: Recalibration,
) -> tuple[Recalibrated, ...]:
    """Scores and curve of every recalibrated model, and what its folds were given.

    Args:
        predictions: the raw table, for the prevalence that the scaled Brier is measured against.
    """
    table, calibrators = mended.predictions, mended.calibrators
    if not calibrators:
        return ()
    base = predictions[predictions["model"] == BASE_MODEL]
    everything = scores(pd.concat([table, base], ignore_index=True), tasks, clusters)
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
                f"one of each per outer fold ({len(mine)} folds)",
            )
        )
    return tuple(records)


def _named(key: Any) -> tuple[str, str, int, int]:
    task, model, repeat, fold = key
    return str(task), str(model), int(repeat), int(fold)
