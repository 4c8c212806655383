"""Predictions for single subjects, with intervals and conformal sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from connectome_tl.bundle.bundle import Bundle
from connectome_tl.bundle.limits import said_of_each
from connectome_tl.bundle.members import mean_of
from connectome_tl.bundle.permission import STAMP, withheld
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.evaluation.clinical.calibration import Platt, logit
from connectome_tl.evaluation.scores.predictions import called, score_of
from connectome_tl.settings.records.bundles import RESEARCH_ONLY, BundledTask
from connectome_tl.tasks import Task
from connectome_tl.training.networks.outputs import columns_of

_ENOUGH_FITS = 20  # with fewer fits, the range is used instead of quantiles
COLUMNS = {
    "subject": "id of the subject",
    "task": "outcome",
    "value": "risk of the positive class, predicted value, expected level, or probability of the likeliest class",
    "low": "lower end of the interval, see `interval`",
    "high": "upper end of the interval, see `interval`",
    "interval": "method of the interval, which shows how much the prediction depends on the training subjects",
    "recalibrated": "risk recalibrated by the out-of-fold risks of the study; n/a for other outcomes",
    "conformal": "classes that cannot be excluded, or interval that contains the value, at the level of the bundle",
    "limits": "values of the subject outside the limits of the model; empty if there are none",
    "status": "predicted, or withheld and why",
    "use": "permitted use",
}


def individual_rows(bundle: Bundle, cohort: Cohort, *, research: bool = False) -> pd.DataFrame:
    """One row per subject and outcome, and `p_0` ... for outcomes of several levels.

    Args:
        cohort: cohort aligned to the bundle (`limits.fitted_to`).
        research: include values that would be withheld; every row is marked.
    """
    each = bundle.members.predict_each(cohort, cohort.ids)
    limits = said_of_each(bundle.facts, cohort)
    places = columns_of(bundle.members.tasks)
    tables = [
        _rows(bundle, one, each[:, :, places[one.task.name]], cohort.ids, limits, research=research)
        for one in bundle.facts.tasks
    ]
    return pd.concat(tables, ignore_index=True)


def _rows(
    bundle: Bundle, one: BundledTask, each: np.ndarray, ids: Sequence[str], limits: Sequence[str], *, research: bool
) -> pd.DataFrame:
    """Rows of one outcome; `each` is (n_fits, n_subjects, n_columns)."""
    task, mean = one.task, mean_of(each)
    why = withheld(one, bundle.validation)
    low, high, interval = _interval(one, each, mean)
    table = pd.DataFrame(
        {
            "subject": list(ids),
            "task": task.name,
            "value": score_of(task, mean),
            "low": low,
            "high": high,
            "interval": interval,
            "recalibrated": _recalibrated(one, mean),
            "conformal": _conformal(one, mean),
            "limits": list(limits),
            "status": "predicted",
            "use": RESEARCH_ONLY,
        }
    )
    if task.spec.by_level:
        table = table.assign(**{f"p_{k}": mean[:, k] for k in range(task.n_columns)})
    if why and research:
        table["status"] = f"{STAMP}: {why}"
        table["use"] = f"{RESEARCH_ONLY}; {STAMP}"
    elif why:
        hidden = ["value", "low", "high", "recalibrated", *[c for c in table.columns if str(c).startswith("p_")]]
        table[hidden] = np.nan
        table[["interval", "conformal"]] = ""
        table["status"] = f"withheld: {why}"
    return table


def _interval(one: BundledTask, each: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Interval of the prediction over training sets: over the fits, else from the spread over repeats."""
    task = one.task
    scores = np.array([score_of(task, fit) for fit in each if np.isfinite(fit).all()])
    nothing = np.full(len(mean), np.nan)
    if len(scores) >= _ENOUGH_FITS:
        low, high = np.quantile(scores, [0.025, 0.975], axis=0)
        return low, high, f"95 % of {len(scores)} fits"
    if len(scores) > 1:
        return scores.min(axis=0), scores.max(axis=0), f"range of {len(scores)} fits"
    if one.spread is None:
        return nothing, nothing, "none: one fit, one repeat"
    middle, half = score_of(task, mean), 1.96 * one.spread
    if task.is_binary:
        ends = [1.0 / (1.0 + np.exp(-(logit(middle) + side * half))) for side in (-1, 1)]
        return ends[0], ends[1], "95 % by the spread over the study's repeats"
    return middle - half, middle + half, "95 % by the spread over the study's repeats"


def _recalibrated(one: BundledTask, mean: np.ndarray) -> np.ndarray:
    if not one.task.is_binary or one.scaling is None:
        return np.full(len(mean), np.nan)
    return Platt(one.scaling.intercept, one.scaling.slope).apply(mean[:, 0])


def _conformal(one: BundledTask, mean: np.ndarray) -> list[str]:
    task = one.task
    if not task.n_levels:
        if one.half_width is None:
            return ["any value"] * len(mean)
        return [f"{value - one.half_width:.4g} to {value + one.half_width:.4g}" for value in mean[:, 0]]
    probability = np.column_stack([1.0 - mean[:, 0], mean[:, 0]]) if task.is_binary else mean
    held = probability >= np.array(one.held_from)
    names = level_names(task)
    return [", ".join(name for name, inside in zip(names, row, strict=True) if inside) or "none" for row in held]


def level_names(task: Task) -> tuple[str, ...]:
    """Names of the classes of an outcome, in order."""
    return task.levels if len(task.levels) == task.n_levels else ("negative", "positive")


def prediction_table(bundle: Bundle, cohort: Cohort, threshold: float = 0.5) -> pd.DataFrame:
    """Prediction table for `evaluation`, with one repeat and one fold, since one model predicts all subjects."""
    predicted = bundle.predict(cohort)
    places = columns_of(bundle.members.tasks)
    tables = []
    for one in bundle.facts.tasks:
        task, values = one.task, predicted[:, places[one.task.name]]
        if task.name not in cohort.targets.columns:
            continue
        table = pd.DataFrame(
            {
                "subject": list(cohort.ids),
                "task": task.name,
                "model": bundle.facts.model,
                "repeat": 0,
                "fold": 0,
                "y_true": cohort.targets[task.name].to_numpy(dtype=float),
                "y_score": score_of(task, values),
                "y_pred": called(task, values, threshold),
            }
        )
        tables.append(
            table.assign(**{f"p_{k}": values[:, k] for k in range(task.n_columns)}) if task.spec.by_level else table
        )
    return pd.concat(tables, ignore_index=True)
