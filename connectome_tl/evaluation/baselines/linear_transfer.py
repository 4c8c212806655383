"""Ridge towards the weights of the source: b + c u + z v, with the source's prediction u and penalised weights v.

The minimum of |y - b - z w|^2 + a |w - c w0|^2 is w = c w0 + v, where v is the ridge solution for y - c z w0. Each
pull c is therefore a ridge regression of another target on the same kernel. Pull and penalty (and, if the source
lacks the outcome, the source outcome and its sign) minimise the error of leave-one-family-out predictions.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.gram import fit_kernel, linear_kernel
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.evaluation.baselines.source import FromSource
from connectome_tl.settings.baselines import LinearTransferSettings
from connectome_tl.tasks import Task


def solve(settings: LinearTransferSettings, source: FromSource, task: Task, design: Design, y: np.ndarray) -> Scored:
    """Scores of the pull with the smallest leave-one-family-out error, per labelling."""
    train, test = (source.models.predict(rows) for rows in (design.train, design.test))
    own = source.models.own(task)
    if own is not None:
        signals = [(pull * train[:, [own]], pull * test[:, [own]]) for pull in settings.pulls]
        scale = np.ones(y.shape[1])
    else:
        signals, scale = _of_others(settings, train, test), np.nanstd(y, axis=0)
    targets = np.concatenate([y - signal * scale for signal, _ in signals], axis=1)
    gram, cross = linear_kernel(design.train, design.test)
    fitted = fit_kernel(gram, targets, design.families)
    shape = len(signals), y.shape[1]
    chosen = fitted.loss.reshape(shape).argmin(axis=0)
    columns = np.arange(y.shape[1])
    pulled = [np.array([signal[side] * scale for signal in signals])[chosen, :, columns].T for side in (0, 1)]
    at = chosen * y.shape[1] + columns
    return Scored(pulled[1] + fitted.scores(cross)[:, at], pulled[0] + fitted.left_out[:, at])


def _of_others(
    settings: LinearTransferSettings, train: np.ndarray, test: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Standardised predictions of every source outcome times every pull, with either sign; zero pull first."""
    center, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 0, spread, np.inf)
    nothing = np.zeros((len(train), 1)), np.zeros((len(test), 1))
    found = [nothing]
    for column in range(train.shape[1]):
        standardised = [((rows - center) / spread)[:, [column]] for rows in (train, test)]
        for pull in settings.pulls:
            if pull > 0:
                found += [(sign * pull * standardised[0], sign * pull * standardised[1]) for sign in (1.0, -1.0)]
    return found


def linear_transfer(data: BaselineData) -> list[Baseline]:
    """One model per task; none for a study without a source cohort."""
    source, settings = data.source, data.study.baseline_settings.linear_transfer
    if not source.there:
        return []
    return [Baseline(source.design, (task,), calibrated(partial(solve, settings, source, task))) for task in data.tasks]
