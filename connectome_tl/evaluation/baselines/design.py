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
    """Features of one fold: training and test rows, and the ids that the feature steps were fitted on.

    Attributes:
        families: (n_train,) codes; relatives are left out together when a penalty is chosen.
    """

    train: np.ndarray
    test: np.ndarray
    fitted_on: tuple[str, ...]
    families: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores for one or many labellings of the training rows.

    Attributes:
        test: scores of the test rows, (n_test, n_labellings).
        left_out: leave-one-family-out scores of the training rows, (n_train, n_labellings); NaN for a missing label.
    """

    test: np.ndarray
    left_out: np.ndarray


class Refit(Protocol):
    """Risks (n_samples, n_test) of models fitted on weighted training rows.

    The arguments are rows (n_train, n_features) and (n_test, n_features), outcomes (n_train,) of 0 and 1 or NaN,
    family codes (n_train,), and counts (n_samples, n_train), 0 where the outcome is missing.
    """

    def __call__(
        self, train: np.ndarray, test: np.ndarray, y: np.ndarray, families: np.ndarray, counts: np.ndarray
    ) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Learner:
    """Functions that turn a design and labels into predictions.

    Attributes:
        predict: takes a design, labels (n_train,) with NaN for missing ones, and whether they are 0 and 1; returns
            risks or values, (n_test,).
        many: takes a design and labellings (n_train, n_labellings); returns ranking scores, (n_test, n_labellings).
            None if labellings share no computation, so that a permutation test needs one fit per permutation.
        refits: fits many bootstrap samples of the same rows at once; None if samples share no computation.
    """

    predict: Callable[[Design, np.ndarray, bool], np.ndarray]
    many: Callable[[Design, np.ndarray], np.ndarray] | None = None
    refits: Refit | None = None


@dataclass(frozen=True, eq=False)
class VolumeFit:
    """Results of a baseline on volumes in one fold, beside its rows in the prediction table.

    Attributes:
        model, task: names. test: ids of the fold's test rows.
        predicted: predictions of the test subjects that have a volume.
        held_out: out-of-fold predictions of the training rows, if the method has inner folds.
        nearness: distance of synthetic volumes to the nearest training volume, relative to that between training
            volumes (`training.images.synthesis.Nearness`); NaN without synthetic volumes.
    """

    model: str
    task: str
    test: tuple[str, ...]
    predicted: dict[str, float]
    held_out: dict[str, float]
    nearness: float


@dataclass(frozen=True, eq=False)
class Baseline:
    """A baseline: its features, the tasks that share them, and the learner."""

    design: Callable[[Fold], Design]
    tasks: tuple[Task, ...]
    learner: Learner


def no_columns(fold: Fold, families: np.ndarray) -> Design:
    """A design without features, for a baseline that cannot be fitted in this fold."""
    return Design(np.zeros((len(fold.train), 0)), np.zeros((len(fold.test), 0)), fold.train, families)
