"""Records of clinical results and sensitivity analyses."""

from __future__ import annotations

import math
from typing import Literal

from connectome_tl.settings.base import Record
from connectome_tl.settings.records.scores import Number, Score


class CalibrationCurve(Record):
    """Observed against predicted risk in groups of equal size, with 95 % intervals of the observed."""

    task: str
    model: str
    predicted: tuple[Number, ...]
    observed: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    n: tuple[int, ...]
    method: str = ""


class Recalibrated(Record):
    """Risks of one model after what the inner folds taught: calibrated, and cut at their threshold.

    `scores` are those of the recalibrated risks, with sensitivity and specificity at the threshold that
    had `specificity` on the inner folds; `intercept`, `slope`, `threshold` are one per outer fold, the
    threshold on the scale of the raw risk.
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
    """Net benefit per infant at each threshold, of acting on the model, on everyone, on no one (0)."""

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
    """One score in one group; `score` is None where the group is too small to be shown, or hides one that is.

    `n` is None where it is under 10, or would give such a one away.
    """

    variable: str
    group: str
    n: int | None
    score: Score | None
    task: str = ""
    model: str = ""


class ConformalCheck(Record):
    """What prediction sets or intervals of this model held out of fold, and how large they were."""

    task: str
    model: str
    level: Number
    coverage: Number
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
    task: str = ""
    n_parameters: int
    anticipated: Number  # Cox-Snell R2 (binary) or R2 (regression)
    criteria: tuple[tuple[str, int], ...]
    needed: int
    n: int
    method: str = ""

    @property
    def enough(self) -> bool:
        return self.n >= self.needed


class Power(Record):
    """At each true AUC: how often the shipped interval excludes .5, and a permutation test rejects, at this size."""

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
    """What a study of this size could show of one outcome, before anything is trained.

    At each `truth` (true AUC or R2): median width of the 95 % interval, and how often it lies above chance and a
    permutation test rejects (empty where none was simulated). At each `gain` over a control whose true value is
    `base`: median width of the difference's interval, and how often the verdict is *helps*.
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


ENOUGH_FOR_QUANTILES = 100  # refits; of fewer the range is given, and is called so


class Instability(Record):
    """Risks of the tested infants by the fitted model, and where 95 % of its bootstrap refits put them (all of
    them, where they are fewer than 100).

    `mean_absolute_error` is the mean distance of a refitted risk from the original, `classification` the
    mean share of refits that call an infant otherwise than the original does.
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

    `mae` is that of the uncorrected predictions: a correction by the true age makes every error small. `slope` and
    `corrected_slope` are changes of the gap per unit of age. `difference` is the mean corrected gap of cases minus
    that of controls over subjects, with Welch's 95 % interval; `auc` that of cases by a linear support vector machine
    on the corrected gap, trained on the other folds. Kin of one class count once in `difference`. NaN without cases, or
    where one class is missing; `note` says why a value is missing.
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
    """One variable of those who returned against those who did not."""

    variable: str
    n_returned: int
    n_lost: int
    returned: Number
    lost: Number
    standardised_difference: Number


class MissingOutcomes(Record):
    """How much the missing outcomes of one task could change one model's score."""

    task: str
    model: str
    metric: str
    filled: str  # which missing outcomes the best and worst case fill in
    n_observed: int
    n_missing: int
    complete_cases: Number
    weighted: Number  # inverse probability of being observed
    best_case: Number
    worst_case: Number
    method: str = ""


class AdaptationProbe(Record):
    """How well an outcome of a cohort is read linearly from the network's embedding before and after stage 2.

    `before` and `after` are means over `n_fits` fits, of scores on rows that the probe was not fitted on.
    """

    cohort: Literal["pool", "source"]
    outcome: str
    metric: str
    before: Number
    after: Number
    n_fits: int
