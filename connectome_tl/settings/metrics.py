"""Table of metrics: names, direction, chance level, margins, interval factors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from connectome_tl.errors import UsageError
from connectome_tl.tasks import Form, TaskKind, kind_named

Estimand = Literal["procedure", "fitted"]

# If a subject is as influential in training as in testing (kernels are symmetric), its influence is doubled and the
# variance quadrupled.
MOST_WIDENING = 4.0
MOST_ADDED = 1.6  # largest increase of the factor by effective coefficients


class Widening(NamedTuple):
    """Test-only variance x `factor`; on log scales also (`floor` / n_subjects)^2, and `between` x the variance of
    the fitted models (`intervals.between_folds`).

    `growth` is added to the factor per unit of log(n_subjects / 33): with a weak signal, the relative contribution of
    the training sets to the variance of the AUC increases with the size of the cohort. The floor is for models close to
    the prevalence, whose losses hardly vary over the tested subjects, so that the variance is due to the training sets.
    `coefficient` is added for each effective coefficient beyond one (`intervals.taught`), at most `most_added`.
    `larger` is the factor for the end with the larger loss, if it differs.
    `unstable` is for learners whose predictions depend most on the training subjects; between it and the widening
    itself, which is for those that do not, values are interpolated (`intervals.instability`).
    `even` replaces the widening of unstable learners if the two classes have the same size (`losses.balance`).
    `perfect` is the factor at an AUC of 0 or 1, if it differs: the excess over it is in proportion to a (1 - a), since
    models that rank nearly all pairs correctly depend little on their training subjects.
    """

    factor: float
    floor: float = 0.0
    growth: float = 0.0
    between: float = 0.0
    coefficient: float = 0.0
    larger: Widening | None = None
    unstable: Widening | None = None
    perfect: float | None = None
    even: Widening | None = None
    most_added: float = MOST_ADDED

    def of_learner(self, instability: float, balance: float = 0.0) -> Widening:
        """The widening for a learner of this instability and classes of this balance, both from 0 to 1."""
        larger = None if self.larger is None else self.larger.of_learner(instability, balance)
        other = self.unstable or self
        other = other._toward(other.even or other, balance)
        return self._toward(other, instability)._replace(larger=larger, unstable=None)

    def _toward(self, other: Widening, share: float) -> Widening:
        """This widening, with variance terms interpolated between it and another one."""

        def at(one: float, two: float) -> float:
            return one + share * (two - one)

        return self._replace(
            factor=at(self.factor, other.factor),
            floor=at(self.floor, other.floor),
            growth=at(self.growth, other.growth),
            between=at(self.between, other.between),
            coefficient=at(self.coefficient, other.coefficient),
        )

    def taught(self, coefficients: float, lucky: float = 1.0) -> Widening:
        """The widening for a learner with this effective number of coefficients.

        Args:
            lucky: multiplies what is added towards larger losses, from 0 to 1. A loss that is small because of the
                training subjects comes with predictions that rank well.
        """
        added = min(self.most_added, self.coefficient * max(0.0, coefficients - 1.0))
        larger = self.larger
        if larger is not None:
            larger = larger._replace(
                factor=larger.factor + lucky * (larger.taught(coefficients).factor - larger.factor)
            )
        return self._replace(factor=self.factor + added, larger=larger)

    def words(self, n_subjects: int) -> str:
        """The factor as text: `2.2`, or `0.9 to 1.6` if the ends differ."""
        ends = [end for end in (self, self.larger) if end is not None]
        factors = {one.at(n_subjects) for end in ends for one in (end, end.unstable) if one is not None}
        return " to ".join(dict.fromkeys(f"{factor:.2g}" for factor in (min(factors), max(factors))))

    def at(self, n_subjects: float) -> float:
        """The factor for a cohort of this size, at most `MOST_WIDENING`."""
        return min(MOST_WIDENING, self.factor + self.growth * max(0.0, math.log(n_subjects / 33.0)))


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: name in `scores.json`.
        label: name in tables and on axes.
        words: name in sentences.
        sign: +1 if larger is better, -1 if smaller is better, 0 if neither is.
        low, high: range of its values, infinite if unbounded.
        forms: forms of predictions that have it (`TaskKind.form`). kinds: if given, only tasks of these kinds.
        chance: value of an uninformed model; None if there is none.
        uninformed: description of an uninformed model.
        margin: half-width of the equivalence margin; None if none was fixed.
        margin_in_sd: whether the margin is relative to the outcome's standard deviation.
        interval: method of its interval.
        widening: widening of its interval per estimand, tuned on simulated studies (`benchmarks/coverage.py`); empty
            for a metric of an extension, whose function gives the interval.
        difference: for losses, the widening for paired differences (`benchmarks/comparisons.py`). The interval of
            differences of other metrics combines those of both scores; `factor` then applies to the part that they
            do not share.
    """

    name: str
    label: str
    words: str
    sign: int
    low: float
    high: float
    forms: tuple[Form, ...]
    chance: float | None = None
    uninformed: str = "chance"
    margin: float | None = None
    margin_in_sd: bool = False
    interval: str = ""
    widening: dict[Estimand, Widening] = field(default_factory=dict)
    difference: Widening | None = None
    kinds: tuple[str, ...] = ()

    def of(self, kind: str) -> bool:
        """Whether tasks of this kind have it."""
        return kind_named(kind).form in self.forms and kind in (self.kinds or (kind,))

    def beyond_chance(self, low: float, high: float) -> int:
        """1 for an interval that is better than the uninformed model, -1 for a worse one, 0 if it includes it."""
        if self.chance is None:
            return 0
        worst, best = sorted((self.sign * low, self.sign * high))
        return int(worst > self.sign * self.chance) - int(best < self.sign * self.chance)

    def widened(self, estimand: Estimand, n_subjects: int) -> str:
        """A clause on the widening of its interval; empty without one, as for the metric of an extension."""
        if estimand not in self.widening:
            return ""
        return f"variance x {self.widening[estimand].words(n_subjects)} for training sets; "


