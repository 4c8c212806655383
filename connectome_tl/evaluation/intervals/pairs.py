"""Pairs of subjects within test folds, and intervals of AUC and concordance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special

from connectome_tl.evaluation.intervals.out_of_fold import TAIL, design_effect, one_family
from connectome_tl.evaluation.intervals.wilson import Z95
from connectome_tl.settings.metrics import Widening

SKEWED = 0.4  # distance of an AUC from 0.5 from which on its interval is that of a skewed distribution


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a higher and a lower subject of a common test fold; for two classes, positive and negative.

    Attributes:
        met: (n_positive, n_negative) number of repeats in which both were tested in one fold.
        won: (n_positive, n_negative) number of these in which the higher one had the higher score; ties count 1/2.
        positive, negative: indices of the subjects above the lowest and below the highest level; with more
            than two levels a subject may be among both.
        decided: False when every pair ties.
    """

    met: np.ndarray
    won: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    decided: bool

    @property
    def auc(self) -> float:
        """AUC pooled over pairs; NaN if no fold contains both classes."""
        total = self.met.sum()
        return float(self.won.sum() / total) if total else float("nan")

    @property
    def classes(self) -> tuple[Pairs, ...]:
        """As of `MacroPairs`."""
        return (self,)

    def influence(self, n_subjects: int) -> np.ndarray:
        """First-order influence of each tested subject on the AUC, (n_subjects,); sums to 0."""
        residual = self.won - self.auc * self.met
        influence = np.zeros(n_subjects)
        influence[self.positive] += residual.sum(axis=1)
        influence[self.negative] += residual.sum(axis=0)
        return influence / self.met.sum()

    @cached_property
    def variance(self) -> Callable[[float], float]:
        """Test-only variance as a function of the true value, see `auc_variance`."""
        between = np.intersect1d(self.positive, self.negative, return_indices=True)
        above, below = self.met.sum(axis=1)[between[1]], self.met.sum(axis=0)[between[2]]
        return auc_variance(self.met, float((above * below).sum()))


@dataclass(frozen=True, eq=False)
class MacroPairs:
    """One-vs-rest pairs of every class that shares a test fold with another one; the value is their mean AUC."""

    classes: tuple[Pairs, ...]
    n_subjects: int

    @property
    def auc(self) -> float:
        """Mean AUC over the classes; NaN if there are none."""
        return float(np.mean([pairs.auc for pairs in self.classes])) if self.classes else float("nan")

    @property
    def decided(self) -> bool:
        """False when every pair of every class ties."""
        return any(pairs.decided for pairs in self.classes)

    def influence(self, n_subjects: int) -> np.ndarray:
        """(n_subjects,) see `Pairs.influence`."""
        return np.mean([pairs.influence(n_subjects) for pairs in self.classes], axis=0)

    @cached_property
    def variance(self) -> Callable[[float], float]:
        """Test-only variance: that of each class, with the correlations of the classes' influences.

        Negative correlations count as 0: with few subjects the influences of two classes may cancel exactly.
        """
        each = np.array([pairs.influence(self.n_subjects) for pairs in self.classes])
        size = np.sqrt((each**2).sum(axis=1))
        scale = np.outer(size, size)
        # With zero influences (an AUC of 0 or 1) the correlation is unknown; assume the largest.
        correlation = np.where(scale > 0, np.maximum(each @ each.T, 0.0) / np.where(scale > 0, scale, 1.0), 1.0)
        functions = [pairs.variance for pairs in self.classes]

        def variance(auc: float) -> float:
            error = np.sqrt([function(auc) for function in functions])
            return float(error @ correlation @ error) / len(functions) ** 2

        return variance


Ranking = Pairs | MacroPairs


def within_fold_pairs(y_true: np.ndarray, score: np.ndarray, fold: np.ndarray) -> Pairs:
    """Count the pairs of each repeat and test fold; only scores of one fitted model are compared.

    Pooling scores over folds instead is biased: 0.38 to 0.48 under the null at n = 33.

    Args:
        y_true: (n_subjects,) 0 and 1, or the number of the level; pairs are those of different levels.
        score, fold: (n_repeats, n_subjects); fold -1 is not tested in that repeat.
    """
    y = np.asarray(y_true, dtype=float)
    positive, negative = (np.flatnonzero(side) for side in (y > y.min(initial=np.inf), y < y.max(initial=-np.inf)))
    differ = y[positive][:, None] > y[negative][None, :]
    met = np.zeros(differ.shape)
    won = np.zeros_like(met)
    decided = False
    for s, f in zip(score, fold):
        together = differ & (f[positive][:, None] == f[negative][None, :]) & (f[positive] >= 0)[:, None]
        difference = np.where(together, s[positive][:, None] - s[negative][None, :], 0.0)
        met += together
        won += together * (np.sign(difference) + 1.0) / 2.0
        decided = decided or bool((together & (difference != 0)).any())
    return Pairs(met, won, positive, negative, decided)


