"""Confidence intervals of out-of-fold scores for small samples.

Every subject acts twice: it is tested, and it trains the models that test the others. An interval
that knows only the first (DeLong, the percentile bootstrap of out-of-fold scores) covers 78-84 %
instead of 95. No unbiased estimate of the second part exists from one cohort (Bengio & Grandvalet
2004, JMLR 5:1089), so the test-only variance is multiplied by a factor that simulated studies asked
for: `settings.metrics`, tuned and confirmed by `benchmarks/coverage.py` on different cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from connectome_tl.settings.metrics import METRICS, MOST_WIDENING, Estimand, Widening

ESTIMANDS: dict[Estimand, str] = {
    "procedure": "this procedure on a new cohort of this size",
    "fitted": "this fitted model on new subjects",
}
Z95 = float(stats.norm.ppf(0.975))
CALLS = METRICS["sensitivity"].widening
TEST_ONLY = Widening(1.0)
# Subjects that tell of the calls of a model that may know little: of the class that it calls less often, and more.
MOST_TELLING, FEW_TELLING = (20.0, 40.0), (6.0, 14.0)
# Recalls between which the widening falls from its whole to this; a recall near 1 hardly moves from cohort to cohort.
STEADY: dict[Estimand, float] = {"procedure": 1.2, "fitted": 1.5}
FROM_RECALL, TO_RECALL = 0.5, 0.8
# Of models that hang on who trained (`taught`): what each coefficient beyond one adds to the factor, at most.
PER_COEFFICIENT, MOST_ADDED = 0.8, 1.6
TELLING_AUC, NEAR = 0.6, 0.3


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
    widening: Widening = CALLS["procedure"],
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
    # At 0 and 1 the ends meet the estimate; rounding must not exclude a truth of exactly 0 or 1.
    return (0.0 if estimate == 0 else max(0.0, centre - half)), (1.0 if estimate == 1 else min(1.0, centre + half))


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

    A model that knows little gives everybody about the prevalence. Where that lies near the threshold, most cohorts
    teach it to call nobody, some to call half, and one cohort, however large, cannot know which it is. So with a
    share of positives from .3 to .7, where the AUC may be below `TELLING_AUC` (or above its mirror image) a
    procedure's interval rests on `FEW_TELLING` subjects at most, and where it cannot be told from .5 the end towards
    "calls nobody" (or everybody, if it calls most) is open. With rarer classes its calls hardly change from cohort to
    cohort: `MOST_TELLING` subjects at most where the AUC may be .5. The recall of the class that is called more often
    is the steadier one. Where the AUC can be told from .5, a recall above one half asks for less widening, down to
    `STEADY` from .8 on. The mean of the two needs none of it.

    Args:
        called: (n_subjects,) share of the repeats in which a subject is called positive.
        positive: (n_subjects,) True for positives.
        auc: the procedure's interval of the AUC.
    """
    widening = CALLS[estimand]
    near = positive.size > 0 and NEAR <= positive.mean() <= 1.0 - NEAR
    knows_little, knows_nothing = (
        estimand == "procedure" and not (auc[0] > telling or auc[1] < 1.0 - telling) for telling in (TELLING_AUC, 0.5)
    )
    unbounded = (float("inf"), float("inf"))
    most = FEW_TELLING if near and knows_little else MOST_TELLING if knows_nothing else unbounded
    calls_few = bool(called.size) and bool(called.mean() < 0.5)
    found, usual = [], []
    for value, families, is_positive in (
        (called[positive], cluster[positive], True),
        (1.0 - called[~positive], cluster[~positive], False),
    ):
        mean = float(value.mean()) if value.size else float("nan")
        usual.append((mean, *proportion_interval(value, families, widening)))
        often = calls_few != is_positive
        wide = widening if knows_nothing else _steadied(widening, mean, estimand)
        low, high = proportion_interval(value, families, wide, most[often])
        if near and knows_nothing and value.size:
            low, high = (low, 1.0) if often else (0.0, high)
        found.append((mean, low, high))
    balanced = (usual[0][0] + usual[1][0]) / 2.0
    return CallIntervals(found[0], found[1], (balanced, *mean_interval(usual[0], usual[1])))


def _steadied(widening: Widening, recall: float, estimand: Estimand) -> Widening:
    """The widening for a class of this recall."""
    share = min(1.0, max(0.0, (recall - FROM_RECALL) / (TO_RECALL - FROM_RECALL)))
    return widening._replace(factor=widening.factor + share * (STEADY[estimand] - widening.factor))


def mean_interval(*parts: tuple[float, float, float]) -> tuple[float, float]:
    """Interval of the mean of independent estimates given as (value, low, high).

    Zou & Donner (2008, doi:10.1002/sim.3095): recovers the variances from the intervals.
    """
    value, low, high = np.array(parts).T
    middle = value.mean()
    below, above = (float(np.sqrt(((value - end) ** 2).sum())) / len(parts) for end in (low, high))
    return float(middle - below), float(middle + above)


def positive_mean_interval(
    value: np.ndarray,
    cluster: np.ndarray,
    widening: Widening,
    strata: np.ndarray | None = None,
    between: float = 0.0,
    n_learning: float | None = None,
) -> tuple[float, float]:
    """Interval of a mean of losses >= 0 (n_subjects,), clustered, on the log scale.

    Args:
        n_learning: see `clustered_half_width`.
        strata: (n_subjects,) class of each subject: the interval is then for cohorts with this share of each class,
            so that only what varies within a class counts.
        between: variance that the training sets add, see `between_folds`.
    """
    mean = float(value.mean())
    if mean == 0:
        return 0.0, 0.0
    influence = centred(value, strata) / (mean * value.size)
    freedom = float("inf") if strata is None else welch_freedom(influence, strata)
    half = clustered_half_width(influence, cluster, widening, _relative(between, mean), n_learning, freedom)
    return mean * float(np.exp(-half)), mean * float(np.exp(half))


