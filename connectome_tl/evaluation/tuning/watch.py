"""Pruning of trials, after an inner fold or during the training of a network.

A trial is compared with the completed trials of the same outer fold at the same point, if there are enough of them.
Intermediate values are stored in the database by step: inner fold `i` ends at step `(i + 1) * PER_FOLD`, and checkpoint
`k` of its first network is step `i * PER_FOLD + k + 1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

PER_FOLD = 1000
ENOUGH = 5  # completed trials with a value at the same point
STOPPED = "stopped"  # user attribute: why a trial ended before its last inner fold


@dataclass(frozen=True, eq=False)
class Watch:
    """Monitor one trial.

    From the second inner fold on, a trial is stopped if it is worse than the median. At a checkpoint, where only the
    loss of one network on few held-out rows is available, it is stopped only in the worst quarter; the first
    checkpoint is ignored.

    Attributes:
        sign: 1 if a larger score is better, else -1. inside: whether checkpoints are used.
    """

    study: Study
    trial: Trial
    sign: int
    inside: bool

    def fold(self, number: int, values: tuple[float, ...]) -> None:
        """Record the score after an inner fold.

        Raises:
            TrialPruned: the trial is to be stopped.
        """
        after = f"worse than the median after {number + 1} inner folds"
        self._hear((number + 1) * PER_FOLD, values[0], self.sign, 0.5 if number else 0.0, after)

    def check(self, number: int, at: int, loss: float) -> None:
        """Record the held-out loss at a checkpoint of the first network of an inner fold.

        Raises:
            TrialPruned: the trial is to be stopped.
        """
        where = f"in the worst quarter at checkpoint {at + 1} of inner fold {number + 1}"
        self._hear(number * PER_FOLD + at + 1, loss, -1, 0.25 if at else 0.0, where)

    def _hear(self, step: int, value: float, sign: int, worst: float, why: str) -> None:
        from optuna import TrialPruned

        if not np.isfinite(value):
            return
        self.trial.report(value, step)
        others = [sign * one.intermediate_values[step] for one in self._complete() if step in one.intermediate_values]
        if worst and len(others) >= ENOUGH and sign * value < np.quantile(others, worst):
            self.trial.set_user_attr(STOPPED, why)
            raise TrialPruned(why)

    def _complete(self) -> list[FrozenTrial]:
        return [one for one in self.study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]


def last_score(on_the_way: Mapping[int, float]) -> float:
    """The score after the last inner fold that was finished; NaN where none was."""
    folds = [step for step in on_the_way if step % PER_FOLD == 0]
    return on_the_way[max(folds)] if folds else float("nan")
