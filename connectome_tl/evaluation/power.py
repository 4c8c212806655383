"""Simulate studies of a given size with known truth, to estimate their power."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from connectome_tl.evaluation.intervals.out_of_fold import ranking_instability
from connectome_tl.evaluation.intervals.pairs import auc_interval, within_fold_pairs
from connectome_tl.plurals import counted
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.records.statistics import Power

AUCS = (0.6, 0.7, 0.8, 0.9)
N_FEATURES = 10
N_STUDIES = 300
_N_PERMUTATIONS, _LEVEL = 59, 0.05
_MOST_VALUES = 2_000_000  # in one array of simulated studies
LARGEST = 500  # subjects; larger studies are slow to simulate and not the purpose of this function


def auc_power(task: str, n_positive: int, n_negative: int, *, n_folds: int = 5, seed: int = 0) -> Power | None:
    """Power of the 95 % interval (excludes 0.5) and of a permutation test at 5 %, by the true AUC.

    A simulated study has `N_FEATURES` independent normal features, one of which separates the classes. Its model
    is the difference of the class means, fitted in each training fold of two repeats. The true AUC is that of the
    procedure: the mean AUC of such fitted models on new subjects. Each permutation refits the models of the first
    repeat.

    Returns:
        None if a class has fewer subjects than the folds require, or the study has more than 500.
    """
    if min(n_positive, n_negative) < 3 or n_positive + n_negative > LARGEST:
        return None
    both = [_power_at(auc, n_positive, n_negative, n_folds, seed) for auc in AUCS]
    return Power(
        task=task,
        n=n_positive + n_negative,
        n_positive=n_positive,
        auc=AUCS,
        interval=tuple(one for one, _, _ in both),
        permutation=tuple(two for _, two, _ in both),
        width=tuple(three for _, _, three in both),
        n_studies=N_STUDIES,
        method=f"{N_STUDIES} simulated studies per AUC: {N_FEATURES} independent features, difference of class means, "
        f"{counted(n_folds, 'fold')}, 2 repeats; {_N_PERMUTATIONS} permutations",
    )


@lru_cache(maxsize=64)
def _power_at(auc: float, n_positive: int, n_negative: int, n_folds: int, seed: int) -> tuple[float, float, float]:
    rng = np.random.default_rng([seed, n_positive, n_negative, n_folds, round(1000 * auc)])
    n, gap = n_positive + n_negative, separation(auc, n_positive, n_negative, n_folds, rng)
    y = np.repeat([1.0, 0.0], [n_positive, n_negative])
    excluded, widths, p_values = 0, [], []
    waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    at_once = max(1, _MOST_VALUES // ((_N_PERMUTATIONS + 1) * n_folds * n))
    for k in range(N_STUDIES):
        x = rng.standard_normal((n, N_FEATURES))
        x[:n_positive, 0] += gap
        fold = np.array([stratified_folds(y, n_folds, rng) for _ in range(2)])
        score = np.array([out_of_fold_scores(x, y, one) for one in fold])
        wide = METRICS["auc"].widening["procedure"].of_learner(ranking_instability(score, fold))
        low, high = auc_interval(within_fold_pairs(y, score, fold), np.arange(n), wide)
        excluded += low > 0.5
        widths.append(high - low)
        waiting.append((x, np.vstack([y, rng.permuted(np.tile(y, (_N_PERMUTATIONS, 1)), axis=1)]), fold[0]))
        if len(waiting) == at_once or k == N_STUDIES - 1:
            statistic = permuted_aucs(*(np.stack(part) for part in zip(*waiting, strict=True)))
            p_values += list((statistic >= statistic[:, :1]).mean(axis=1))
            waiting.clear()
    return excluded / N_STUDIES, float(np.mean(np.array(p_values) <= _LEVEL)), float(np.median(widths))


def permuted_aucs(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Within-fold AUCs (n_studies, n_labellings) of class-mean differences that are fitted again for each labelling.

    Args:
        x: (n_studies, n_subjects, n_features), without ties. y: (n_studies, n_labellings, n_subjects) 0 and 1.
        fold: (n_studies, n_subjects).
    """
    tested = fold[:, None, :] == np.arange(fold.max() + 1)[:, None]
    weight = np.zeros(())
    for sign, labels in ((1.0, y), (-1.0, 1 - y)):
        members = labels[:, :, None, :] * ~tested[:, None]
        weight = weight + sign * (members @ x[:, None]) / np.maximum(members.sum(axis=-1, keepdims=True), 1)
    score = np.take_along_axis(weight @ x.transpose(0, 2, 1)[:, None], fold[:, None, None, :], axis=2)[:, :, 0]
    order = np.lexsort((score, np.broadcast_to(fold[:, None], score.shape)), axis=-1)  # by fold, then by score
    before = (fold[:, None, :] < np.sort(fold)[:, :, None]).sum(axis=2)  # subjects of earlier folds
    rank = np.arange(1, fold.shape[1] + 1) - before
    n_positive = y @ tested.transpose(0, 2, 1)  # by labelling and fold
    met = (n_positive * (tested.sum(axis=2)[:, None] - n_positive)).sum(axis=2)
    won = (np.take_along_axis(y, order, axis=-1) * rank[:, None]).sum(axis=2)
    won = won - (n_positive * (n_positive + 1) / 2).sum(axis=2)
    return np.where(met > 0, won / np.maximum(met, 1), np.inf)


def separation(auc: float, n_positive: int, n_negative: int, n_folds: int, rng: np.random.Generator) -> float:
    """Distance of the class means at which models fitted in training folds have the given mean AUC."""
    share = 1 - 1 / n_folds
    error = np.sqrt(1 / (share * n_positive) + 1 / (share * n_negative))  # of each fitted class-mean difference
    along, across = rng.standard_normal(4000), rng.chisquare(N_FEATURES - 1, 4000)

    def excess(gap: float) -> float:
        weight = gap + error * along
        length = np.sqrt(2 * (weight**2 + error**2 * across))
        return float(stats.norm.cdf(weight * gap / length).mean()) - auc

    return float(optimize.brentq(excess, 1e-6, 20.0))


def stratified_folds(y: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """(n_subjects,) fold numbers, each class spread evenly."""
    fold = np.empty(y.size, dtype=int)
    for label in (0.0, 1.0):
        members = np.flatnonzero(y == label)
        fold[rng.permutation(members)] = (np.arange(members.size) + rng.integers(n_folds)) % n_folds
    return fold


def out_of_fold_scores(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Scores (..., n_subjects) of class-mean differences fitted without each subject's fold, for labels (..., n)."""
    train = (fold[None, :] != np.arange(fold.max() + 1)[:, None]).astype(float)
    means = []
    for labels in (y, 1 - y):
        members = train * labels[..., None, :]
        means.append(members @ x / np.maximum(members.sum(axis=-1, keepdims=True), 1))
    scores = (means[0] - means[1]) @ x.T
    return np.take_along_axis(scores, np.broadcast_to(fold, (*y.shape[:-1], 1, fold.size)), axis=-2)[..., 0, :]
