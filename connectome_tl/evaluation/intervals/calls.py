"""Intervals of sensitivity, specificity and balanced accuracy.

The share of positive calls depends on the location of the risks relative to the threshold. A weak model predicts about
the prevalence for all subjects. If the prevalence is near the threshold, but not so near that about half of the
subjects are called positive, models trained on most cohorts call nobody positive and models of some cohorts half of
the subjects; this variation cannot be estimated from a single cohort of any size. If about half of the subjects, or
hardly any, are called positive, other cohorts give similar calls, and the interval is not much wider than that of the
tested subjects, except for the rarer class of a model that may be uninformative. If hardly any are called and the AUC's
interval begins far below 0.5, the interval is shorter.
Factors, shares and sizes were tuned on simulated studies (`benchmarks/coverage.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from connectome_tl.evaluation.intervals.out_of_fold import (
    TAIL,
    averaged_interval,
    mean_interval,
    one_family,
    proportion_interval,
)
from connectome_tl.evaluation.intervals.wilson import Z95
from connectome_tl.settings.metrics import METRICS, Estimand, Widening

Ends = tuple[float, float]  # variance factors of the lower and the upper end

TELLING_AUC = 0.6  # below this lower end of the AUC's interval a model may be weak; below 0.5 it may be uninformative
NEAR = 0.3  # shares of positives from NEAR to 1 - NEAR are near the threshold
ABOUT_HALF = 0.1  # shares of called subjects within this of one half
# Effective numbers of subjects where calls may vary: of the class called less often, and of the other class.
SELDOM_TELLING, OFTEN_TELLING = 6.0, 20.0
SWINGING = 2.2
# The same if the classes are balanced: of the class called by luck, and of one called more often.
EVEN_SELDOM, EVEN_OFTEN = 1.8, 1.5
# Factors where calls do not vary: of a class called for 0.4 of the subjects, decreasing to that for 0.6; and of a class
# called for nearly all subjects, then of a class called for hardly any.
HALF_SELDOM, HALF_OFTEN = 1.4, 1.3
RARE_OFTEN, RARE_SELDOM = (1.1, 1.1), (2.2, 1.3)  # the first has one factor for both ends
# Factors of the upper end of a rare class where the AUC's interval begins below the first value, if at most `HARDLY` of
# the subjects are called this class, and otherwise; up to the second value they increase to that of other models.
RARE_WEAK, HARDLY, WEAK_AUC, OTHER_AUC = (1.05, 1.1), 0.05, 0.33, 0.4
LEAST_RANK = 0.5  # smallest probability by which the tail of this end is divided, see `_rank_at_chance`
# Recalls between which a factor decreases to this; a recall near 1 hardly varies between cohorts.
STEADY, FROM_RECALL, TO_RECALL = 1.2, 0.5, 0.8


class CallIntervals(NamedTuple):
    """(value, low, high) of each."""

    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]
    balanced_accuracy: tuple[float, float, float]


class _Situation(NamedTuple):
    """Properties of a model's calls that both classes share."""

    near: bool  # the fraction of positives is near the threshold
    swings: bool  # models of other cohorts may call a very different share
    open_ended: bool  # models of other cohorts may call no subject, or all subjects
    steady: bool  # a recall near 1 is assumed to be near 1 in other cohorts
    even: bool  # the classes are as balanced as possible
    by_luck: bool  # about half are called by a model that may be uninformative, and models of other cohorts call fewer
    weak: float  # 1 if the AUC's interval begins at `WEAK_AUC` or below, 0 from `OTHER_AUC` on