def macro_pairs(y_true: np.ndarray, probability: np.ndarray, fold: np.ndarray) -> MacroPairs:
    """One-vs-rest pairs of each class, without classes that share no test fold with another one.

    Args:
        y_true: (n_subjects,) number of the class.
        probability: (n_repeats, n_subjects, n_classes).
        fold: as in `within_fold_pairs`.
    """
    each = [within_fold_pairs(y_true == c, probability[:, :, c], fold) for c in range(probability.shape[2])]
    return MacroPairs(tuple(pairs for pairs in each if pairs.met.sum()), len(y_true))


def auc_variance(met: np.ndarray, between: float = 0.0) -> Callable[[float], float]:
    """Test-only variance of the AUC as a function of its true value, for the pairs within test folds.

    Hanley & McNeil (1982, doi:10.1148/radiology.143.1.7063747), averaged over the two classes as in
    Newcombe (2006, doi:10.1002/sim.2324), with the weights of an incomplete design: for the complete
    design it equals their formula. Pairs of several repeats count once, since they contain the same subjects.

    Args:
        met: (n_positive, n_negative) in how many repeats each pair met.
        between: for more than two levels, the sum over subjects of the number of pairs as the higher subject times
            the number as the lower one. Two such pairs are negatively correlated: for an uninformative model as
            strongly as two pairs with a common higher subject, and less for better models. For equidistant normal
            scores the share is at least the one used here.
    """
    total = met.sum()
    by_positive = float((met.sum(axis=1) ** 2).sum() / total**2)
    by_negative = float((met.sum(axis=0) ** 2).sum() / total**2)
    by_pair = float((met**2).sum() / total**2)
    against = 2.0 * between / float(total**2)

    def variance(auc: float) -> float:
        shared = (auc / (2.0 - auc) + 2.0 * auc**2 / (1.0 + auc)) / 2.0 - auc**2
        opposed = against * shared * (1.0 - (2.0 * auc - 1.0) ** 2)
        return (by_positive + by_negative) * shared - opposed + by_pair * (auc * (1.0 - auc) - 2.0 * shared)

    return variance


def score_interval(estimate: float, variance: Callable[[float], float]) -> tuple[float, float]:
    """All values in [0, 1] that the estimate does not reject, with the variance taken at the value.

    As in Wilson's interval, no variance at the estimate is needed (it is 0 at an AUC of 1), and the interval is
    inside [0, 1]. For an estimate outside 0.1 to 0.9, whose distribution is skewed, the normal distribution is replaced
    by the beta distribution of Jeffreys' interval, with as many independent subjects as the variance corresponds to.
    """
    if not np.isfinite(estimate):
        return float("nan"), float("nan")
    excess = _beta_excess if abs(estimate - 0.5) >= SKEWED else _normal_excess

    def rejected(value: float) -> float:
        return -1.0 if value == estimate else excess(estimate, value, variance(value))

    low, high = (bound if rejected(bound) <= 0 else optimize.brentq(rejected, estimate, bound) for bound in (0.0, 1.0))
    return float(low), float(high)


def _normal_excess(estimate: float, value: float, variance: float) -> float:
    """Positive for values that are rejected."""
    return abs(estimate - value) - Z95 * math.sqrt(max(variance, 0.0))


def _beta_excess(estimate: float, value: float, variance: float) -> float:
    """Positive for values that are rejected."""
    if variance <= 0:
        return 1.0
    n = value * (1.0 - value) / variance
    below = special.betainc(estimate * n + 0.5, (1.0 - estimate) * n + 0.5, value)
    return float(max(TAIL - below, below - (1.0 - TAIL)))


def auc_interval(
    pairs: Ranking, cluster: np.ndarray, widening: Widening, n_labelled: int | None = None
) -> tuple[float, float]:
    """95 % interval of the within-fold AUC; (0.5, 0.5) when all pairs tie, NaN without pairs or with one family.

    Args:
        n_labelled: training subjects of each repeat of a few-label split. Repeats have other training subjects and so
            other errors in the same pairs: their mean varies less, as the influences of the subjects show, but not
            less than if the repeats were independent.
    """
    if not np.isfinite(pairs.auc) or (pairs.decided and one_family(cluster)):
        return float("nan"), float("nan")
    if not pairs.decided:
        return 0.5, 0.5
    influence = pairs.influence(cluster.size)
    factor = widening.at(n_labelled or cluster.size)
    least = factor if widening.perfect is None else widening.perfect
    share = design_effect(influence, cluster)
    if n_labelled is not None:
        single = pairs.variance(pairs.auc)
        independent = 1.0 / max(float(one.met.max()) for one in pairs.classes)
        share *= float(np.clip((influence**2).sum() / single, independent, 1.0)) if single > 0 else 1.0

    def variance(auc: float) -> float:
        return share * (least + (factor - least) * 4.0 * auc * (1.0 - auc)) * pairs.variance(auc)

    return score_interval(pairs.auc, variance)