def _relative(variance: float, mean: float) -> float:
    """Variance in units of the squared mean, finite where the square is too small for a float.

    So far down only the bound of `MOST_WIDENING` counts.
    """
    return variance / max(mean**2, 1e-150)


def centred(value: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray:
    """(n_subjects,) minus the mean of their stratum, scaled as its unbiased variance asks.

    A stratum of one is centred by the mean of all, since nothing varies within it.
    """
    if strata is None:
        return np.asarray(value - value.mean())
    found = np.empty_like(value)
    for stratum in np.unique(strata):
        inside = strata == stratum
        n = int(inside.sum())
        middle, scale = (value[inside].mean(), np.sqrt(n / (n - 1))) if n > 1 else (value.mean(), 1.0)
        found[inside] = scale * (value[inside] - middle)
    return found


def welch_freedom(influence: np.ndarray, strata: np.ndarray) -> float:
    """Degrees of freedom of a variance that is a sum over strata (Welch 1947, doi:10.1093/biomet/34.1-2.28).

    With few positives their variance, which is most of the whole, is poorly known.
    """
    sizes = [np.sum(strata == stratum) for stratum in np.unique(strata)]
    parts = [np.sum(influence[strata == stratum] ** 2) for stratum in np.unique(strata)]
    uncertain = sum(part**2 / max(size - 1, 1) for part, size in zip(parts, sizes))
    return float(sum(parts) ** 2 / uncertain) if uncertain > 0 else float("inf")


def between_folds(spread: np.ndarray, fold: np.ndarray) -> float:
    """How much fitted models differ in how far their predictions spread: the variance of a mean over test folds.

    A learner that picks up a signal from some training sets and not from others will do so from cohort to cohort.
    What a mean of few test subjects varies by is taken off.

    Args:
        spread: (n_repeats, n_subjects) squared distance of each prediction from that without any feature.
        fold: (n_repeats, n_subjects), -1 where not tested.
    """
    parts = [s[f == k] for s, f in zip(spread, fold) for k in np.unique(f[f >= 0])]
    parts = [part for part in parts if part.size > 1]
    if len(parts) < 2:
        return 0.0
    within = float(np.mean([part.var(ddof=1) / part.size for part in parts]))
    return max(0.0, float(np.var([part.mean() for part in parts], ddof=1)) - within)


def taught(score: np.ndarray, fold: np.ndarray, loss: float) -> float:
    """How much predictions hang on who trained: their variance over repeats, in units of the loss per subject.

    About the number of free coefficients of a learner, as far as its penalty leaves them free. 0 with one repeat, where
    nothing is known of it.

    Args:
        score: (n_repeats, n_subjects) or (n_repeats, n_subjects, n_classes). fold: as in `between_folds`.
        loss: mean squared error.
    """
    if len(score) < 2 or loss <= 0:
        return 0.0
    tested = fold >= 0
    often = tested.sum(axis=0) > 1
    values = score if score.ndim == 3 else score[:, :, None]
    known = np.where(tested[:, often, None], values[:, often], np.nan)
    if not often.any():
        return 0.0
    within = float(np.nanvar(known, axis=0, ddof=1).sum(axis=1).mean())
    # Training sets of many folds share most subjects: they differ less between repeats than between cohorts.
    return score.shape[1] * within / loss * float(fold.max()) / 4.0


def r2_interval(
    loss: np.ndarray,
    base: np.ndarray,
    cluster: np.ndarray,
    widening: Widening,
    between: float = 0.0,
    n_learning: float | None = None,
) -> tuple[float, float]:
    """Interval of 1 - mean(loss) / mean(base), squared errors (n_subjects,), on the log of the ratio.

    (0, 0) for the base itself, which is 0 by definition; NaN where a mean is 0.

    Args:
        between: variance that the training sets add to the mean loss, see `between_folds`.
        n_learning: see `clustered_half_width`.
    """
    if loss.mean() == 0 or base.mean() == 0:
        return float("nan"), float("nan")
    if np.array_equal(loss, base):
        return 0.0, 0.0
    influence = (loss / loss.mean() - base / base.mean()) / loss.size
    half = clustered_half_width(influence, cluster, widening, _relative(between, float(loss.mean())), n_learning)
    ratio = float(loss.mean() / base.mean())
    return 1.0 - ratio * float(np.exp(half)), 1.0 - ratio * float(np.exp(-half))


def clustered_half_width(
    influence: np.ndarray,
    cluster: np.ndarray,
    widening: Widening,
    between: float = 0.0,
    n_learning: float | None = None,
    freedom: float = float("inf"),
) -> float:
    """t quantile times the widened clustered standard error of a sum of influences (n_subjects,).

    NaN with a single family: nothing can be said.

    Args:
        between: variance that the training sets add; counts `widening.between` times, as far as the whole stays
            within `MOST_WIDENING` times that of the tested subjects.
        n_learning: subjects that the floor is in; those of a few-label split where it is one, else the tested.
        freedom: degrees of freedom, where they are fewer than families less one.
    """
    together = np.bincount(np.unique(cluster, return_inverse=True)[1].ravel(), weights=influence)
    n = together.size
    if n < 2:
        return float("nan")
    tested = n / (n - 1) * float((together**2).sum())
    factor = widening.at(influence.size)
    added = min(widening.between * between, max(0.0, MOST_WIDENING - factor) * tested)
    variance = factor * tested + added + (widening.floor / (n_learning or influence.size)) ** 2
    return float(stats.t.ppf(0.975, max(1.0, min(n - 1, freedom)))) * float(np.sqrt(variance))
