"""Prediction tasks: the outcome, its kind, its unit and its cut-off."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectome_tl.errors import UsageError
from connectome_tl.plurals import counted

KindName = Literal["binary", "regression", "ordinal", "multiclass"]
Operator = Literal["<", "<=", ">", ">="]
Status = Literal["observed", "lost", "died", "untestable", "unknown"]

_OPERATORS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class TaskKind:
    """Properties of a kind of task.

    Attributes:
        name: value of `kind` in cohort.yaml.
        primary: name of the primary metric (`settings.metrics`).
        by_level: whether predictions are one probability per level (columns `p_0`, `p_1`, ...) instead of one number.
        ordered: whether levels have an order.
        scaled: whether targets are standardised on the training rows.
        baseline: prediction of a model without features.
    """

    name: KindName
    primary: str
    by_level: bool
    ordered: bool
    scaled: bool
    baseline: str

    def n_columns(self, n_levels: int) -> int:
        """Number of columns of a prediction: one probability or value, or a probability per level."""
        return n_levels if self.by_level else 1

    def n_outputs(self, n_levels: int) -> int:
        """Number of outputs of a network's head: one; a logit per threshold between levels; a logit per class."""
        if not self.by_level:
            return 1
        return n_levels - 1 if self.ordered else n_levels

    def score_kinds(self, n_levels: int) -> list[KindName]:
        """What the closed-form core takes each of its scores for: classes without an order are one against the rest."""
        return ["binary"] * n_levels if self.by_level and not self.ordered else [self.name]


KINDS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        TaskKind("binary", "auc", False, False, False, "the share of positives"),
        TaskKind("regression", "r2", False, True, True, "the mean"),
        TaskKind("ordinal", "c_index", True, True, False, "the share of each level"),
        TaskKind("multiclass", "macro_auc", True, False, False, "the share of each class"),
    )
}


def kind_named(name: str) -> TaskKind:
    """The record of one kind.

    Raises:
        UsageError: no kind has this name.
    """
    if name not in KINDS:
        raise UsageError("unknown kind of task", expected=", ".join(KINDS), got=repr(name))
    return KINDS[name]


class Task(BaseModel):
    """One outcome to predict.

    A binary task either reads a 0/1 column, or is derived from a score by `operator` and `cutoff`
    (papers differ between < 85 and <= 85, so the operator is part of the definition).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    kind: KindName
    column: str = Field(min_length=1)
    unit: str = ""
    operator: Operator | None = None
    cutoff: float | None = None
    levels: tuple[str, ...] = ()
    edition: str | None = None

    @model_validator(mode="after")
    def _cutoff_goes_with_operator(self) -> Task:
        if (self.operator is None) != (self.cutoff is None):
            raise ValueError("operator and cutoff go together: give both or neither")
        if self.cutoff is not None and self.kind != "binary":
            raise ValueError("a cut-off makes a binary task; kind is " + self.kind)
        return self

    @property
    def spec(self) -> TaskKind:
        """Properties of its kind."""
        return kind_named(self.kind)

    @property
    def is_binary(self) -> bool:
        return self.kind == "binary"

    @property
    def n_levels(self) -> int:
        """Number of classes or levels; 2 for a binary task, 0 for a regression.

        Raises:
            UsageError: an ordinal or multiclass task without its levels.
        """
        if not self.spec.by_level:
            return 2 if self.is_binary else 0
        if len(self.levels) < 2:
            raise UsageError(
                f"task {self.name!r} is {self.kind} and has {counted(len(self.levels), 'level')}",
                expected="two levels or more",
                remedy='Give them in cohort.yaml, from low to high: levels: ["0", "1", "2"].',
            )
        return len(self.levels)

    @property
    def n_columns(self) -> int:
        """Number of columns of a prediction, see `TaskKind.n_columns`."""
        return self.spec.n_columns(self.n_levels)

    @property
    def n_outputs(self) -> int:
        """Number of outputs of a network's head, see `TaskKind.n_outputs`."""
        return self.spec.n_outputs(self.n_levels)

    @property
    def score_kinds(self) -> list[KindName]:
        """Kinds of its scores in the closed-form core, see `TaskKind.score_kinds`."""
        return self.spec.score_kinds(self.n_levels if self.spec.by_level else 0)

    @property
    def n_scores(self) -> int:
        """Number of its scores in the closed-form core."""
        return len(self.score_kinds)

    def alike(self, other: Task) -> bool:
        """Whether a model of one outcome also predicts the other: equal kinds and levels, cut-offs on the same side."""
        sides = {task.operator[0] for task in (self, other) if task.operator is not None}
        return self.kind == other.kind and self._named_levels == other._named_levels and len(sides) < 2

    def same_as(self, other: Task) -> bool:
        """Whether predictions of one outcome are those of the other: they are alike, with equal name and unit.

        A unit that is not given is taken to be the same.
        """
        units = {task.unit.strip().casefold() for task in (self, other)} - {""}
        return self.name == other.name and self.alike(other) and len(units) < 2

    @property
    def _named_levels(self) -> tuple[str, ...]:
        return tuple(level.strip().casefold() for level in self.levels) if self.spec.by_level else ()

    def from_scores(self, values: np.ndarray) -> np.ndarray:
        """Raw column values (n_subjects,) to targets (n_subjects,); NaN stays NaN."""
        values = np.asarray(values, dtype=float)
        if self.operator is None or self.cutoff is None:
            return values
        positive = _OPERATORS[self.operator](values, self.cutoff).astype(float)
        return np.where(np.isnan(values), np.nan, positive)

    @property
    def label(self) -> str:
        """Label in reports: `cognitive (bayley_cog < 85)`."""
        if self.operator is not None:
            return f"{self.name} ({self.column} {self.operator} {self.cutoff:g})"
        return f"{self.name} ({self.unit})" if self.unit else self.name


def regressions_of(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Names of the regression outcomes."""
    return tuple(task.name for task in tasks if task.kind == "regression")
