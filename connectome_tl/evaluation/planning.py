"""Expected interval widths and power at a given sample size, before training.

Studies of the given size are simulated with a known truth: `N_FEATURES` independent normal features, a linear model
fitted in each training fold of two repeats, and the package's intervals on its out-of-fold predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize

from connectome_tl.evaluation.power import (
    AUCS,
    LARGEST,
    N_FEATURES,
    N_STUDIES,
    auc_power,
    out_of_fold_scores,
    separation,
    stratified_folds,
)
from connectome_tl.evaluation.scores.compare import paired_difference, verdict
from connectome_tl.evaluation.scores.metrics import regression_metrics
from connectome_tl.evaluation.scores.predictions import OutOfFold
from connectome_tl.plurals import counted
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.records.statistics import Plan
from connectome_tl.tasks import Task

R2S = (0.1, 0.3, 0.5, 0.7)
GAINS = (0.05, 0.1, 0.15, 0.2)
BASE_AUC, BASE_R2 = 0.7, 0.2
SMALLEST = 20  # subjects of a regression; fewer give less than two training subjects per feature
_TRAINING_SETS = 400
Rows = tuple[OutOfFold, ...]  # the model, its control where there is a gain, the training mean


def plan_binary(task: Task, n_positive: int, n_negative: int, *, n_folds: int = 5, seed: int = 0) -> Plan | None:
    """Interval widths and power for the AUC of a binary outcome.

    Returns:
        None if a class has fewer than three subjects, or there are more than 500 subjects.
    """
    single = auc_power(task.name, n_positive, n_negative, n_folds=n_folds, seed=seed)
    if single is None:
        return None
    n, y = n_positive + n_negative, np.repeat([1.0, 0.0], [n_positive, n_negative])

    def study_of(gain: float) -> Callable[[np.random.Generator], Rows]:
        rng = np.random.default_rng([seed, n_positive, n_negative, 1])
        base, whole = (separation(auc, n_positive, n_negative, n_folds, rng) for auc in (BASE_AUC, BASE_AUC + gain))
        extra = float(np.sqrt(max(whole**2 - base**2, 0.0)))

        def study(rng: np.random.Generator) -> Rows:
            x = rng.standard_normal((n, N_FEATURES + 1))
            x[:n_positive, 0] += base
            x[:n_positive, 1] += extra
            fold = np.array([stratified_folds(y, n_folds, rng) for _ in range(2)])
            one, two = (
                np.array([out_of_fold_scores(x[:, seen], y, f) for f in fold])
                for seen in (np.arange(N_FEATURES), np.r_[0, 2 : N_FEATURES + 1])
            )
            return _rows(y, one, fold), _rows(y, two, fold), _rows(y, np.zeros_like(one), fold)

        return study

    found = [_gain(study_of(gain), task, seed) for gain in GAINS]
    return Plan(
        task=task.name,
        metric="auc",
        n=n,
        n_positive=n_positive,
        truth=AUCS,
        width=single.width,
        found=single.interval,
        permutation=single.permutation,
        base=BASE_AUC,
        gain=GAINS,
        gain_width=tuple(width for width, _ in found),
        gain_found=tuple(share for _, share in found),
        n_studies=N_STUDIES,
        method=single.method,
    )


def plan_regression(task: Task, n: int, *, n_folds: int = 5, seed: int = 0) -> Plan | None:
    """Interval widths and power for the R2 of a score.

    Returns:
        None with fewer than 20 or more than 500 subjects.
    """
    if not SMALLEST <= n <= LARGEST:
        return None

    def study_of(base: float, gain: float | None) -> Callable[[np.random.Generator], Rows]:
        first = strength(base, n, n_folds, seed)
        whole = strength(base + (gain or 0.0), n, n_folds, seed)
        control = () if gain is None else ((np.r_[0, 2 : N_FEATURES + 1], penalty(first)),)
        learners = ((np.arange(N_FEATURES), penalty(whole)), *control, (np.arange(0), 0.0))
        extra = max(whole - first, 0.0) / (1.0 + first)  # signal that is missing in the control acts as noise
        beta = np.zeros(N_FEATURES + 1)
        beta[:2] = np.sqrt([first * (1.0 + extra), extra])

        def study(rng: np.random.Generator) -> Rows:
            x = rng.standard_normal((n, N_FEATURES + 1))
            y = x @ beta + rng.standard_normal(n)
            fold = np.array([rng.permutation(n) % n_folds for _ in range(2)])
            predicted = (
                np.array([_ridge_out_of_fold(x[:, seen], y, f, alpha) for f in fold]) for seen, alpha in learners
            )
            return tuple(_rows(y, one, fold) for one in predicted)

        return study

    alone = [_alone(study_of(r2, None), seed) for r2 in R2S]
    found = [_gain(study_of(BASE_R2, gain), task, seed) for gain in GAINS]
    return Plan(
        task=task.name,
        metric="r2",
        n=n,
        truth=R2S,
        width=tuple(width for width, _ in alone),
        found=tuple(share for _, share in alone),
        base=BASE_R2,
        gain=GAINS,
        gain_width=tuple(width for width, _ in found),
        gain_found=tuple(share for _, share in found),
        n_studies=N_STUDIES,
        method=f"{N_STUDIES} simulated studies per value: {N_FEATURES} independent features, ridge, "
        f"{counted(n_folds, 'fold')}, "
        "2 repeats",
    )


@dataclass(frozen=True, eq=False)
class _TrainingSets:
    """Features (n_sets, n_train, n_features) and noise (n_sets, n_train) of many training sets, centred."""

    x: np.ndarray
    noise: np.ndarray

    @staticmethod
    def draw(n_train: int, rng: np.random.Generator) -> _TrainingSets:
        x = rng.standard_normal((_TRAINING_SETS, n_train, N_FEATURES))
        return _TrainingSets(x - x.mean(axis=1, keepdims=True), rng.standard_normal((_TRAINING_SETS, n_train)))

    def r2(self, signal: float) -> float:
        """Mean R2 on new subjects, against the training sets' means (both means cost 1 / n_train of the variance)."""
        n_train, turned = self.x.shape[1], np.swapaxes(self.x, 1, 2)
        beta = np.sqrt(signal)
        y = (beta * self.x[:, :, 0] + self.noise)[..., None]
        weights = np.linalg.solve(turned @ self.x + penalty(signal) * np.eye(N_FEATURES), turned @ y)[..., 0]
        weights[:, 0] -= beta
        total = (1.0 + signal) * (1.0 + 1.0 / n_train)
        error = 1.0 + (weights**2).sum(axis=1) + (1.0 + signal) / n_train
        return float(1.0 - error.mean() / total)


