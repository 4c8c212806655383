"""Confidence intervals of out-of-fold scores for small samples.

Every subject is tested, and also trains the models that are tested on others. An interval that accounts only for the
first (DeLong, the percentile bootstrap of out-of-fold scores) covers 78-84 % instead of 95 %. The second part has no
unbiased estimate from one cohort (Bengio & Grandvalet 2004, JMLR 5:1089). Therefore, the test-only variance is
multiplied by a factor (`settings.metrics`) that was tuned and confirmed on separate simulated studies
(`benchmarks/coverage.py`).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from connectome_tl.evaluation.intervals.wilson import wilson_interval
from connectome_tl.settings.metrics import MOST_WIDENING, Estimand, Widening

ESTIMANDS: dict[Estimand, str] = {
    "procedure": "this procedure on a new cohort of this size",
    "fitted": "this fitted model on new subjects",
}
TEST_ONLY = Widening(1.0)
TAIL = 0.025  # probability outside each end of an interval
LEAST_AVERAGED = 0.5  # smallest variance of averaged calls, as a fraction of that of single calls
# Variance over repeats, relative to that over subjects, of a learner with an instability of 0.63.
UNSTABLE, UNSTABLE_RANKING = 0.25, 0.18
UNKNOWN_INSTABILITY = 0.8
LONGEST_LOG = 7.0  # half-width on the log scale; a longer interval (a factor of 1,000 to each side) is uninformative


def design_effect(influence: np.ndarray, cluster: np.ndarray) -> float:
    """Variance inflation by families: clustered over independent sum of squares, at least 1."""
    independent = float((influence**2).sum())
    if independent == 0 or np.unique(cluster).size == cluster.size:
        return 1.0
    together = np.bincount(cluster, weights=influence)
    return max(1.0, float((together**2).sum()) / independent)


def one_family(cluster: np.ndarray) -> bool:
    """Whether several subjects all belong to one family, so that the variance cannot be estimated."""
    return cluster.size > 1 and np.unique(cluster).size == 1


def proportion_interval(
    value: np.ndarray,
    cluster: np.ndarray,
    widening: Widening = TEST_ONLY,
    most: float = float("inf"),
) -> tuple[float, float]:
    """Wilson interval of a mean of values in [0, 1] (n_subjects,), for families and training sets.

    Args:
        most: largest effective number of independent subjects.
    """
    if not value.size:
        return float("nan"), float("nan")
    factor = widening.at(cluster.size) * design_effect(value - value.mean(), cluster)
    low, high = wilson_interval(value.mean(), min(value.size / factor, most))
    return float(low), float(high)


def unseen_share(cluster: np.ndarray) -> float:
    """Upper limit of the failure rate of a model that fails for none of these subjects; NaN for one family."""
    if one_family(cluster):
        return float("nan")
    families = np.unique(cluster)
    return proportion_interval(np.zeros(families.size), families)[1]


def averaged_interval(
    value: np.ndarray, cluster: np.ndarray, factor: float, least: float = LEAST_AVERAGED, tail: float = TAIL
) -> tuple[float, float]:
    """Interval of a mean near 0 or 1 of calls in [0, 1] that are averaged over repeats (n_subjects,).

    Quantiles of Beta(k + 1/2, n - k + 1/2), the interval of Jeffreys (Brown, Cai & DasGupta 2001,
    doi:10.1214/ss/1009213286). Averaged calls vary less between subjects than single calls with the same mean.
    Therefore n is the number of single calls with the observed variance, estimated together with half a subject with
    the variance of single calls. For a mean of 0 or 1 it is the number of subjects.

    Args:
        factor: factor on the variance, for training sets.
        least: smallest variance of averaged calls, as a fraction of that of single calls; 1 for single calls.
        tail: probability outside each end.
    """
    if not value.size:
        return float("nan"), float("nan")
    mean, n = float(value.mean()), value.size
    single = n * mean * (1.0 - mean)
    share = max(least, (float(((value - mean) ** 2).sum()) + 0.5) / (single + 0.5))
    effective = n / (factor * share * design_effect(value - mean, cluster))
    k = mean * effective
    low, high = (float(special.betaincinv(k + 0.5, effective - k + 0.5, q)) for q in (tail, 1.0 - tail))
    return (0.0 if mean == 0 else low), (1.0 if mean == 1 else high)


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
        return (float("nan"), float("nan")) if one_family(cluster) else (0.0, 0.0)
    influence = centred(value, strata) / (mean * value.size)
    freedom = float("inf") if strata is None else welch_freedom(influence, strata)
    below, above = log_ends(influence, cluster, widening, _relative(between, mean), n_learning, freedom)
    return mean * float(np.exp(-below)), mean * float(np.exp(above))


def log_ends(
    influence: np.ndarray,
    cluster: np.ndarray,
    widening: Widening,
    between: float = 0.0,
    n_learning: float | None = None,
    freedom: float = float("inf"),
) -> tuple[float, float]:
    """Distances to the ends of an interval of a mean loss on the log scale, towards a smaller and a larger one.

    They differ if the metric requires it (`Widening.larger`): in a cohort with a weak model the loss hardly varies over
    subjects, and only smaller losses of other cohorts are far from it.

    Args: see `clustered_half_width`.
    """
    ends = (widening, widening.larger or widening)
    below, above = (clustered_half_width(influence, cluster, w, between, n_learning, freedom) for w in ends)
    return log_half_width(below), log_half_width(above)


def log_half_width(half: float) -> float:
    """Half-width of an interval on the log scale; NaN if the interval is uninformative or would overflow.

    This happens with two families, since the t quantile with one degree of freedom is 12.7.
    """
    return half if half <= LONGEST_LOG else float("nan")


def _relative(variance: float, mean: float) -> float:
    """Variance relative to the squared mean, finite even if the square underflows.

    For such small means only the bound `MOST_WIDENING` matters.
    """
    return variance / max(mean**2, 1e-150)


def centred(value: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray:
    """Values (n_subjects,) minus the mean of their stratum, scaled for an unbiased variance.

    A stratum of one subject is centred at the overall mean.
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

    With few positives their variance, the largest part of the sum, is estimated poorly.
    """
    sizes = [np.sum(strata == stratum) for stratum in np.unique(strata)]
    parts = [np.sum(influence[strata == stratum] ** 2) for stratum in np.unique(strata)]
    uncertain = sum(part**2 / max(size - 1, 1) for part, size in zip(parts, sizes))
    return float(sum(parts) ** 2 / uncertain) if uncertain > 0 else float("inf")


def between_folds(spread: np.ndarray, fold: np.ndarray) -> float:
    """Variance between fitted models of the spread of predictions, for a mean over test folds.

    A learner that detects a signal in some training sets only will also do so in some cohorts only. The variance
    of a mean over few test subjects is subtracted.

    Args:
        spread: (n_repeats, n_subjects) squared distance of each prediction from that of a model without features.
        fold: (n_repeats, n_subjects), -1 where not tested.
    """
    parts = [s[f == k] for s, f in zip(spread, fold) for k in np.unique(f[f >= 0])]
    parts = [part for part in parts if part.size > 1]
    if len(parts) < 2:
        return 0.0
    within = float(np.mean([part.var(ddof=1) / part.size for part in parts]))
    return max(0.0, float(np.var([part.mean() for part in parts], ddof=1)) - within)


def taught(score: np.ndarray, fold: np.ndarray, loss: float) -> float:
    """Dependence of predictions on the training set: variance over repeats relative to the loss per subject.

    Approximately the effective number of coefficients of a learner. 0 with one repeat, where it cannot be
    estimated.

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
    # Training sets of many folds overlap: they differ less between repeats than between cohorts.
    return score.shape[1] * within / loss * float(fold.max()) / 4.0


