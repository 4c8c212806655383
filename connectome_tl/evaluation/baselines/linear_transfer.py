"""Ridge towards the weights of the source: b + c u + z v, with the source's prediction u and penalised weights v.

The minimum of |y - b - z w|^2 + a |w - c w0|^2 is w = c w0 + v, where v is the ridge solution for y - c z w0. Each
pull c is therefore a ridge regression of another target on the same kernel. Pull and penalty (and, if the source
lacks the outcome, the source outcome and its sign) minimise the error of leave-one-family-out predictions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.gram import Kernel, fit_kernel, linear_kernel, moments, sampled
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.evaluation.baselines.engines.refits import weighted_refits
from connectome_tl.evaluation.baselines.source import FromSource
from connectome_tl.settings.baselines import LinearTransferSettings
from connectome_tl.tasks import Task


def solve(settings: LinearTransferSettings, source: FromSource, task: Task, design: Design, y: np.ndarray) -> Scored:
    """Scores of the pull with the smallest leave-one-family-out error, per labelling."""
    signals = Signals.of(settings, source, task, design.train, design.test)
    return _pulled(signals, linear_kernel(design.train, design.test), y, design.families)


def refits(
    settings: LinearTransferSettings,
    source: FromSource,
    task: Task,
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """Refits on bootstrap samples, see `Refit`; rows without an outcome are in each, since they centre the kernel."""
    signals, kernel = Signals.of(settings, source, task, train, test), linear_kernel(train, test)

    def drawn(rows: np.ndarray, copies: np.ndarray) -> Scored:
        own = replace(signals, train=signals.train[rows])
        return _pulled(own, sampled(kernel, rows, copies), y[rows, None], families[rows], copies)

    return weighted_refits(drawn, y, families, np.where(np.isfinite(y), counts, 1))


@dataclass(frozen=True, eq=False)
class Signals:
    """Predictions of the source's outcomes, (n_train, n_outcomes) and (n_test, n_outcomes).

    Attributes:
        pulls: factors on them. own: position of the same outcome in the source, or None.
    """

    train: np.ndarray
    test: np.ndarray
    pulls: tuple[float, ...]
    own: int | None

    @staticmethod
    def of(
        settings: LinearTransferSettings, source: FromSource, task: Task, train: np.ndarray, test: np.ndarray
    ) -> Signals:
        """Predictions for rows after the steps of the source."""
        of_train, of_test = (source.models.predict(rows) for rows in (train, test))
        return Signals(of_train, of_test, tuple(settings.pulls), source.models.own(task))

    def pulled(self, counts: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
        """Signals (n_train, 1) and (n_test, 1) that the labels are pulled towards.

        Without the same outcome: standardised predictions of every source outcome times every pull, with either sign;
        zero pull first.
        """
        if self.own is not None:
            return [(pull * self.train[:, [self.own]], pull * self.test[:, [self.own]]) for pull in self.pulls]
        center, spread = moments(self.train, counts)
        spread = np.where(spread > 0, spread, np.inf)
        found = [(np.zeros((len(self.train), 1)), np.zeros((len(self.test), 1)))]
        for column in range(self.train.shape[1]):
            train, test = (((rows - center) / spread)[:, [column]] for rows in (self.train, self.test))
            for pull in self.pulls:
                if pull > 0:
                    found += [(sign * pull * train, sign * pull * test) for sign in (1.0, -1.0)]
        return found


def _pulled(
    given: Signals, kernel: Kernel, y: np.ndarray, families: np.ndarray, counts: np.ndarray | None = None
) -> Scored:
    signals = given.pulled(counts)
    scale = np.ones(y.shape[1]) if given.own is not None else moments(y, counts)[1]
    targets = np.concatenate([y - signal * scale for signal, _ in signals], axis=1)
    gram, cross = kernel
    fitted = fit_kernel(gram, targets, families, counts=counts)
    shape = len(signals), y.shape[1]
    chosen = fitted.loss.reshape(shape).argmin(axis=0)
    columns = np.arange(y.shape[1])
    pulled = [np.array([signal[side] * scale for signal in signals])[chosen, :, columns].T for side in (0, 1)]
    at = chosen * y.shape[1] + columns
    return Scored(pulled[1] + fitted.scores(cross)[:, at], pulled[0] + fitted.left_out[:, at])


def linear_transfer(data: BaselineData) -> list[Baseline]:
    """One model per task; none for a study without a source cohort."""
    source, settings = data.source, data.study.baseline_settings.linear_transfer
    if not source.there:
        return []
    learners = {
        task: calibrated(partial(solve, settings, source, task), refits=partial(refits, settings, source, task))
        for task in data.tasks
    }
    return [Baseline(source.design, (task,), learner) for task, learner in learners.items()]
