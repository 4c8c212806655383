"""Connectome-based predictive modelling: selected edges, summed, in a linear model.

Shen et al. 2017, doi:10.1038/nprot.2016.178. A binary outcome is 0 and 1 (the point-biserial correlation).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import stats

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.inner_folds import chosen_by_inner_folds, inner_parts
from connectome_tl.evaluation.baselines.engines.learners import calibrated, risks_of
from connectome_tl.settings.baselines import CpmSettings

_AT_ONCE = 64  # labellings per batch, to limit memory
_SAMPLES_AT_ONCE = 25


def fit_predict(settings: CpmSettings, train: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions, (1, n_test, n_labellings), for one setting.

    The mean of the labels is predicted if no edge passes the threshold.

    Args:
        train, test: (n_rows, n_edges); NaN, for an absent edge, is replaced by the mean of the training rows.
        y: (n_train, n_labellings), without missing values.
    """
    known = ~np.isnan(train)
    mean = np.where(known, train, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    train, test = (np.where(np.isnan(rows), mean, rows) for rows in (train, test))
    centred = train - mean
    spread = np.sqrt((centred**2).sum(axis=0))
    varies = spread > 1e-12 * np.maximum(np.abs(mean), 1e-300) * np.sqrt(len(train))
    z = np.where(varies, centred / np.where(varies, spread, 1.0), 0.0)
    least = smallest_correlation(len(train), settings.threshold)
    found = np.empty((1, len(test), y.shape[1]))
    for start in range(0, y.shape[1], _AT_ONCE):
        cut = slice(start, start + _AT_ONCE)
        labels = y[:, cut] - y[:, cut].mean(axis=0)
        length = np.sqrt((labels**2).sum(axis=0))
        r = z.T @ (labels / np.where(length > 0, length, 1.0))
        masks = {"positive": (r > least).astype(float), "negative": (r < -least).astype(float)}
        asked = [masks[name] for name in ("positive", "negative") if settings.network in ("both", name)]
        sums = [np.stack([rows @ mask for mask in asked]) for rows in (train, test)]  # (n_sums, n_rows, n_labellings)
        for column in range(labels.shape[1]):
            design, other = (np.column_stack([np.ones(part.shape[1]), part[:, :, column].T]) for part in sums)
            weights = np.linalg.lstsq(design, y[:, start + column], rcond=None)[0]
            found[0, :, start + column] = other @ weights
    return found


def smallest_correlation(n: int, threshold: float) -> float:
    """Smallest correlation of `n` pairs with a two-sided p value of `threshold`; above 1 if none reaches it."""
    if n < 3:
        return np.inf
    t = float(stats.t.isf(threshold / 2, n - 2))
    return float(t / np.sqrt(n - 2 + t**2))


def solve(settings: CpmSettings, design: Design, y: np.ndarray) -> Scored:
    """Test scores (n_test, n_labellings) and held-out scores of the training rows.

    Labels of unknown outcomes are NaN.
    """
    return chosen_by_inner_folds(partial(fit_predict, settings), design, y)


def refits(
    settings: CpmSettings,
    train: np.ndarray,
    test: np.ndarray,
    y: np.ndarray,
    families: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """Many bootstrap samples in one call, see `Refit`."""
    center = np.nan_to_num(np.nanmean(np.where(np.isnan(train).all(axis=0), 0.0, train), axis=0))
    edges = np.vstack([train, test]) - center  # centre to avoid cancellation in the sums of squares
    outcome, every = np.nan_to_num(y), np.arange(len(train))
    found = np.empty((len(counts), len(test)))
    for start in range(0, len(counts), _SAMPLES_AT_ONCE):
        some = counts[start : start + _SAMPLES_AT_ONCE]
        part = np.full(some.shape, -1)
        for own, count in zip(part, some, strict=True):
            own[count > 0] = inner_parts(families[count > 0])
        left_out = np.zeros(some.shape)
        for k in range(int(part.max()) + 1):
            without = np.where(part == k, 0, some)
            without = np.where(without.any(axis=1, keepdims=True), without, some)
            left_out = np.where(part == k, _weighted(settings, edges, outcome, without)[:, : len(train)], left_out)
        scores = _weighted(settings, edges, outcome, some)[:, len(train) :]
        for b, count in enumerate(some):
            rows = np.repeat(every, count)
            scored = Scored(scores[b][:, None], left_out[b][rows][:, None])
            found[start + b] = risks_of(scored, y[rows], families[rows])
    return found


def _weighted(settings: CpmSettings, edges: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`fit_predict` on counted rows, with predictions for all rows, (n_samples, n_rows).

    Args:
        edges: (n_rows, n_edges), training rows first. y: (n_train,). counts: (n_samples, n_train).
    """
    weight, n_train = counts.astype(float), counts.shape[1]
    known = np.isfinite(edges)
    rows, complete = np.where(known, edges, 0.0), bool(known.all())
    train, seen = rows[:n_train], known[:n_train].astype(float)
    size = weight.sum(axis=1, keepdims=True)
    labels = y - weight @ y[:, None] / size  # (n_samples, n_train)
    length = np.sqrt((weight * labels**2).sum(axis=1, keepdims=True))
    total, product = weight @ train, (weight * labels) @ train
    mean = total / (size if complete else np.maximum(weight @ seen, 1.0))
    if not complete:  # replace an absent edge by the mean of the sample
        product -= ((weight * labels) @ seen) * mean
    variation = weight @ train**2 - total * mean
    varies = variation > 1e-10 * (train**2).sum(axis=0)
    r = np.where(varies, product / np.sqrt(np.where(varies, variation, 1.0)), 0.0)
    r /= np.where(length > 0, length, 1.0)
    least = np.array([[smallest_correlation(int(n), settings.threshold)] for n in size[:, 0]])
    masks = {"positive": r > least, "negative": r < -least}
    asked = [masks[name].astype(float) for name in ("positive", "negative") if settings.network in ("both", name)]
    sums = [rows @ mask.T for mask in asked]  # each (n_rows, n_samples)
    if not complete:
        sums = [one + (~known).astype(float) @ (mask * mean).T for one, mask in zip(sums, asked, strict=True)]
    found = np.empty((len(counts), len(edges)))
    for b, count in enumerate(weight):
        design, root = np.column_stack([np.ones(len(edges)), *(one[:, b] for one in sums)]), np.sqrt(count)
        weights = np.linalg.lstsq(design[:n_train] * root[:, None], y * root, rcond=None)[0]
        found[b] = design @ weights
    return found


def cpm(data: BaselineData) -> list[Baseline]:
    """Connectome-based predictive modelling (doi:10.1038/nprot.2016.178); none for a cohort without connectomes."""
    settings = data.study.baseline_settings.cpm
    learner = calibrated(partial(solve, settings), refits=partial(refits, settings))
    return [Baseline(data.edges, data.tasks, learner)] if data.target.regions else []
