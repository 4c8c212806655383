"""Result records of a run; nothing else is passed to the report."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from connectome_tl.plurals import counted
from connectome_tl.settings.base import Record
from connectome_tl.settings.records.scores import Number as Number
from connectome_tl.settings.records.scores import Score as Score
from connectome_tl.settings.records.statistics import (
    AdaptationProbe,
    AgeGapScore,
    CalibrationCurve,
    ConformalCheck,
    DecisionCurve,
    GroupDifference,
    Instability,
    MissingOutcomes,
    Power,
    Recalibrated,
    SampleSize,
    SubgroupScore,
)
from connectome_tl.settings.tuning import FoldChoice, Optimism
from connectome_tl.tasks import Task

Noun = Literal["infants", "children", "adults", "subjects"]
_SINGULAR: dict[Noun, str] = {"infants": "infant", "children": "child", "adults": "adult", "subjects": "subject"}
VerdictWord = Literal["helps", "harms", "no benefit", "cannot tell", "not applicable"]


class Comparison(Record):
    """A paired difference `model - control` of one metric on the same subjects and splits.

    `sign` is +1 if larger values are better (AUC, R2), -1 if smaller are (Brier, MAE). `verdict` follows a rule fixed
    in advance: helps/harms if the interval excludes 0, *no benefit* if it is within the equivalence margin, else
    *cannot tell*; *not applicable* if the models differ only in a network that has weight 0 in both.
    `resampled_p` is the p value of the corrected resampled t test on squared errors per test fold; NaN outside k-fold
    cross-validation.
    """

    task: str
    metric: str
    model: str
    control: str
    question: str  # "Does pretraining help?", "Is it better than clinical covariates alone?"
    difference: Number
    low: Number
    high: Number
    sign: int = 1
    verdict: VerdictWord
    n: int
    n_positive: int | None = None
    margin: float | None = None  # half width of the equivalence band; None where none was fixed
    resampled_p: Number = math.nan
    method: str = ""


class PermutationResult(Record):
    """One permutation test; p = (k + 1) / (n + 1). `p_value_max` corrects over tasks (maximum statistic)."""

    task: str
    model: str
    metric: str
    question: str
    observed: Number
    null: tuple[Number, ...]
    p_value: Number
    p_value_max: Number
    n_permutations: int
    method: str = ""


class FlowStep(Record):
    """One step of the flow of subjects: numbers of remaining and excluded subjects, and the reason."""

    label: str
    n_left: int
    n_excluded: int = 0
    reason: str = ""


class People(Record):
    """Rows of a cohort: noun, number of subjects and number of scans."""

    noun: Noun = "subjects"
    n_subjects: int
    n_scans: int

    @property
    def text(self) -> str:
        """`33 infants`, or `40 scans of 33 infants`."""
        who = f"{self.n_subjects} {self.noun if self.n_subjects != 1 else _SINGULAR[self.noun]}"
        return who if self.n_scans == self.n_subjects else f"{counted(self.n_scans, 'scan')} of {who}"

    @property
    def rows(self) -> str:
        """Noun of the rows: that of the subjects, or scans."""
        return self.noun if self.n_scans == self.n_subjects else "scans"


class OutcomeCounts(Record):
    """Numbers of rows of one task with a value, and of those without one by the reason.

    Attributes:
        observed: rows with a value, of which `by_status` are counted as a class by their status (`died: positive`).
        lost, died, untestable, unknown: rows without a value.
        n_positive: for binary tasks.
    """

    task: str
    observed: int
    by_status: int = 0
    lost: int = 0
    died: int = 0
    untestable: int = 0
    unknown: int = 0
    n_positive: int | None = None


class TableRow(Record):
    """One row of the cohort table: a variable and its distribution, one text per group."""

    variable: str
    values: tuple[str, ...]


class CohortRecord(Record):
    """Description of one cohort in the report."""

    name: str
    role: Literal["source", "pool", "target", "cohort"]
    n_subjects: int  # rows; these are scans if `people` is given
    n_regions: int
    atlas: str
    measures: tuple[str, ...]
    people: People | None = None
    flow: tuple[FlowStep, ...] = ()
    outcomes: tuple[OutcomeCounts, ...] = ()
    table_groups: tuple[str, ...] = ()
    table: tuple[TableRow, ...] = ()
    missing_regions: tuple[tuple[str, int], ...] = ()  # region name, number of subjects without it
    covariates: tuple[str, ...] = ()
    n_volumes: int = 0  # subjects with a volume


class TrainingCurve(Record):
    """Training loss of one stage of one model, over its fits: median and quartiles of the mean loss of the steps up to
    each `step`."""

    stage: str
    model: str
    n_fits: int
    step: tuple[int, ...]
    median: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]


class Prediction(Record):
    """One row of `predictions.tsv`: an out-of-fold prediction of one repeat.

    `y_pred` is the class, the value, or the median level; `probabilities` has one number per level of an ordinal
    or multiclass task and is empty for others.
    """

    subject: str
    task: str
    model: str
    repeat: int
    fold: int
    y_true: Number
    y_score: Number
    y_pred: Number
    probabilities: tuple[Number, ...] = ()


class NetworkWeight(Record):
    """Weight of the network in the full model, or of the transferred networks, for one task, over its fits."""

    task: str
    mean: Number
    low: Number
    high: Number
    n_fits: int


class TaskVerdict(Record):
    """Sentences at the start of the report, one set per task.

    `better_baseline` is the name of the best baseline that scores better than the full model, or "".
    """

    task: str
    headline: str
    how_well: str
    against_nuisance: str
    against_clinical: str
    against_site: str = ""
    better_baseline: str = ""
    transfer: tuple[str, ...] = ()
    caution: tuple[str, ...] = ()


class LearningPoint(Record):
    """Primary score of one model with a number of labelled subjects in every training fold and `n` tested subjects."""

    task: str
    model: str
    metric: str
    n_labelled: int
    value: Number
    low: Number
    high: Number
    n: int
    method: str = ""
    reason: str = ""  # reason why it, or its interval, is undefined; equal predictions; labelled subjects of one class


class ResultTable(Record):
    """A generic table of the report: sensitivity to missing outcomes, adequacy of n, the audit's ledger."""

    section: Literal["clinical", "missing", "adequacy", "audit"]
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class RunRecord(Record):
    """Contents of the report of a run."""

    title: str
    tasks: tuple[Task, ...]
    cohorts: tuple[CohortRecord, ...]
    verdicts: tuple[TaskVerdict, ...]
    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]
    permutations: tuple[PermutationResult, ...] = ()
    network_weights: tuple[NetworkWeight, ...] = ()
    transferred_weights: tuple[NetworkWeight, ...] = ()
    probes: tuple[AdaptationProbe, ...] = ()
    noun: str = "subjects"  # name of the target's subjects: infants, children, adults
    curves: tuple[TrainingCurve, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    methods: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # how the files of the cohorts were read; no action needed
    calibration_curves: tuple[CalibrationCurve, ...] = ()
    recalibrated: tuple[Recalibrated, ...] = ()
    decision_curves: tuple[DecisionCurve, ...] = ()
    subgroups: tuple[SubgroupScore, ...] = ()
    conformal: tuple[ConformalCheck, ...] = ()
    sample_sizes: tuple[SampleSize, ...] = ()
    power: tuple[Power, ...] = ()
    instability: tuple[Instability, ...] = ()
    returners: tuple[GroupDifference, ...] = ()
    missing_outcomes: tuple[MissingOutcomes, ...] = ()
    missingness: tuple[Score, ...] = ()  # of a model that uses only which values are missing
    tables: tuple[ResultTable, ...] = ()
    optimism: tuple[Optimism, ...] = ()
    tuned_folds: tuple[FoldChoice, ...] = ()  # settings chosen on the inner folds of each outer fold
    learning_curve: tuple[LearningPoint, ...] = ()
    age_gaps: tuple[AgeGapScore, ...] = ()
    transductive: bool = False
    simulated: bool = False
    exploratory: bool = False
    split_hash: str = ""
    provenance: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class QualityFinding(Record):
    """One finding of a check; `subject` is empty if it concerns the whole cohort."""

    level: Literal["error", "warning", "note"]
    check: str
    message: str
    subject: str = ""
    regions: tuple[str, ...] = ()


class SubjectMeasure(Record):
    """One quality measure over all subjects, in the order of `CohortQualityRecord.subjects`.

    `low` and `high` are the limits beyond which a subject is an outlier, if defined.
    """

    name: str
    values: tuple[Number, ...]
    unit: str = ""
    low: float | None = None
    high: float | None = None


class MatrixImage(Record):
    """Image of a connectome: `values` is (n_rows * n_rows,) row by row, scaled for display."""

    title: str
    n_rows: int
    values: tuple[Number, ...]
    flagged: bool = False


class VolumeImage(Record):
    """Three slices through one volume on its grid, side by side.

    Attributes:
        pixels: base64 of (height, width) bytes, row by row from the top. text: processing of the volume.
    """

    subject: str
    height: int
    width: int
    pixels: str
    text: str
    flagged: bool = False


class CohortQualityRecord(Record):
    """Contents of the cohort report in addition to the `CohortRecord`: checks, matrices, distributions.

    `sites`, `ages` and each measure have one entry per subject; `missing` contains (position of the
    subject, position of the region) for every missing region.
    """

    subjects: tuple[str, ...]
    regions: tuple[str, ...]
    sites: tuple[str, ...] = ()
    ages: tuple[Number, ...] = ()
    age_unit: str = ""
    missing: tuple[tuple[int, int], ...] = ()
    measures: tuple[SubjectMeasure, ...] = ()
    findings: tuple[QualityFinding, ...] = ()
    matrices: tuple[MatrixImage, ...] = ()
    volumes: tuple[VolumeImage, ...] = ()
    simulated: bool = False
    versions: dict[str, str] = Field(default_factory=dict)