_INF = math.inf
_PAIRS: dict[Estimand, Widening] = {
    "procedure": Widening(1.15, unstable=Widening(2.9, growth=0.9), perfect=1.15),
    "fitted": Widening(1.9),
}
_CALLS: dict[Estimand, Widening] = {"procedure": Widening(2.2), "fitted": Widening(2.2)}
# Smallest and largest value for a procedure: see `intervals.calls`.
_RECALL: dict[Estimand, Widening] = {"procedure": Widening(1.1, larger=Widening(2.2)), "fitted": Widening(1.3)}
_BRIER: dict[Estimand, Widening] = {
    "procedure": Widening(
        0.95, 2.75, coefficient=1.8,
        larger=Widening(
            0.7, 3.0, coefficient=1.8, unstable=Widening(0.7, 1.45, coefficient=1.8, even=Widening(0.7, 1.1))
        ),
        unstable=Widening(
            0.75, 2.75, between=2.5, coefficient=1.8, even=Widening(0.75, 2.0, between=2.0, coefficient=0.6)
        ),
    ),
    "fitted": Widening(2.4, 0.8),
}  # fmt: skip
_MAE: dict[Estimand, Widening] = {"procedure": Widening(1.3, 1.5), "fitted": Widening(1.3, 0.8)}
_R2: dict[Estimand, Widening] = {
    "procedure": Widening(
        0.75, 2.5, between=0.8, coefficient=0.1,
        larger=Widening(1.6, 1.8, coefficient=0.35, most_added=1.0, unstable=Widening(0.7, 1.1, coefficient=0.35)),
        unstable=Widening(0.9, 3.0, between=3.0, coefficient=0.1),
    ),
    "fitted": Widening(2.0, 2.0),
}  # fmt: skip
_KAPPA: dict[Estimand, Widening] = {"procedure": Widening(2.0, 1.7), "fitted": Widening(2.0, 1.6)}
_WITHIN = "pairs within repeat and test fold"
_SCORE = "score interval (beta distribution outside 0.1 to 0.9)"
_LOG = "t interval over families on the log scale"
_LOGISTIC = "logistic recalibration per repeat, sandwich variance over families"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "auc", "AUC", "AUC", 1, 0.0, 1.0, ("risk",), 0.5, margin=0.05,
            interval=f"{_WITHIN}; Hanley-McNeil variance of these pairs, {_SCORE}",
            widening=_PAIRS, difference=Widening(1.5),
        ),
        Metric(
            "c_index", "Concordance", "concordance index", 1, 0.0, 1.0, ("levels",), 0.5, margin=0.05,
            interval=f"{_WITHIN} with different levels; Hanley-McNeil variance of these pairs, {_SCORE}",
            widening=_PAIRS, difference=Widening(1.5),
        ),
        Metric(
            "macro_auc", "Macro AUC", "macro one-vs-rest AUC", 1, 0.0, 1.0, ("classes",), 0.5, margin=0.05,
            interval=f"mean over classes of one-vs-rest AUC, {_WITHIN}; Hanley-McNeil variances, {_SCORE}",
            widening=_PAIRS, difference=Widening(1.5),
        ),
        Metric(
            "weighted_kappa", "Weighted kappa", "quadratic weighted kappa", 1, -1.0, 1.0, ("levels",), 0.0,
            interval="quadratic weights, mean over repeats; t interval over families, log of the disagreement",
            widening=_KAPPA,
        ),
        Metric(
            "balanced_accuracy", "Balanced accuracy", "balanced accuracy", 1, 0.0, 1.0, ("risk", "classes"),
            interval="mean of the classes' sensitivities, intervals combined (Zou-Donner)", widening=_CALLS,
        ),
        Metric(
            "sensitivity", "Sensitivity", "sensitivity", 1, 0.0, 1.0, ("risk",),
            interval="Wilson interval over positives (Jeffreys' for a value near 1 if negatives are rare, and for rare "
            "positives of a weak model), widened for varying calls",
            widening=_RECALL,
        ),
        Metric(
            "specificity", "Specificity", "specificity", 1, 0.0, 1.0, ("risk",),
            interval="Wilson interval over negatives (Jeffreys' for a value near 1 if positives are rare, and for rare "
            "negatives of a weak model), widened for varying calls",
            widening=_RECALL,
        ),
        Metric(
            "brier", "Brier score", "Brier score", -1, 0.0, 1.0, ("risk",), margin=0.01,
            interval=f"for cohorts with this share of positives; {_LOG}", widening=_BRIER,
            difference=Widening(3.5, 2.5),
        ),
        Metric(
            "multiclass_brier", "Brier score (all classes)", "multiclass Brier score", -1, 0.0, 2.0, ("classes",),
            margin=0.01, interval=f"summed over classes, for cohorts with these shares; {_LOG}", widening=_BRIER,
            difference=Widening(3.5, 2.5),
        ),
        Metric(
            "scaled_brier", "Scaled Brier", "scaled Brier score", 1, -_INF, 1.0, ("risk",), 0.0,
            "predicting the prevalence",
            interval="1 - Brier / Brier of the prevalence, with the interval of the Brier score",
            widening=_BRIER,
        ),
        Metric(
            "calibration_intercept", "Calibration intercept", "calibration intercept", 0, -_INF, _INF, ("risk",),
            interval=_LOGISTIC, widening=dict.fromkeys(("procedure", "fitted"), Widening(2.0)),
        ),
        Metric(
            "calibration_slope", "Calibration slope", "calibration slope", 0, -_INF, _INF, ("risk",),
            interval=_LOGISTIC, widening=dict.fromkeys(("procedure", "fitted"), Widening(4.5, 5.0)),
        ),
        Metric(
            "r2", "R²", "R2", 1, -_INF, 1.0, ("value",), 0.0, "predicting the mean", margin=0.05,
            interval="against the training folds' mean; t interval over families, log of the ratio",
            widening=_R2,
        ),
        Metric(
            "mae", "MAE", "mean absolute error", -1, 0.0, _INF, ("value", "levels"), margin=0.05,
            margin_in_sd=True, interval=_LOG, widening=_MAE, difference=Widening(3.0, 0.5),
        ),
    )
}  # fmt: skip