def call_intervals(
    called: np.ndarray,
    positive: np.ndarray,
    cluster: np.ndarray,
    auc: tuple[float, float],
    estimand: Estimand = "procedure",
    draws: int = 1,
) -> CallIntervals:
    """Intervals of sensitivity, specificity and balanced accuracy: Wilson's, and Jeffreys' for a recall near 1.

    For a procedure: if the AUC may be 0.5, the end towards "calls no subject" (or "calls all", if it calls most) is
    open, unless about half are called. If the share of positives is near the threshold, the AUC may be below
    `TELLING_AUC` and calls are not about half, the interval is based on at most `SELDOM_TELLING` subjects. If one
    class is rare, the recall of the other one hardly varies between cohorts (`averaged_interval`). The
    balanced accuracy needs no such rule; if a class is rare, its interval combines those of both recalls without
    open ends. Its upper end uses calls and ranks as two pieces of evidence: a model that detects some positives with
    certainty and ranks the others at random has few detections and an AUC this low with the product of two
    probabilities, so that the tail after few detections is divided by the probability of the AUC. If no class is rare,
    the factor of its lower end decreases to `STEADY` where it is near 1, as that of the AUC does.

    Args:
        called: (n_subjects,) share of the repeats in which a subject is called positive.
        positive: (n_subjects,) True for positives.
        auc: the procedure's interval of the AUC.
        draws: number of repeats of a few-label split, each with other training subjects.
    """
    usual = METRICS["balanced_accuracy"].widening[estimand]
    situation = _situation(called, positive, auc)
    found, parts = [], []
    sides = ((called[positive], cluster[positive], True), (1.0 - called[~positive], cluster[~positive], False))
    recalls = [float(value.mean()) if value.size else float("nan") for value, _, _ in sides]
    balanced = sum(recalls) / 2.0
    near_one = 4.0 * balanced * (1.0 - balanced) if balanced > 0.5 else 1.0
    factors = STEADY + (usual.factor - STEADY) * near_one, usual.factor
    for mean, (value, families, is_positive) in zip(recalls, sides):
        often = float(called.mean()) if is_positive else 1.0 - float(called.mean())
        if estimand == "fitted" or situation.near:
            share = _share_of_single(value, draws)
            parts.append((mean, *_edged(value, families, (factors[0] * share, factors[1] * share))))
        else:
            tail = TAIL / max(_rank_at_chance(auc), LEAST_RANK)
            parts.append((mean, *_rare_interval(value, families, often, _rare(often), situation.weak, tail)))
        if estimand == "fitted":
            low, high = proportion_interval(value, families, METRICS["sensitivity"].widening["fitted"])
        else:
            rarer = 2 * value.size < positive.size  # the class that models of other cohorts may call nobody
            own = situation if rarer or not situation.by_luck else situation._replace(by_luck=False, steady=True)
            low, high = _recall_interval(value, families, often, own, draws)
        found.append((mean, low, high))
    if one_family(cluster):
        return CallIntervals(*((value, float("nan"), float("nan")) for value in (found[0][0], found[1][0], balanced)))
    return CallIntervals(found[0], found[1], (balanced, *mean_interval(parts[0], parts[1])))


def _situation(called: np.ndarray, positive: np.ndarray, auc: tuple[float, float]) -> _Situation:
    near = positive.size > 0 and bool(NEAR <= positive.mean() <= 1.0 - NEAR)
    half = near and abs(float(called.mean()) - 0.5) < ABOUT_HALF
    knows_little, knows_nothing = (not (auc[0] > telling or auc[1] < 1.0 - telling) for telling in (TELLING_AUC, 0.5))
    even = abs(2 * int(positive.sum()) - positive.size) <= 1
    by_luck = half and knows_nothing and 2 * int(positive.sum()) != positive.size
    weak = float(np.clip((OTHER_AUC - auc[0]) / (OTHER_AUC - WEAK_AUC), 0.0, 1.0)) if np.isfinite(auc[0]) else 0.0
    return _Situation(
        near,
        near and knows_little and not half,
        knows_nothing and not half,
        not by_luck and (half or not knows_nothing),
        even,
        by_luck,
        weak,
    )


def _rank_at_chance(auc: tuple[float, float]) -> float:
    """Probability that a model without information has an AUC below the observed one, from the interval (on logits)."""
    low, high = special.logit(np.clip(auc, 1e-6, 1.0 - 1e-6))
    return float(special.ndtr(Z95 * (low + high) / (high - low))) if high > low else 1.0


