"""Intervals that cover at n = 33, for out-of-fold scores of a procedure that was trained again and again.

Every subject acts twice: it is tested, and it trains the models that test the others. An interval
that knows only the first (DeLong, the percentile bootstrap of out-of-fold scores) covers 78-84 %
instead of 95. No unbiased estimate of the second part exists from one cohort (Bengio & Grandvalet
2004, JMLR 5:1089), so the test-only variance is multiplied by a factor that simulated studies asked
for: `WIDENING`, tuned and confirmed by `benchmarks/coverage.py` on different cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Estimand = Literal["procedure", "fitted"]
ESTIMANDS: dict[Estimand, str] = {
    "procedure": "this procedure on a new cohort of this size",
    "fitted": "this fitted model on new infants",
}
Z95 = float(stats.norm.ppf(0.975))


class Widening(NamedTuple):
    """Test-only variance x `factor`; on log scales also (`floor` / n_subjects)^2.

    `growth` adds to the factor with log(n_subjects / 33): the larger a cohort with a weak signal, the
    more its AUC hangs on what the training sets happened to teach. The floor is for models that
    hardly differ from the prevalence: their losses barely vary over the tested subjects, so all of
    the variance comes from the training sets.
    """

    factor: float
    floor: float = 0.0
    growth: float = 0.0

    def at(self, n_subjects: int) -> float:
        """The factor for a cohort of this size.

        At most 4: where a subject matters as much in training as in testing (kernels are symmetric),
        its influence is doubled and the variance quadrupled; no simulated AUC asked for more.
        """
        return min(4.0, self.factor + self.growth * max(0.0, float(np.log(n_subjects / 33.0))))


WIDENING: dict[Estimand, dict[str, Widening]] = {
    "procedure": {
        "auc": Widening(2.2, growth=0.5),
        "proportion": Widening(3.2),
        "brier": Widening(4.0, 1.5),
        "mae": Widening(1.5, 1.5),
        "r2": Widening(4.0, 1.7),
    },
    "fitted": {
        "auc": Widening(1.9),
        "proportion": Widening(2.5),
        "brier": Widening(3.0, 0.8),
        "mae": Widening(1.5, 0.8),
        "r2": Widening(3.0, 1.6),
    },
}
TEST_ONLY = Widening(1.0)
MOST_TELLING, TELLING_AUC = 6.0, 0.6  # subjects that tell of the calls of a model whose AUC may be below


@dataclass(frozen=True, eq=False)
class Pairs:
    """Positive-negative pairs that met in a test fold.

    Attributes:
        met: (n_positive, n_negative) in how many repeats the two were tested in one fold.
        won: (n_positive, n_negative) in how many of these the positive scored higher; ties 1/2.
        positive, negative: indices of the subjects.
        decided: False when every pair ties.
    """

    met: np.ndarray
    won: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    decided: bool

    @property
    def auc(self) -> float:
        """Pooled by pairs; NaN when no fold holds both classes."""
        total = self.met.sum()
        return float(self.won.sum() / total) if total else float("nan")

    def influence(self, n_subjects: int) -> np.ndarray:
        """(n_subjects,) first-order part of each subject, as a tested one, in the AUC; sums to 0."""
        residual = self.won - self.auc * self.met
        influence = np.zeros(n_subjects)
        influence[self.positive] = residual.sum(axis=1)
        influence[self.negative] = residual.sum(axis=0)
        return influence / self.met.sum()


def within_fold_pairs(y_true: np.ndarray, score: np.ndarray, fold: np.ndarray) -> Pairs:
    """Count the pairs of each repeat and test fold; only scores of one fitted model are compared.

    Pooling scores over folds instead is biased: .38 to .48 under the null at n = 33.

    Args:
        y_true: (n_subjects,) 0 and 1.
        score, fold: (n_repeats, n_subjects); fold -1 is not tested in that repeat.
    """
    positive, negative = np.flatnonzero(y_true == 1), np.flatnonzero(y_true == 0)
    met = np.zeros((positive.size, negative.size))
    won = np.zeros_like(met)
    decided = False
    for s, f in zip(score, fold):
        together = (f[positive][:, None] == f[negative][None, :]) & (f[positive] >= 0)[:, None]
        difference = np.where(together, s[positive][:, None] - s[negative][None, :], 0.0)
        met += together
        won += together * (np.sign(difference) + 1.0) / 2.0
        decided = decided or bool((together & (difference != 0)).any())
    return Pairs(met, won, positive, negative, decided)


def auc_variance(met: np.ndarray) -> Callable[[float], float]:
    """Test-only variance of the AUC as a function of its true value, for the pairs that really met.

    Hanley & McNeil (1982, doi:10.1148/radiology.143.1.7063747), averaged over the two classes as in
    Newcombe (2006, doi:10.1002/sim.2324), with the weights of an incomplete design: for the complete
    one it is their formula. Pairs of several repeats count as one, since they hold the same subjects.
    """
    total = met.sum()
    by_positive = float((met.sum(axis=1) ** 2).sum() / total**2)
    by_negative = float((met.sum(axis=0) ** 2).sum() / total**2)
    by_pair = float((met**2).sum() / total**2)

    def variance(auc: float) -> float:
        shared = (auc / (2.0 - auc) + 2.0 * auc**2 / (1.0 + auc)) / 2.0 - auc**2
        return (by_positive + by_negative) * shared + by_pair * (auc * (1.0 - auc) - 2.0 * shared)

    return variance


def score_interval(
    estimate: float, variance: Callable[[float], float], widening: float, z: float = Z95
) -> tuple[float, float]:
    """All values in [0, 1] that the estimate does not reject, with the variance taken at the value.

    Wilson's idea: it needs no variance at the estimate (0 at an AUC of 1) and stays inside [0, 1].
    """
    if not np.isfinite(estimate):
        return float("nan"), float("nan")
    ends = []
    for bound in (0.0, 1.0):
        inside, outside = estimate, bound
        for _ in range(50):
            middle = (inside + outside) / 2.0
            accepted = (estimate - middle) ** 2 <= z**2 * widening * variance(middle)
            inside, outside = (middle, outside) if accepted else (inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def auc_interval(
    pairs: Pairs, cluster: np.ndarray, widening: Widening = WIDENING["procedure"]["auc"]
) -> tuple[float, float]:
    """95 % interval of the within-fold AUC; (0.5, 0.5) when all pairs tie, NaN without pairs."""
    if not pairs.met.sum():
        return float("nan"), float("nan")
    if not pairs.decided:
        return 0.5, 0.5
    factor = widening.at(cluster.size) * design_effect(pairs.influence(cluster.size), cluster)
    return score_interval(pairs.auc, auc_variance(pairs.met), factor)


def design_effect(influence: np.ndarray, cluster: np.ndarray) -> float:
    """How much families inflate the variance: clustered over independent sum of squares, at least 1."""
    independent = float((influence**2).sum())
    if independent == 0 or np.unique(cluster).size == cluster.size:
        return 1.0
    together = np.bincount(cluster, weights=influence)
    return max(1.0, float((together**2).sum()) / independent)


def proportion_interval(
    value: np.ndarray,
    cluster: np.ndarray,
    widening: Widening = WIDENING["procedure"]["proportion"],
    most: float = float("inf"),
) -> tuple[float, float]:
    """Wilson interval of a mean of values in [0, 1] (n_subjects,), for families and training sets.

    Args:
        most: independent subjects that the values are worth at most.
    """
    if not value.size:
        return float("nan"), float("nan")
    factor = widening.at(cluster.size) * design_effect(value - value.mean(), cluster)
    estimate, n = float(value.mean()), min(value.size / factor, most)
    centre = (estimate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * float(np.sqrt(estimate * (1 - estimate) / n + Z95**2 / (4 * n**2)))
    return max(0.0, centre - half), min(1.0, centre + half)


class CallIntervals(NamedTuple):
    """(value, low, high) of each."""

    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]
    balanced_accuracy: tuple[float, float, float]


def call_intervals(
    called: np.ndarray,
    positive: np.ndarray,
    cluster: np.ndarray,
    auc: tuple[float, float],
    estimand: Estimand = "procedure",
) -> CallIntervals:
    """Intervals of what a model calls.

    A model that knows little calls whom its threshold happens to reach: most cohorts teach it to call
    nobody, some to call half, and one cohort, however large, cannot know which it is. So where the AUC
    may be below `TELLING_AUC` (or above its mirror image), a procedure's interval rests on
    `MOST_TELLING` subjects at most; where it cannot be told from .5, the end towards "calls nobody" (or
    everybody, if it calls most) is open. Their mean needs none of it: it hardly depends on the calls.

    Args:
        called: (n_subjects,) share of the repeats in which a subject is called positive.
        positive: (n_subjects,) True for positives.
        auc: the procedure's interval of the AUC.
    """
    widening = WIDENING[estimand]["proportion"]
    knows_little, knows_nothing = (
        estimand == "procedure" and not (auc[0] > telling or auc[1] < 1.0 - telling) for telling in (TELLING_AUC, 0.5)
    )
    calls_few = bool(called.size) and called.mean() < 0.5
    found, usual = [], []
    for value, families, is_positive in (
        (called[positive], cluster[positive], True),
        (1.0 - called[~positive], cluster[~positive], False),
    ):
        mean = float(value.mean()) if value.size else float("nan")
        low, high = proportion_interval(value, families, widening)
        usual.append((mean, low, high))
        if knows_little and value.size:
            low, high = proportion_interval(value, families, widening, most=MOST_TELLING)
        if knows_nothing and value.size:
            low, high = (0.0, high) if calls_few == is_positive else (low, 1.0)
        found.append((mean, low, high))
    balanced = (usual[0][0] + usual[1][0]) / 2.0
    return CallIntervals(found[0], found[1], (balanced, *mean_of_two_interval(usual[0], usual[1])))


def mean_of_two_interval(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float]:
    """Interval of the mean of two estimates given as (value, low, high).

    Zou & Donner (2008, doi:10.1002/sim.3095): recovers the variances from the two intervals.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    below, above = np.hypot(a - a_low, b - b_low) / 2.0, np.hypot(a_high - a, b_high - b) / 2.0
    return float((a + b) / 2.0 - below), float((a + b) / 2.0 + above)


