"""`cohort.yaml`: where a cohort's tables and matrices lie and what their columns mean."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.tasks import Operator, Task, TaskKind

AgeUnit = Literal["weeks", "months", "years", "days"]
Transform = Literal["none", "log1p", "fisher_z"]
AvailableAt = Literal["birth", "discharge", "scan", "follow-up"]


class AgeColumn(Settings):
    """Age at scan. `reference` says from when it counts; neonates are postmenstrual (PMA)."""

    column: str
    unit: AgeUnit
    reference: Literal["birth", "postmenstrual"] = "birth"


class Covariate(Settings):
    """One clinical or nuisance variable.

    `available_at` guards against variables that are known only later than the scan; `role` says
    which baseline sees it: `clinical` variables are fused with the connectome, `nuisance` ones
    (sex, motion, brain volume) only make the nuisance baseline, `both` do both.
    """

    column: str
    type: Literal["numeric", "categorical"] = "numeric"
    unit: str = ""
    available_at: AvailableAt = "scan"
    role: Literal["clinical", "nuisance", "both"] = "clinical"

    @field_validator("available_at")
    @classmethod
    def _not_later_than_the_scan(cls, value: AvailableAt) -> AvailableAt:
        if value == "follow-up":
            raise ValueError("a variable known only at follow-up cannot predict the follow-up; leave it out")
        return value


class StatusRule(Settings):
    """What a missing outcome is called, and what death and untestable mean for this task.

    Without a rule, an infant who died or was untestable stops the run: silence would decide it.
    """

    column: str
    died: Literal["missing", "positive", "negative"] | None = None
    untestable: Literal["missing", "positive", "negative"] | None = None


class Outcome(Settings):
    """One outcome column; `edition` names the test's edition (Bayley-III and Bayley-4 do not mix)."""

    name: str
    column: str
    kind: TaskKind
    unit: str = ""
    operator: Operator | None = None
    cutoff: float | None = None
    edition: str | None = None
    levels: tuple[str, ...] = ()
    status: StatusRule | None = None

    @model_validator(mode="after")
    def _is_a_task(self) -> Outcome:
        self.task()
        if self.kind == "regression" and self.status is not None:
            for state in ("died", "untestable"):
                if getattr(self.status, state) in ("positive", "negative"):
                    raise ValueError(f"a regression has no positive class: {state} can only be 'missing'")
        return self

    def task(self) -> Task:
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


class ConnectomeFiles(Settings):
    """One file per subject (`files`, with `{id}` in it) or one stacked array with a table of its rows."""

    files: str | None = None
    stack: str | None = None
    key: str | None = Field(default=None, description="name of the array inside an .npz")
    rows: str | None = Field(default=None, description="table whose id column says whose row is whose")
    layout: Literal["full", "upper"] = "full"
    format: str = "auto"
    atlas: str | None = None
    labels: str | None = Field(default=None, description="table of the regions of the rows, in their order")
    regions: Literal["all", "cerebrum"] | tuple[str, ...] = "all"
    measure: str | tuple[str, ...] = "weight"
    transform: Transform = "none"
    diagonal: Literal["zero", "keep"] = "zero"

    @model_validator(mode="after")
    def _one_source(self) -> ConnectomeFiles:
        if (self.files is None) == (self.stack is None):
            raise ValueError("give either files (one matrix per subject) or stack (all in one array)")
        if self.files is not None and "{id}" not in self.files:
            raise ValueError("files needs {id} where the subject's id stands, for example matrices/{id}.csv")
        if self.atlas is None and self.labels is None:
            raise ValueError("rows are matched by name: give atlas (see `connectome-tl atlas list`) or labels")
        return self

    @property
    def measures(self) -> tuple[str, ...]:
        return (self.measure,) if isinstance(self.measure, str) else self.measure


class RegionFeatureFiles(Settings):
    """Regional measures beside the connectome: one table or array per subject, or one stack."""

    files: str | None = None
    stack: str | None = None
    key: str | None = None
    names: tuple[str, ...]


class VolumeFiles(Settings):
    """Images for the voxel pathway, one per subject, `{id}` in the name."""

    files: str


class CohortSettings(Settings):
    """The whole of `cohort.yaml`. Paths are relative to the file itself."""

    name: str = "cohort"
    participants: str
    id: str = "participant_id"
    age: AgeColumn | None = None
    gestational_age: AgeColumn | None = None
    site: str | None = None
    family: str | None = None
    select: str | None = Field(default=None, description="keep rows where this is true, e.g. `age < 13`")
    covariates: tuple[Covariate, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    connectomes: ConnectomeFiles | None = None
    region_features: RegionFeatureFiles | None = None
    volumes: VolumeFiles | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> CohortSettings:
        names = [outcome.name for outcome in self.outcomes]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"outcome names must differ: {', '.join(doubled)}")
        columns = [covariate.column for covariate in self.covariates]
        doubled = sorted({column for column in columns if columns.count(column) > 1})
        if doubled:
            raise ValueError(f"covariate columns stand twice: {', '.join(doubled)}")
        outcome_columns = {outcome.column for outcome in self.outcomes}
        leaked = sorted(outcome_columns & set(columns))
        if leaked:
            raise ValueError(f"an outcome cannot be its own covariate: {', '.join(leaked)}")
        return self