def penalty(signal: float) -> float:
    """Optimal ridge penalty on standardised features that share the signal (relative to noise variance) equally."""
    return N_FEATURES / signal


@lru_cache(maxsize=64)
def strength(r2: float, n: int, n_folds: int, seed: int = 0) -> float:
    """Signal-to-noise variance at which ridge fitted in training folds has the given mean R2 on new subjects."""
    sets = _TrainingSets.draw(round(n * (1 - 1 / n_folds)), np.random.default_rng([seed, n, n_folds]))
    return float(np.exp(optimize.brentq(lambda log: sets.r2(float(np.exp(log))) - r2, -8.0, 8.0, xtol=1e-3)))


def _ridge_out_of_fold(x: np.ndarray, y: np.ndarray, fold: np.ndarray, alpha: float) -> np.ndarray:
    """Predictions (n,) of ridge with a fixed penalty, or of the training mean without features."""
    predicted = np.empty(y.size)
    for k in np.unique(fold):
        train, test = fold != k, fold == k
        mean = y[train].mean()
        if not x.shape[1]:
            predicted[test] = mean
            continue
        centre = x[train].mean(axis=0)
        z = x[train] - centre
        weights = np.linalg.solve(z.T @ z + alpha * np.eye(x.shape[1]), z.T @ (y[train] - mean))
        predicted[test] = mean + (x[test] - centre) @ weights
    return predicted


def _rows(y: np.ndarray, score: np.ndarray, fold: np.ndarray) -> OutOfFold:
    everyone = np.arange(y.size)
    return OutOfFold(everyone.astype(str), y, score, score, fold, everyone)


def _alone(study: Callable[[np.random.Generator], Rows], seed: int) -> tuple[float, float]:
    """Median width of the interval of R2, and fraction of studies whose interval is above 0."""
    ends = []
    for k in range(N_STUDIES):
        model, mean = study(np.random.default_rng([seed, k]))
        ends.append(regression_metrics(model, mean, "procedure")["r2"][1:])
    low, high = np.array(ends).T
    return float(np.median(high - low)), float((low > 0).mean())


def _gain(study: Callable[[np.random.Generator], Rows], task: Task, seed: int) -> tuple[float, float]:
    """Median width of the interval of the difference, and fraction of studies with the verdict "helps"."""
    metric = METRICS[task.spec.primary]
    assert metric.margin is not None
    found = []
    for k in range(N_STUDIES):
        model, control, mean = study(np.random.default_rng([seed, k]))
        found.append(paired_difference(model, control, task, metric.name, mean))
    words = [verdict(d, metric.sign, metric.margin) for d in found]
    return float(np.median([d.high - d.low for d in found])), words.count("helps") / N_STUDIES