def positive_mean_interval(value: np.ndarray, cluster: np.ndarray, widening: Widening) -> tuple[float, float]:
    """Interval of a mean of losses >= 0 (n_subjects,), clustered, on the log scale."""
    mean = float(value.mean())
    if mean == 0:
        return 0.0, 0.0
    half = clustered_half_width((value - mean) / (mean * value.size), cluster, widening)
    return mean * float(np.exp(-half)), mean * float(np.exp(half))


def r2_interval(
    loss: np.ndarray, base: np.ndarray, cluster: np.ndarray, widening: Widening = WIDENING["procedure"]["r2"]
) -> tuple[float, float]:
    """Interval of 1 - mean(loss) / mean(base), squared errors (n_subjects,), on the log of the ratio.

    (0, 0) for the base itself, which is 0 by definition; NaN where a mean is 0.
    """
    if loss.mean() == 0 or base.mean() == 0:
        return float("nan"), float("nan")
    if np.array_equal(loss, base):
        return 0.0, 0.0
    influence = (loss / loss.mean() - base / base.mean()) / loss.size
    half = clustered_half_width(influence, cluster, widening)
    ratio = float(loss.mean() / base.mean())
    return 1.0 - ratio * float(np.exp(half)), 1.0 - ratio * float(np.exp(-half))


def clustered_half_width(influence: np.ndarray, cluster: np.ndarray, widening: Widening) -> float:
    """t quantile times the widened clustered standard error of a sum of influences (n_subjects,).

    NaN with a single family: nothing can be said.
    """
    together = np.bincount(np.unique(cluster, return_inverse=True)[1].ravel(), weights=influence)
    n = together.size
    if n < 2:
        return float("nan")
    variance = (
        widening.at(influence.size) * n / (n - 1) * float((together**2).sum()) + (widening.floor / influence.size) ** 2
    )
    return float(stats.t.ppf(0.975, n - 1)) * float(np.sqrt(variance))