def register_metric(metric: Metric) -> None:
    """Register the metric of an extension; the same one may be registered again.

    Raises:
        UsageError: another metric has this name.
    """
    if METRICS.setdefault(metric.name, metric) != metric:
        raise UsageError(f"a metric is already called {metric.name!r}", remedy="Choose another name.")


def check_metrics(kind: TaskKind) -> None:
    """Check the metrics that a kind of task names.

    Raises:
        UsageError: a metric is unknown or of other kinds, or the primary one allows no verdict.
    """
    for name in (kind.primary, kind.second):
        metric = metric_named(name)
        if kind.form not in metric.forms or kind.name not in (metric.kinds or (kind.name,)):
            known = [one.name for one in METRICS.values() if kind.form in one.forms]
            raise UsageError(
                f"{name} is no metric of the kind of task {kind.name!r}", expected=f"one of {', '.join(known)}"
            )
    metric = METRICS[kind.primary]
    if not metric.sign or metric.chance is None or metric.margin is None:
        raise UsageError(
            f"{metric.name} cannot be the primary metric of the kind of task {kind.name!r}",
            expected="a metric with a direction, the value of an uninformed model, and a margin",
            got=f"sign {metric.sign}, chance {metric.chance}, margin {metric.margin}",
            remedy="Set them in its record; relate an error to that of the mean, so that chance is 1.",
        )


def metric_named(name: str) -> Metric:
    """The record of one metric.

    Raises:
        UsageError: no metric has this name.
    """
    if name not in METRICS:
        raise UsageError("unknown metric", expected=", ".join(METRICS), got=repr(name))
    return METRICS[name]
