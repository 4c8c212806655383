"""The explained quantity: one number per subject, on a scale where models are close to linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from connectome_tl.tasks import Task
from connectome_tl.training.closed_form.fitted_core import CoreFit

_EDGE = 1e-6  # probabilities are clipped to [_EDGE, 1 - _EDGE]


@dataclass(frozen=True)
class Target:
    """One explained number.

    Binary outcomes: the log-odds of the risk. Values: the score, before it is cut to the range of training.
    Ordinal outcomes: the expected level. Outcomes of classes: the log-odds of one class against the rest.

    Attributes:
        level: name of the class, for outcomes of classes.
        column: of the core's scores. output: first output of the network's head; which: class, or 0.
    """

    task: Task
    level: str
    column: int
    output: int
    which: int = 0

    @property
    def is_risk(self) -> bool:
        """Whether a probability is explained, on the logit scale."""
        return self.task.form in ("risk", "classes")

    @property
    def unit(self) -> str:
        """Unit of the explained number."""
        if self.is_risk:
            return "log-odds"
        if self.task.form == "value" and not self.task.spec.is_linear:
            return "units of the linear score"
        return "levels" if self.task.form == "levels" else self.task.unit or "units of the outcome"


def targets_of(tasks: Sequence[Task]) -> tuple[Target, ...]:
    """The explained numbers of outcomes that were fitted together, in the order of their columns."""
    found: list[Target] = []
    column = output = 0
    for task in tasks:
        if task.form == "classes":
            found += [Target(task, name, column + k, output, k) for k, name in enumerate(task.levels)]
            column += task.n_levels
        else:
            found.append(Target(task, "", column, output))
            column += 1
        output += task.n_outputs
    return tuple(found)


def slope_of(fit: CoreFit, column: int, *, is_risk: bool) -> float:
    """Change of the explained number per unit of the core's score."""
    return float(fit.risks.slope[column] / fit.risks.spread[column]) if is_risk else 1.0


def explained_of_predictions(values: np.ndarray, target: Target) -> np.ndarray:
    """(n,) the explained number of predictions (n, n_columns of the outcome)."""
    if target.is_risk:
        return np.asarray(logit(np.clip(values[:, target.which], _EDGE, 1 - _EDGE)))
    if target.task.form == "levels":
        return np.asarray(values @ np.arange(values.shape[1]))
    return np.asarray(target.task.spec.to_score(values[:, 0]))
