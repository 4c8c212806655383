"""Records of clinical results and sensitivity analyses."""

from __future__ import annotations

import math
from typing import Literal

from connectome_tl.settings.base import Record
from connectome_tl.settings.records.scores import Number, Score


class CalibrationCurve(Record):
    """Observed against predicted risk in groups of equal size, with 95 % intervals of the observed share."""

    task: str
    model: str
    predicted: tuple[Number, ...]
    observed: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    n: tuple[int, ...]
    method: str = ""


class Recalibrated(Record):
    """Risks of one model, recalibrated and classified at a threshold, both fitted on the inner folds.

    `scores` are those of the recalibrated risks, with sensitivity and specificity at the threshold that has
    `specificity` on the inner folds. `intercept`, `slope` and `threshold` have one value per outer fold; the threshold
    is on the scale of the raw risk.
    """

    task: str
    model: str
    specificity: Number
    scores: tuple[Score, ...]
    curve: CalibrationCurve
    intercept: tuple[Number, ...]
    slope: tuple[Number, ...]
    threshold: tuple[Number, ...]
    method: str = ""


class DecisionCurve(Record):
    """Net benefit per subject at each threshold of acting on the model and on all subjects (on none: 0)."""

    task: str
    model: str
    threshold: tuple[Number, ...]
    net_benefit: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    treat_all: tuple[Number, ...]
    n: int
    method: str = ""


class SubgroupScore(Record):
    """One score in one group; `score` is None if the group is too small, or suppressed to protect such a group.

    `n` is None if it is under 10, or would reveal such a number.
    """

    variable: str
    group: str
    n: int | None
    score: Score | None
    task: str = ""
    model: str = ""


class ConformalCheck(Record):
    """Out-of-fold coverage and size of a model's prediction sets or intervals."""

    task: str
    model: str
    level: Number
    coverage: Number
    coverage_positive: float | None = None
    coverage_negative: float | None = None
    half_width: float | None = None
    both: float | None = None  # share of uninformative sets with both classes
    empty: float | None = None
    n: int
    method: str = ""


class SampleSize(Record):
    """Sample size required by Riley et al., per criterion, and available sample size."""

    kind: Literal["binary", "regression"]
    task: str = ""
    n_parameters: int
    anticipated: Number  # Cox-Snell R2 (binary) or R2 (regression)
    criteria: tuple[tuple[str, int], ...]
    needed: int
    n: int
    method: str = ""

    @property
    def enough(self) -> bool:
        """Whether the required number of subjects is available."""
        return self.n >= self.needed


class Power(Record):
    """Power at this size: shares of studies whose interval excludes 0.5 or permutation test rejects, by true AUC."""

    task: str
    n: int
    n_positive: int
    auc: tuple[Number, ...]
    interval: tuple[Number, ...]
    permutation: tuple[Number, ...]
    width: tuple[Number, ...] = ()  # median width of the interval
    n_studies: int
    method: str = ""


class Plan(Record):
    """Expected precision and power for one outcome at this sample size, computed before training.

    For each `truth` (true AUC or R2): median width of the 95 % interval, share of intervals above chance, and share of
    permutation tests that reject (empty if not simulated). For each `gain` over a control with true value `base`:
    median width of the interval of the difference, and share of verdicts *helps*.
    """

    task: str
    metric: str
    n: int
    n_positive: int | None = None
    truth: tuple[Number, ...]
    width: tuple[Number, ...]
    found: tuple[Number, ...]
    permutation: tuple[Number, ...] = ()
    base: Number
    gain: tuple[Number, ...]
    gain_width: tuple[Number, ...]
    gain_found: tuple[Number, ...]
    n_studies: int
    method: str = ""


ENOUGH_FOR_QUANTILES = 100  # refits; with fewer, the range is reported instead of quantiles


class Instability(Record):
    """Risks of the tested subjects by the fitted model, and the central 95 % of their risks by bootstrap refits (the
    range, with fewer than 100 refits).

    `mean_absolute_error` is the mean absolute difference of a refitted risk to the original, `classification` the
    mean share of refits that classify a subject differently.
    """

    task: str
    model: str
    original: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    mean_absolute_error: Number
    classification: Number
    n_refits: int
    method: str = ""


class AgeGapScore(Record):
    """The brain-age gap of one model over the tested subjects, in the unit of age.

    `mae` refers to the uncorrected predictions, since a correction by the true age reduces every error. `slope` and
    `corrected_slope` are changes of the gap per unit of age. `difference` is the mean corrected gap of cases minus that
    of controls, with Welch's 95 % interval; relatives of one class count once. `auc` is the AUC for cases of a linear
    support vector machine on the corrected gap, trained on the other folds. NaN without cases, or if one class is
    missing; `note` states why a value is missing, or has no meaning.
    """

    task: str
    model: str
    unit: str
    correction: str
    n: int
    mae: Number = math.nan
    slope: Number = math.nan
    corrected_slope: Number = math.nan
    case: str = ""
    n_cases: int = 0
    difference: Number = math.nan
    low: Number = math.nan
    high: Number = math.nan
    auc: Number = math.nan
    auc_low: Number = math.nan
    auc_high: Number = math.nan
    note: str = ""


class GroupDifference(Record):
    """One variable compared between subjects with and without outcome (`tasks`: those that the same subjects lack)."""

    tasks: tuple[str, ...] = ()
    variable: str
    n_returned: int
    n_lost: int
    returned: Number
    lost: Number
    standardised_difference: Number


class MissingOutcomes(Record):
    """Sensitivity of one model's score to the missing outcomes of one task."""

    task: str
    model: str
    metric: str
    filled: str  # missing outcomes that best and worst case impute
    n_observed: int
    n_missing: int
    complete_cases: Number
    weighted: Number  # inverse probability of being observed
    best_case: Number
    worst_case: Number
    method: str = ""


class AdaptationProbe(Record):
    """Score of a linear probe of an outcome on the network's embedding during stage 2.

    `values` are mean scores, over `n_fits` fits, on held-out rows of the probe, after `shares` of the steps.
    """

    cohort: Literal["pool", "source"]
    outcome: str
    metric: str
    shares: tuple[Number, ...]
    values: tuple[Number, ...]
    n_fits: int

    @property
    def before(self) -> float:
        """The score before stage 2."""
        return self.values[0]

    @property
    def after(self) -> float:
        """The score after stage 2."""
        return self.values[-1]