def _recall_interval(
    value: np.ndarray, families: np.ndarray, often: float, situation: _Situation, draws: int
) -> tuple[float, float]:
    """Interval of the recall of one class, for a procedure.

    Args:
        value: (n_subjects,) share of the repeats in which a subject is called correctly.
        often: share of all subjects that are called this class.
    """
    if not value.size:
        return float("nan"), float("nan")
    if situation.swings and often > 0.5:
        ends, most = (EVEN_OFTEN if situation.even else SWINGING,) * 2, OFTEN_TELLING
    elif situation.swings:
        ends, most = (SWINGING, SWINGING), SELDOM_TELLING * draws
    elif situation.by_luck:
        ends, most = (EVEN_SELDOM if situation.even else SWINGING,) * 2, float("inf")
    elif situation.near:
        share = min(1.0, max(0.0, (often - 0.5 + ABOUT_HALF) / (2 * ABOUT_HALF)))
        ends, most = (HALF_SELDOM + share * (HALF_OFTEN - HALF_SELDOM),) * 2, float("inf")
    else:
        ends, most = _rare(often), float("inf")
    if situation.steady:
        ends = (_steadied(ends[0], float(value.mean())), _steadied(ends[1], float(value.mean())))
    if situation.swings or situation.by_luck:
        low, high = _between(value, families, ends, most)
    elif situation.near:
        low, high = _edged(value, families, ends)
    else:
        low, high = _rare_interval(value, families, often, ends, situation.weak)
    if situation.open_ended:
        return (low, high if situation.even else 1.0) if often > 0.5 else (0.0, high)
    return low, high


def _rare(often: float) -> Ends:
    """Factors of a class that a share `often` of the subjects is called, if one class is rare."""
    return RARE_OFTEN if often > 0.5 else RARE_SELDOM


def _rare_interval(
    value: np.ndarray, families: np.ndarray, often: float, ends: Ends, weak: float, tail: float = TAIL
) -> tuple[float, float]:
    """Interval of the recall of a class that a fraction `often` of the subjects is called, if one class is rare.

    A recall near 1 of the class called more often hardly varies between cohorts; another one may. A model that ranks no
    better than chance also calls hardly anyone in other cohorts: the upper end of the class called less often is that
    of Jeffreys' interval, which is shorter than Wilson's.

    Args:
        weak: see `_Situation`.
        tail: probability outside this upper end.
    """
    if often > 0.5 and value.size and value.mean() >= TO_RECALL:
        return averaged_interval(value, families, ends[0])
    low, high = _edged(value, families, ends)
    if often <= 0.5 and weak > 0:
        factor = RARE_WEAK[0 if often <= HARDLY else 1]
        shorter = averaged_interval(value, families, factor, least=1.0, tail=tail)[1]
        high += weak * (min(shorter, high) - high)
    return low, high


def _between(value: np.ndarray, families: np.ndarray, ends: Ends, most: float = float("inf")) -> tuple[float, float]:
    """Wilson interval with a factor for each end."""
    low, high = (proportion_interval(value, families, Widening(factor), most)[k] for k, factor in enumerate(ends))
    return low, high


def _edged(value: np.ndarray, families: np.ndarray, ends: Ends) -> tuple[float, float]:
    """As `_between`, but Jeffreys' interval, which is shorter, for a mean near 1."""
    if not value.size or value.mean() < TO_RECALL:
        return _between(value, families, ends)
    low, high = (averaged_interval(value, families, factor, least=1.0)[k] for k, factor in enumerate(ends))
    return low, high


def _share_of_single(value: np.ndarray, draws: int) -> float:
    """Variance of calls averaged over draws of training subjects, as a fraction of that of single calls."""
    mean = float(value.mean()) if value.size else 0.0
    single = mean * (1.0 - mean)
    return min(1.0, max(2.0 / draws, float(value.var()) / single)) if draws > 2 and single > 0 else 1.0


def _steadied(factor: float, recall: float) -> float:
    """The factor of a class of this recall."""
    share = min(1.0, max(0.0, (recall - FROM_RECALL) / (TO_RECALL - FROM_RECALL)))
    return factor + share * (min(STEADY, factor) - factor)
