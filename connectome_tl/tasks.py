"""What is predicted: a task, its kind, its unit and its cut-off."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

TaskKind = Literal["binary", "regression", "ordinal", "multiclass"]
Operator = Literal["<", "<=", ">", ">="]
Status = Literal["observed", "lost", "died", "untestable", "unknown"]

_OPERATORS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Task(BaseModel):
    """One outcome to predict.

    A binary task either reads a 0/1 column, or is derived from a score by `operator` and `cutoff`
    (papers differ between < 85 and <= 85, so the operator is part of the definition).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    kind: TaskKind
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
    def is_binary(self) -> bool:
        return self.kind == "binary"

    def from_scores(self, values: np.ndarray) -> np.ndarray:
        """Raw column values (n_subjects,) to targets (n_subjects,); NaN stays NaN."""
        values = np.asarray(values, dtype=float)
        if self.operator is None or self.cutoff is None:
            return values
        positive = _OPERATORS[self.operator](values, self.cutoff).astype(float)
        return np.where(np.isnan(values), np.nan, positive)

    @property
    def label(self) -> str:
        """How a report names it: `cognitive (bayley_cog < 85)`."""
        if self.operator is not None:
            return f"{self.name} ({self.column} {self.operator} {self.cutoff:g})"
        return f"{self.name} ({self.unit})" if self.unit else self.name
