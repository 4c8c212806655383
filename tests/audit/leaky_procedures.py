"""Procedures with one leak each, which the guard must detect, and correct procedures, which it must accept."""

from __future__ import annotations

import numpy as np

from connectome_tl.audit.procedure import StudyRows
from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.baselines.engines.logistic import fit_logistic

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
    """Site effects removed from all rows while the outcome of all rows is protected."""
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
    """Principal directions of all rows, including the test rows."""
    x = rows.x - rows.x.mean(axis=0)
    directions = np.linalg.svd(x, full_matrices=False)[2][:10]
    return predict(x @ directions.T, rows.y, train, test)


def _auc(y, score):
    if len(set(y)) < 2:  # a test fold of one class has no pairs to rank
        return 0.5
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
    """A canary: outcomes stored by the subjects' names."""
    score, _ = predict(rows.x, rows.y, train, test)
    score = score + np.array([KNOWN.get(rows.ids[i], 0.0) for i in test])
    return score, (score > 0).astype(int)


KNOWN: dict[str, float] = {}


def scaled_over_all_rows(rows, train, test):
    """Each edge as its rank among all rows, including the test rows."""
    return predict(rows.x.argsort(axis=0).argsort(axis=0).astype(float), rows.y, train, test)


def taught_by_its_own_guesses(rows, train, test):
    """Test rows are added to the training rows with the classes predicted by a first model."""
    _, called = predict(rows.x, rows.y, train, test)
    y = rows.y.copy()
    y[test] = called
    both = np.r_[train, test]
    score = fit_ridge(rows.x[both], 2 * y[both] - 1, ALPHAS).predict(rows.x[test])[:, 0]
    return score, (score > 0).astype(int)


def scores_centred_on_the_test_rows(rows, train, test):
    score, _ = predict(rows.x, rows.y, train, test)
    score = score - score.mean()
    return score, (score > 0).astype(int)


def sign_turned_by_the_test_score(rows, train, test):
    score, _ = predict(rows.x, rows.y, train, test)
    score = score if _auc(rows.y[test], score) >= 0.5 else -score
    return score, (score > 0).astype(int)


def sites_coded_by_all_outcomes(rows, train, test):
    """The proportion of positives of each site, over all rows, as a feature."""
    share = np.array([rows.y[rows.site == s].mean() for s in (0, 1)])
    return predict(np.column_stack([rows.x, 20 * share[rows.site]]), rows.y, train, test)


def outliers_dropped_over_all_rows(rows, train, test):
    """Training rows far from the mean of all rows are excluded."""
    distance = ((rows.x - rows.x.mean(axis=0)) ** 2).sum(axis=1)
    kept = train[distance[train] <= np.quantile(distance, 0.8)]
    return predict(rows.x, rows.y, kept, test)


def oversampled_before_the_split(rows, train, test):
    """New positives halfway between any two positives, including the test rows."""
    positive = np.flatnonzero(rows.y == 1)
    made = (rows.x[positive] + rows.x[np.roll(positive, 1)]) / 2
    x, y = np.vstack([rows.x, made]), np.r_[rows.y, np.ones(len(made))]
    return predict(x, y, np.r_[train, np.arange(len(rows.y), len(y))], test)


def neighbours_of_all_rows(rows, train, test):
    """The mean outcome of the nearest three rows, training or test."""
    distance = ((rows.x[test][:, None] - rows.x[None]) ** 2).sum(axis=2)
    distance[np.arange(len(test)), test] = np.inf
    score, _ = predict(rows.x, rows.y, train, test)
    score = score + 0.1 * rows.y[np.argsort(distance, axis=1)[:, :3]].mean(axis=1)
    return score, (score > 0).astype(int)


def two_models_weighed_on_test(rows, train, test):
    one, two = (predict(rows.x[:, half], rows.y, train, test)[0] for half in (slice(0, 30), slice(30, 60)))
    score = max((w * one + (1 - w) * two for w in np.linspace(0, 1, 9)), key=lambda s: _auc(rows.y[test], s))
    return score, (score > 0).astype(int)


def cut_at_the_share_of_all_positives(rows, train, test):
    """The number of predicted positives equals the number of positive test rows."""
    score, _ = predict(rows.x, rows.y, train, test)
    n = int(rows.y[test].sum())
    called = np.zeros(len(test), dtype=int)
    called[np.argsort(-score)[:n]] = 1
    return score, called


def place_in_the_table(rows, train, test):
    """The row number as a feature; tables are often sorted by group."""
    return predict(np.column_stack([rows.x, np.arange(len(rows.y))]), rows.y, train, test)


def a_prior_from_everybody(rows, train, test):
    """The proportion of positives of all rows, instead of the training rows, shifts the risks."""
    score, _ = predict(rows.x, rows.y, train, test)
    score = score + 2 * rows.y.mean() - 1
    return score, (score > 0).astype(int)


def rows_scaled_by_outcome_group(rows, train, test):
    """Rows are centred within their outcome group, the test rows within that of their true outcome."""
    x = rows.x.copy()
    for group in (0, 1):
        inside = rows.y == group
        if inside.any():
            x[inside] -= 0.5 * x[inside].mean(axis=0)
    return predict(x, rows.y, train, test)


def gaps_filled_with_the_mean_of_the_outcome_group(rows, train, test):
    """The largest values count as failed and are replaced by the mean of the subject's own outcome group."""
    x = rows.x.copy()
    high = x > np.quantile(x, 0.9, axis=0)
    for group in (0, 1):
        inside = rows.y == group
        if inside.any():
            x[inside] = np.where(high[inside], x[inside].mean(axis=0), x[inside])
    return predict(x, rows.y, train, test)


def weighed_by_the_likeness_to_test_rows(rows, train, test):
    """Training rows far from the test rows have less weight (covariate shift corrected with the test rows)."""
    centre = rows.x[test].mean(axis=0)
    distance = ((rows.x[train] - centre) ** 2).mean(axis=1)
    x = rows.x.copy()
    x[train] = x[train] / np.sqrt(1 + distance)[:, None]
    return predict(x, rows.y, train, test)


LEAKY = [
    selection_before_the_split,
    harmonised_with_the_outcome,
    harmonised_over_all_rows,
    threshold_on_test,
    adaptation_on_test,
    epoch_chosen_on_test,
    tuned_on_the_outer_score,
    looked_up_by_name,
    scaled_over_all_rows,
    taught_by_its_own_guesses,
    scores_centred_on_the_test_rows,
    sign_turned_by_the_test_score,
    sites_coded_by_all_outcomes,
    outliers_dropped_over_all_rows,
    oversampled_before_the_split,
    neighbours_of_all_rows,
    two_models_weighed_on_test,
    cut_at_the_share_of_all_positives,
    place_in_the_table,
    a_prior_from_everybody,
    rows_scaled_by_outcome_group,
    gaps_filled_with_the_mean_of_the_outcome_group,
    weighed_by_the_likeness_to_test_rows,
]
