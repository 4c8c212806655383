"""Definition of a baseline: features of a fold, tasks that share them, and the learner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from connectome_tl.cohort.splits import Fold
from connectome_tl.tasks import Task


@dataclass(frozen=True, eq=False)
class Design:
    """Features of one fold: training and test rows, and the ids whatever made them was fitted on.

    Attributes:
        families: (n_train,) codes; relatives are left out together where a penalty is chosen.
    """

    train: np.ndarray
    test: np.ndarray
    fitted_on: tuple[str, ...]
    families: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores under one or many labelings of the training rows.

    Attributes:
        test: (n_test, n_labelings).
        left_out: (n_train, n_labelings) of fits without the row or its family; NaN where the label is missing.
    """

    test: np.ndarray
    left_out: np.ndarray


class Refit(Protocol):
    """Risks (n_samples, n_test) of models fitted on counted training rows.

    The arguments are rows (n_train, n_features) and (n_test, n_features), outcomes (n_train,) of 0 and 1 or NaN,
    family codes (n_train,), and counts (n_samples, n_train), 0 where the outcome is missing.
    """

    def __call__(
        self, train: np.ndarray, test: np.ndarray, y: np.ndarray, families: np.ndarray, counts: np.ndarray
    ) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Learner:
    """What turns a design and labels into predictions.

    Attributes:
        predict: design, labels (n_train,) with NaN where missing, whether they are 0 and 1; gives (n_test,) risks or
            values.
        many: design and labelings (n_train, n_labelings); gives (n_test, n_labelings) scores that rank. None where
            labelings share nothing, so that a permutation test would cost as many fits as permutations.
        refits: many bootstrap samples of the same rows at once; None where samples share nothing.
    """

    predict: Callable[[Design, np.ndarray, bool], np.ndarray]
    many: Callable[[Design, np.ndarray], np.ndarray] | None = None
    refits: Refit | None = None


@dataclass(frozen=True, eq=False)
class Baseline:
    """A baseline: its features, the tasks that share them, and the learner."""

    design: Callable[[Fold], Design]
    tasks: tuple[Task, ...]
    learner: Learner


def no_columns(fold: Fold, families: np.ndarray) -> Design:
    """Rows without any feature: what a baseline that cannot be made in this fold has."""
    return Design(np.zeros((len(fold.train), 0)), np.zeros((len(fold.test), 0)), fold.train, families)
