"""Prediction tasks: the outcome, its kind, its unit and its cut-off."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from connectome_tl.errors import UsageError
from connectome_tl.models import Answering
from connectome_tl.plurals import counted

Form = Literal["risk", "value", "levels", "classes"]
Operator = Literal["<", "<=", ">", ">="]
Status = Literal["observed", "lost", "died", "untestable", "unknown"]

_OPERATORS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _unchanged(values: np.ndarray) -> np.ndarray:
    return values


def _no_scale(_: np.ndarray) -> tuple[float, float]:
    return 0.0, 1.0


def standard_scale(known: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of known scores; 1 for the latter if they hardly differ."""
    mean = float(known.mean())
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return mean, (spread if spread > 1e-8 * abs(mean) else 1.0)


@dataclass(frozen=True)
class TaskKind:
    """A kind of task: form and metrics of its predictions, and the scores that models learn.

    Everything outside of this record depends on the form, not on the name. Losses of networks are in `nn.losses`.

    Attributes:
        name: value of `kind` in cohort.yaml.
        form: what is predicted: a `risk`, a `value`, or a probability per level (`levels`, which have an order) or per
            class (`classes`).
        second: name of the metric that a verdict reports in addition to the primary one.
        baseline: prediction of a model without features.
        words: name of a prediction.
        scale: mean and spread, by which networks standardise scores, from the known scores of training rows.
        to_score, from_score: for the form `value`, the scale on which core and networks are linear, and its inverse.
        valid: whether each known value is possible; None for all. invalid: name of one that is not.
        primary: name of the metric of scores, comparisons, verdicts and tuning; by default `tested`.
        loss: name of the loss of networks in the methods section; empty for the usual ones.
    """

    name: str
    form: Form
    second: str
    baseline: str
    words: str
    scale: Callable[[np.ndarray], tuple[float, float]] = _no_scale
    to_score: Callable[[np.ndarray], np.ndarray] = _unchanged
    from_score: Callable[[np.ndarray], np.ndarray] = _unchanged
    valid: Callable[[np.ndarray], np.ndarray] | None = None
    invalid: str = ""
    primary: str = ""
    loss: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "primary", self.primary or self.tested)

    @property
    def tested(self) -> str:
        """Name of the metric of permutation tests, which are computed for many labellings at once."""
        return {"risk": "auc", "value": "r2", "levels": "c_index", "classes": "macro_auc"}[self.form]

    @property
    def is_linear(self) -> bool:
        """Whether models are linear on the scale of the predictions themselves."""
        return self.to_score is _unchanged

    @property
    def by_level(self) -> bool:
        """Whether predictions are one probability per level (columns `p_0`, `p_1`, ...) instead of one number."""
        return self.form in ("levels", "classes")

    def n_columns(self, n_levels: int) -> int:
        """Number of columns of a prediction: one probability or value, or a probability per level."""
        return n_levels if self.by_level else 1

    def n_outputs(self, n_levels: int) -> int:
        """Number of outputs of a network's head: one; a logit per threshold between levels; a logit per class."""
        return {"levels": n_levels - 1, "classes": n_levels}.get(self.form, 1)

    def score_kinds(self, n_levels: int) -> list[str]:
        """Kind of each score in the closed-form core; classes without an order are split one against the rest."""
        kind = {"value": "regression", "levels": "ordinal"}.get(self.form, "binary")
        return [kind] * (n_levels if self.form == "classes" else 1)


KINDS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        TaskKind("binary", "risk", "brier", "the share of positives", "a risk"),
        TaskKind("regression", "value", "mae", "the mean", "a value", standard_scale),
        TaskKind(
            "ordinal", "levels", "mae", "the share of each level", "a risk per level",
            valid=lambda values: ~(values % 1 > 0), invalid="a broken number",
        ),
        TaskKind("multiclass", "classes", "multiclass_brier", "the share of each class", "a risk per class"),
    )
}  # fmt: skip


def _named(value: object) -> object:
    """A value, or where a function is defined: a cell of a notebook that is run again defines new functions."""
    return (value.__module__, getattr(value, "__qualname__", "")) if callable(value) else value


def register_kind(kind: TaskKind) -> None:
    """Register the kind of an extension; the same one may be registered again.

    Raises:
        UsageError: another kind has this name.
    """
    known = KINDS.get(kind.name, kind)
    if any(_named(getattr(known, f.name)) != _named(getattr(kind, f.name)) for f in fields(kind)):
        raise UsageError(f"a kind of task is already called {kind.name!r}", remedy="Choose another name.")
    KINDS[kind.name] = kind


def kind_named(name: str) -> TaskKind:
    """The record of one kind.

    Raises:
        UsageError: no kind has this name.
    """
    if name not in KINDS:
        raise UsageError("unknown kind of task", expected=", ".join(KINDS), got=repr(name))
    return KINDS[name]


def _known(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"unknown kind of task; expected one of {', '.join(KINDS)}, or that of an installed extension")
    return name


KindName = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(KINDS)})]


class Task(BaseModel, metaclass=Answering):
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
        if self.cutoff is not None and not self.is_binary:
            raise ValueError("a cut-off makes a binary task; kind is " + self.kind)
        return self

    @property
    def spec(self) -> TaskKind:
        """Properties of its kind."""
        return kind_named(self.kind)

    @property
    def form(self) -> Form:
        """Form of its predictions."""
        return self.spec.form

    @property
    def is_binary(self) -> bool:
        """Whether it has a positive and a negative class, and a risk as its prediction."""
        return self.form == "risk"

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
    def score_kinds(self) -> list[str]:
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
        """Label in reports: `cognitive (bayley_cog < 85)`, `age (months)`; a unit in the name is not repeated."""
        if self.operator is not None:
            return f"{self.name} ({self.column} {self.operator} {self.cutoff:g})"
        return f"{self.name} ({self.unit})" if self.unit and self.unit not in self.name.split("_") else self.name


def values_of(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Names of the outcomes that are values."""
    return tuple(task.name for task in tasks if task.form == "value")
