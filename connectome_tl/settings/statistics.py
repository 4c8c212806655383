"""Clinical and sensitivity results beyond the scores, as plain records that the report may show."""

from __future__ import annotations

from typing import Literal

from connectome_tl.settings.base import Record
from connectome_tl.settings.results import Score


class CalibrationCurve(Record):
    """Observed against predicted risk in groups of equal size, with 95 % intervals of the observed."""

    task: str
    model: str
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]
    method: str = ""


class DecisionCurve(Record):
    """Net benefit per infant at each threshold, of acting on the model, on everyone, on no one (0)."""

    task: str
    model: str
    threshold: tuple[float, ...]
    net_benefit: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    treat_all: tuple[float, ...]
    n: int
    method: str = ""


class SubgroupScore(Record):
    """One score in one group; `score` is None where the group is too small to be shown."""

    variable: str
    group: str
    n: int
    score: Score | None


class ConformalCheck(Record):
    """What prediction sets or intervals of this model held out of fold, and how large they were."""

    task: str
    model: str
    level: float
    coverage: float
    coverage_positive: float | None = None
    coverage_negative: float | None = None
    half_width: float | None = None
    both: float | None = None  # share of sets that hold both classes and so say nothing
    empty: float | None = None
    n: int
    method: str = ""


class SampleSize(Record):
    """The size that Riley et al. ask for, per criterion, next to the size at hand."""

    kind: Literal["binary", "regression"]
    n_parameters: int
    anticipated: float  # Cox-Snell R2 (binary) or R2 (regression)
    criteria: tuple[tuple[str, int], ...]
    needed: int
    n: int
    method: str = ""

    @property
    def enough(self) -> bool:
        return self.n >= self.needed


class GroupDifference(Record):
    """One variable of those who returned against those who did not."""

    variable: str
    n_returned: int
    n_lost: int
    returned: float
    lost: float
    standardised_difference: float


class MissingOutcomes(Record):
    """How much the missing outcomes of one task could change one model's score."""

    task: str
    model: str
    metric: str
    n_observed: int
    n_missing: int
    complete_cases: float
    weighted: float  # inverse probability of being observed
    best_case: float
    worst_case: float
    method: str = ""
