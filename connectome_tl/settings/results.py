"""What a run found, as plain records: no torch, nothing that computes. The report shows only these."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectome_tl.settings.base import Record
from connectome_tl.tasks import Task

VerdictWord = Literal["helps", "harms", "no benefit", "cannot tell"]


class Score(Record):
    """One number with its interval, as `scores.json` holds it. NaN is undefined (one class only, say)."""

    task: str
    model: str
    metric: str  # auc, balanced_accuracy, sensitivity, specificity, brier, r2, mae
    value: float
    low: float
    high: float
    n: int
    n_positive: int | None = None
    method: str = ""


class Comparison(Record):
    """A paired difference `model - control` of one metric on the same subjects and splits.

    `sign` is +1 where larger values are better (AUC, R2), -1 where smaller are (Brier, MAE);
    `verdict` follows the rule fixed beforehand: helps/harms when the interval excludes 0, *no
    benefit* only when it lies within the equivalence margin, else *cannot tell*.
    """

    task: str
    metric: str
    model: str
    control: str
    question: str  # "Does pretraining help?", "Is it better than clinical covariates alone?"
    difference: float
    low: float
    high: float
    sign: int = 1
    verdict: VerdictWord
    n: int
    method: str = ""


class PermutationResult(Record):
    """One permutation test; p = (k + 1) / (n + 1). `p_value_max` corrects over tasks (maximum statistic)."""

    task: str
    model: str
    metric: str
    question: str
    observed: float
    null: tuple[float, ...]
    p_value: float
    p_value_max: float
    n_permutations: int
    method: str = ""


class FlowStep(Record):
    """One step of the flow of subjects: how many are left, how many went, why."""

    label: str
    n_left: int
    n_excluded: int = 0
    reason: str = ""


class OutcomeCounts(Record):
    """How many subjects of one task are observed, lost, died or untestable; positives for binary ones."""

    task: str
    observed: int
    lost: int = 0
    died: int = 0
    untestable: int = 0
    n_positive: int | None = None


class TableRow(Record):
    """One row of the cohort table: a variable and how it is distributed, one text per group."""

    variable: str
    values: tuple[str, ...]


class CohortRecord(Record):
    """What the report says of one cohort."""

    name: str
    role: Literal["source", "pool", "target"]
    n_subjects: int
    n_regions: int
    atlas: str
    measures: tuple[str, ...]
    flow: tuple[FlowStep, ...] = ()
    outcomes: tuple[OutcomeCounts, ...] = ()
    table_groups: tuple[str, ...] = ()
    table: tuple[TableRow, ...] = ()
    missing_regions: tuple[tuple[str, int], ...] = ()  # region name, number of subjects without it


class TrainingCurve(Record):
    """Training loss of one stage of one model, over its fits: median and quartiles at each step."""

    stage: str
    model: str
    n_fits: int
    step: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Prediction(Record):
    """One row of `predictions.tsv`: out of fold, one repeat. `y_pred` is the class, or the value."""

    subject: str
    task: str
    model: str
    repeat: int
    fold: int
    y_true: float
    y_score: float
    y_pred: float


class TaskVerdict(Record):
    """The sentences that lead the report, one set per task."""

    task: str
    headline: str
    how_well: str
    against_nuisance: str
    against_clinical: str
    transfer: tuple[str, ...] = ()
    caution: tuple[str, ...] = ()


class RunRecord(Record):
    """Everything the report shows of a run."""

    title: str
    tasks: tuple[Task, ...]
    cohorts: tuple[CohortRecord, ...]
    verdicts: tuple[TaskVerdict, ...]
    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]
    permutations: tuple[PermutationResult, ...] = ()
    curves: tuple[TrainingCurve, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    methods: str = ""
    warnings: tuple[str, ...] = ()
    transductive: bool = False
    simulated: bool = False
    split_hash: str = ""
    provenance: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