def instability(score: np.ndarray, fold: np.ndarray) -> float:
    """Dependence of predictions on the training set: 0 if they are equal in all repeats, at most 1.

    From the variance of a subject's prediction over repeats, relative to that of mean predictions over subjects.
    `UNKNOWN_INSTABILITY` if no subject was tested twice.

    Args: as in `taught`.
    """
    tested = fold >= 0
    often = tested.sum(axis=0) > 1
    if not often.any():
        return UNKNOWN_INSTABILITY
    values = score if score.ndim == 3 else score[:, :, None]
    known = np.where(tested[:, often, None], values[:, often], np.nan)
    within = float(np.nanvar(known, axis=0, ddof=1).sum(axis=1).mean())
    return unstable_share(within, float(np.nanmean(known, axis=0).var(axis=0).sum()), fold, UNSTABLE)


def ranking_instability(score: np.ndarray, fold: np.ndarray) -> float:
    """The same for the ranking within test folds, from differences between two subjects of one fold.

    Models of different folds are not compared, as in the AUC.
    """
    met = np.zeros((fold.shape[1], fold.shape[1]), dtype=np.int32)
    for one in fold.astype(np.int32):
        met += (one[:, None] == one) & (one >= 0)
    first, second = np.nonzero(np.triu(met > 1, 1))  # pairs that were tested together more than once
    if not first.size:
        return UNKNOWN_INSTABILITY
    together = (fold[:, first] == fold[:, second]) & (fold[:, first] >= 0)
    times = met[first, second]
    values = score if score.ndim == 3 else score[:, :, None]
    apart = np.where(together[:, :, None], values[:, first] - values[:, second], 0.0)
    mean = apart.sum(axis=0) / times[:, None]
    within = ((apart**2).sum(axis=0) - times[:, None] * mean**2).sum(axis=1) / (times - 1)
    return unstable_share(float(within.mean()), float((mean**2).sum(axis=1).mean()), fold, UNSTABLE_RANKING)


