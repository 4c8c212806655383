"""Procedures that leak, each in one way, and honest ones: what the guard must catch, and what it must let pass."""

from __future__ import annotations

import numpy as np

from connectome_tl.audit.procedure import StudyRows
from connectome_tl.evaluation.baselines.linear import fit_ridge
from connectome_tl.evaluation.baselines.logistic import fit_logistic

ALPHAS = (10.0, 100.0, 1000.0)


def study(seed=0, n=36, n_features=60, signal=0.4):
    rng = np.random.default_rng(seed)
    y = (rng.permutation(n) < n * 0.45).astype(float)
    site = rng.integers(0, 2, n)
    x = rng.standard_normal((n, n_features)) + signal * y[:, None] * (np.arange(n_features) < 8)
    x += 0.8 * site[:, None] * rng.standard_normal(n_features)
    fold = np.empty(n, dtype=int)
    for c in (0, 1):
        members = rng.permutation(np.flatnonzero(y == c))
        fold[members] = np.arange(members.size) % 4
    folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(4)]
    return StudyRows(tuple(f"s{i}" for i in range(n)), x, y, site), folds


def predict(x, y, train, test, alphas=ALPHAS):
    score = fit_ridge(x[train], 2 * y[train] - 1, alphas).predict(x[test])[:, 0]
    return score, (score > 0).astype(int)


def honest_ridge(rows, train, test):
    return predict(rows.x, rows.y, train, test)


def honest_logistic(rows, train, test):
    p = fit_logistic(rows.x[train], rows.y[train], ALPHAS).predict_probability(rows.x[test])[:, 0]
    return p, (p > 0.5).astype(int)


def strongest(x, y, rows, n=15):
    gap = np.abs(x[rows][y[rows] == 1].mean(axis=0) - x[rows][y[rows] == 0].mean(axis=0))
    return np.argsort(-gap, kind="stable")[:n]


def honest_selection(rows, train, test):
    return predict(rows.x[:, strongest(rows.x, rows.y, train)], rows.y, train, test)


def honest_site_means(rows, train, test):
    means = np.array([rows.x[train][rows.site[train] == s].mean(axis=0) for s in (0, 1)])
    return predict(rows.x - means[rows.site], rows.y, train, test)


HONEST = [honest_ridge, honest_logistic, honest_selection, honest_site_means]


def selection_before_the_split(rows, train, test):
    return predict(rows.x[:, strongest(rows.x, rows.y, np.arange(len(rows.y)))], rows.y, train, test)


def harmonised_with_the_outcome(rows, train, test):
    """Site effects taken out of all rows while the outcome of all rows is protected."""
    design = np.column_stack([np.ones(len(rows.y)), rows.site, rows.y])
    weights = np.linalg.lstsq(design, rows.x, rcond=None)[0]
    return predict(rows.x - np.outer(rows.site, weights[1]), rows.y, train, test)


def harmonised_over_all_rows(rows, train, test):
    means = np.array([rows.x[rows.site == s].mean(axis=0) for s in (0, 1)])
    return predict(rows.x - means[rows.site], rows.y, train, test)


def threshold_on_test(rows, train, test):
    score, _ = predict(rows.x, rows.y, train, test)
    cuts = np.sort(score)
    right = [((score >= c) == rows.y[test]).mean() for c in cuts]
    return score, (score >= cuts[int(np.argmax(right))]).astype(int)


def adaptation_on_test(rows, train, test):
    """Principal directions of all rows, the test rows among them."""
    x = rows.x - rows.x.mean(axis=0)
    directions = np.linalg.svd(x, full_matrices=False)[2][:10]
    return predict(x @ directions.T, rows.y, train, test)


def _auc(y, score):
    return float(np.mean((score[y == 1][:, None] > score[y == 0][None, :]).astype(float)))


def epoch_chosen_on_test(rows, train, test):
    """Gradient descent, stopped where the test score is best."""
    x = (rows.x - rows.x[train].mean(axis=0)) / rows.x[train].std(axis=0)
    w, best = np.zeros(x.shape[1]), None
    for _ in range(25):
        p = 1 / (1 + np.exp(-x[train] @ w))
        w = w + 0.05 * x[train].T @ (rows.y[train] - p) / len(train)
        score = x[test] @ w
        if best is None or _auc(rows.y[test], score) > best[0]:
            best = (_auc(rows.y[test], score), score)
    return best[1], (best[1] > 0).astype(int)


def tuned_on_the_outer_score(rows, train, test):
    tried = [predict(rows.x, rows.y, train, test, (a,)) for a in (1.0, 30.0, 1e3, 1e5)]
    return max(tried, key=lambda found: _auc(rows.y[test], found[0]))


def looked_up_by_name(rows, train, test):
    """A canary: outcomes remembered under the subjects' names."""
    score, _ = predict(rows.x, rows.y, train, test)
    score = score + np.array([KNOWN.get(rows.ids[i], 0.0) for i in test])
    return score, (score > 0).astype(int)


KNOWN: dict[str, float] = {}
LEAKY = [
    selection_before_the_split,
    harmonised_with_the_outcome,
    harmonised_over_all_rows,
    threshold_on_test,
    adaptation_on_test,
    epoch_chosen_on_test,
    tuned_on_the_outer_score,
    looked_up_by_name,
]
