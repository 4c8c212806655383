"""Settings of table columns: ages, covariates, outcomes, missing codes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.tasks import KindName, Operator, Task

AgeUnit = Literal["weeks", "months", "years", "days", "hours"]
AvailableAt = Literal["birth", "discharge", "scan", "follow-up"]
Censored = Literal["limit", "missing"]
WHICH_UNIT = "is 42 weeks or years? An age needs a unit: weeks, months, years, days or hours"
AGE_WORDS = (
    "age",
    "pma",
    "ga",
    "scan_age",
    "age_at_scan",
    "age_scan",
    "gestational_age",
    "postmenstrual_age",
    "corrected_age",
    "birth_age",
)


def _as_written(value: Any) -> Any:
    """A code as text, as in the table; YAML parses 7 as a number and true as no text."""
    if isinstance(value, bool):
        raise ValueError(f"YAML does not read this word as text: quote it, as '{str(value).lower()}'")
    return f"{value:.15g}" if isinstance(value, float) else str(value) if isinstance(value, int) else value


Word = Annotated[str, BeforeValidator(_as_written)]
MissingCodes = Annotated[
    tuple[Word, ...], Field(description="further codes for a missing value in this column, as written")
]


class AgeColumn(Settings):
    """Age at scan. `reference` is its origin; for neonates usually postmenstrual age (PMA).

    Gestational age may be written as weeks and days (`29+4`, read as 29.571 weeks). `to` converts the age to another
    origin by means of `gestational_age`: postmenstrual age is age since birth plus gestational age, and corrected age
    is postmenstrual age minus 40 weeks. `range` states the range of ages in this cohort and overrides the plausibility
    check of the unit. `censored` states whether an age such as `89+` is read as its limit or as missing.
    """

    column: str
    unit: AgeUnit
    reference: Literal["birth", "postmenstrual", "corrected"] = "birth"
    to: Literal["birth", "postmenstrual", "corrected"] | None = None
    range: tuple[float, float] | None = Field(default=None, description="lowest and highest age of this cohort")
    censored: Censored | None = None
    missing: MissingCodes = ()

    @model_validator(mode="before")
    @classmethod
    def _asks_for_the_unit(cls, value: Any) -> Any:
        if isinstance(value, str) or (isinstance(value, dict) and value.get("unit") is None):
            raise ValueError(WHICH_UNIT)
        return value

    @model_validator(mode="after")
    def _range_is_one(self) -> AgeColumn:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("range is the lowest age, then the highest")
        return self


class Covariate(Settings):
    """One clinical or nuisance variable.

    `available_at` guards against variables that are known only after the scan. `role` states the use: `clinical`
    variables are fused with the connectome, `nuisance` variables (sex, motion, brain volume) are used only by the
    nuisance baseline, `both` by both. `levels` names the codes of a categorical variable (`{1: male, 2: female}`); by
    default those of the table's JSON file are used. `censored` states whether a value such as `<55` or `89+` is read as
    its limit or as missing.
    """

    column: str
    type: Literal["numeric", "categorical"] = "numeric"
    unit: str = ""
    available_at: AvailableAt = "scan"
    role: Literal["clinical", "nuisance", "both"] = "clinical"
    levels: dict[Word, Word] = Field(default_factory=dict)
    censored: Censored | None = None
    missing: MissingCodes = ()

    @field_validator("available_at")
    @classmethod
    def _not_later_than_the_scan(cls, value: AvailableAt) -> AvailableAt:
        if value == "follow-up":
            raise ValueError("a variable known only at follow-up cannot predict the follow-up; leave it out")
        return value

    @model_validator(mode="after")
    def _an_age_has_a_unit(self) -> Covariate:
        if self.type == "numeric" and not self.unit and self.column.lower() in AGE_WORDS:
            raise ValueError(f"{self.column}: {WHICH_UNIT}")
        if self.levels and self.type == "numeric":
            raise ValueError(f"{self.column}: levels belong to type: categorical")
        return self


StatusWord = Literal["observed", "alive", "died", "lost", "untestable", "unknown"]


class StatusRule(Settings):
    """Column and codes for reasons of missing outcomes, and the meaning of death and untestable for this task.

    Without a rule, subjects who died or were untestable are an error, since either choice affects the result. `codes`
    names the codes of the column (`{A: alive, D: died}`); by default those of the table's JSON file are used.
    """

    column: str
    died: Literal["missing", "positive", "negative"] | None = None
    untestable: Literal["missing", "positive", "negative"] | None = None
    codes: dict[Word, Literal["observed", "alive", "died", "lost", "untestable", "unknown"]] = Field(
        default_factory=dict
    )


class Outcome(Settings):
    """One outcome column; `edition` names the test's edition (Bayley-III and Bayley-4 do not mix).

    `levels` are the names of the classes: negative, then positive for a binary outcome (`[control, patient]`), from low
    to high for an ordinal one; cells may differ from them in case and blanks, which is noted. `censored` states whether
    a score such as `<55` is read as its limit or as missing. A limit that does not determine the class at a cut-off is
    refused.
    """

    name: str
    column: str
    kind: KindName
    unit: str = ""
    operator: Operator | None = None
    cutoff: float | None = None
    edition: str | None = None
    levels: tuple[Word, ...] = ()
    censored: Censored | None = None
    missing: MissingCodes = ()
    status: StatusRule | None = None

    @model_validator(mode="after")
    def _is_a_task(self) -> Outcome:
        form = self.task().form
        if form != "risk" and self.status is not None:
            for state in ("died", "untestable"):
                if getattr(self.status, state) in ("positive", "negative"):
                    raise ValueError(f"a {self.kind} outcome has no positive class: {state} can only be 'missing'")
        if form == "risk" and self.levels and (len(self.levels) != 2 or self.operator is not None):
            raise ValueError("a binary outcome has two levels, negative then positive, and then no cut-off")
        if form == "classes" and len(self.levels) < 2:
            raise ValueError("a multiclass outcome needs its levels, for example levels: [none, mild, severe]")
        if len(set(self.levels)) != len(self.levels):
            raise ValueError("levels must differ")
        if form == "value" and not self.unit and self.column.lower() in AGE_WORDS:
            raise ValueError(f"{self.column}: {WHICH_UNIT}")
        if not self.edition and any(word in f"{self.name} {self.column}".lower() for word in ("bayley", "bsid")):
            raise ValueError("give the edition (edition: Bayley-III); scores of different editions cannot be mixed")
        return self

    def task(self) -> Task:
        """The task of this outcome."""
        return Task(
            name=self.name,
            kind=self.kind,
            column=self.column,
            unit=self.unit,
            operator=self.operator,
            cutoff=self.cutoff,
            levels=self.levels,
            edition=self.edition,
        )


class OneScan(Settings):
    """Which of several scans of a subject is kept: the first, the last, or the one nearest to `age` (in the unit of
    the cohort's age)."""

    keep: Literal["first", "last", "nearest"]
    age: float | None = None

    @model_validator(mode="after")
    def _nearest_needs_an_age(self) -> OneScan:
        if (self.keep == "nearest") != (self.age is not None):
            raise ValueError("keep: nearest goes with an age, and is needed there")
        return self

    def describe(self) -> str:
        """Text for the flow of subjects."""
        return f"the scan nearest to age {self.age:g} kept" if self.age is not None else f"the {self.keep} scan kept"