def unstable_share(within: float, across: float, fold: np.ndarray, scale: float) -> float:
    """1 - exp(-r / scale) for a variance over repeats of r times that over subjects.

    As in `taught`, repeats of many folds are alike, since their training sets overlap.
    """
    relative = max(0.0, within) * float(fold.max()) / 4.0
    return float(-np.expm1(-relative / (scale * across))) if across > 0 else float(relative > 0)


def r2_interval(
    loss: np.ndarray,
    base: np.ndarray,
    cluster: np.ndarray,
    widening: Widening,
    between: float = 0.0,
    n_learning: float | None = None,
) -> tuple[float, float]:
    """Interval of 1 - mean(loss) / mean(base), squared errors (n_subjects,), on the log of the ratio.

    (0, 0) for the base itself, which is 0 by definition; NaN where its mean is 0. If all losses are 0, the lower end is
    for a model that is as good as the base for the largest fraction of subjects that can be absent (`unseen_share`).

    Args:
        between: variance that the training sets add to the mean loss, see `between_folds`.
        n_learning: see `clustered_half_width`.
    """
    if base.mean() == 0:
        return float("nan"), float("nan")
    if np.array_equal(loss, base):
        return 0.0, 0.0
    if loss.mean() == 0:
        return (float("nan"), float("nan")) if one_family(cluster) else (1.0 - unseen_share(cluster), 1.0)
    influence = (loss / loss.mean() - base / base.mean()) / loss.size
    below, above = log_ends(influence, cluster, widening, _relative(between, float(loss.mean())), n_learning)
    ratio = float(loss.mean() / base.mean())
    return 1.0 - ratio * float(np.exp(above)), 1.0 - ratio * float(np.exp(-below))


def clustered_half_width(
    influence: np.ndarray,
    cluster: np.ndarray,
    widening: Widening,
    between: float = 0.0,
    n_learning: float | None = None,
    freedom: float = float("inf"),
) -> float:
    """t quantile times the widened clustered standard error of a sum of influences (n_subjects,).

    NaN with a single family.

    Args:
        between: variance due to the training sets, multiplied by `widening.between`; the total variance is at most
            `MOST_WIDENING` times that of the tested subjects.
        n_learning: number of subjects that the floor is divided by: the training subjects of a few-label split, else
            the tested subjects.
        freedom: degrees of freedom, if fewer than the number of families minus one.
    """
    together = np.bincount(np.unique(cluster, return_inverse=True)[1].ravel(), weights=influence)
    n = together.size
    if n < 2:
        return float("nan")
    tested = n / (n - 1) * float((together**2).sum())
    factor = widening.at(influence.size)
    added = min(widening.between * between, max(0.0, MOST_WIDENING - factor) * tested)
    variance = factor * tested + added + (widening.floor / (n_learning or influence.size)) ** 2
    return float(special.stdtrit(max(1.0, min(n - 1, freedom)), 0.975)) * float(np.sqrt(variance))
