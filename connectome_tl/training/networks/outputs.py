"""Convert outputs of heads to probabilities and to values in the outcome's unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, logit, softmax

from connectome_tl.features.scaling import TargetScaler
from connectome_tl.tasks import Task

_EDGE = 1e-6  # probabilities are clipped to [_EDGE, 1 - _EDGE] before mixing on the logit scale


def columns_of(tasks: Sequence[Task]) -> dict[str, slice]:
    """Columns of each outcome in the predictions of all outcomes."""
    found, start = {}, 0
    for task in tasks:
        found[task.name] = slice(start, start + task.n_columns)
        start += task.n_columns
    return found


def predictions_of(outputs: np.ndarray, tasks: Sequence[Task], scaler: TargetScaler) -> np.ndarray:
    """(n, n_columns) predictions of all outcomes from the heads' outputs (n, n_outputs)."""
    columns, start = [], 0
    for t, task in enumerate(tasks):
        raw = outputs[:, start : start + task.n_outputs]
        start += task.n_outputs
        if task.form == "risk":
            columns.append(expit(raw))
        elif task.form == "levels":
            columns.append(level_probabilities(expit(raw)))
        elif task.form == "classes":
            columns.append(softmax(raw, axis=1))
        else:
            columns.append(task.spec.from_score(raw * scaler.scale[t] + scaler.mean[t]))
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(outputs), 0))


def level_probabilities(above: np.ndarray) -> np.ndarray:
    """Level probabilities (n, n_levels) from the probabilities to be above each level, (n, n_levels - 1).

    The cumulative probabilities are first made monotonically decreasing.
    """
    falling = np.minimum.accumulate(above, axis=1)
    ends = np.ones((len(above), 1)), np.zeros((len(above), 1))
    return -np.diff(np.concatenate([ends[0], falling, ends[1]], axis=1), axis=1)


def mixed(core: np.ndarray, network: np.ndarray, weight: float, task: Task) -> np.ndarray:
    """(n, n_columns of the task) `(1 - weight) core + weight network`, on the scale of logits or scores."""
    if weight == 0.0:
        return core
    if task.is_binary:
        ends = [logit(np.clip(part, _EDGE, 1 - _EDGE)) for part in (core, network)]
        return expit((1.0 - weight) * ends[0] + weight * ends[1])
    if task.form == "value":
        ends = [task.spec.to_score(part) for part in (core, network)]
        return task.spec.from_score((1.0 - weight) * ends[0] + weight * ends[1])
    return (1.0 - weight) * core + weight * network


def losses(predicted: np.ndarray, truth: np.ndarray, task: Task) -> np.ndarray:
    """(n,) loss of each row's prediction (n, n_columns): log loss, or squared error; NaN where unknown."""
    if not task.spec.by_level:
        known = predicted[:, 0]
        if not task.is_binary:
            return (known - truth) ** 2
        risk = np.clip(known, _EDGE, 1 - _EDGE)
        return -(truth * np.log(risk) + (1.0 - truth) * np.log1p(-risk))
    seen = np.isfinite(truth)
    level = np.where(seen, truth, 0).astype(int)
    if task.form == "levels":
        steps = np.arange(predicted.shape[1]) >= level[:, None]
        found = ((np.cumsum(predicted, axis=1) - steps) ** 2).sum(axis=1)  # ranked probability score
    else:
        found = -np.log(np.clip(predicted[np.arange(len(level)), level], _EDGE, None))
    return np.where(seen, found, np.nan)
