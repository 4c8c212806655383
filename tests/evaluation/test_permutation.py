"""Permutations move whole rows between exchangeable blocks, refit everything, and have the nominal error."""

from __future__ import annotations

from math import factorial, prod

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.permutation.added_value import FoldEdges, ResidualEdges, added_value_statistics
from connectome_tl.evaluation.permutation.tests import (
    FoldRows,
    exchangeable_permutations,
    linear_statistics,
    n_arrangements,
    permutation_results,
)
from connectome_tl.tasks import Task

MOTOR = Task(name="motor", kind="binary", column="motor")
SCORE = Task(name="score", kind="regression", column="score")
ALPHAS = (1.0, 30.0, 1000.0)


def ridge(x, y):
    return fit_ridge(x, y, ALPHAS)


def folds_of(x, fold):
    return [
        FoldRows(0, np.flatnonzero(fold != k), np.flatnonzero(fold == k), x[fold != k], x[fold == k])
        for k in np.unique(fold)
    ]


def test_families_move_as_blocks_of_equal_size_and_sites_stay():
    subjects = [f"s{i}" for i in range(14)]
    families = {"s0": "a", "s1": "a", "s2": "b", "s3": "b", "s4": "c", "s5": "c", "s6": "c"}
    sites = {s: "x" if i in (0, 1, 2, 3, 7, 8, 9) else "y" for i, s in enumerate(subjects)}
    moves = exchangeable_permutations(subjects, 200, 0, families, sites)
    assert (np.sort(moves, axis=1) == np.arange(14)).all()
    assert set(map(frozenset, moves[:, :2])) == {frozenset({0, 1}), frozenset({2, 3})}
    assert set(map(frozenset, moves[:, 4:7])) == {frozenset({4, 5, 6})}
    site = np.array([sites[s] for s in subjects])
    assert (site[moves] == site).all()
    assert len(np.unique(moves[:, 7:10], axis=0)) == 6  # every order of the three subjects without family in site x
    assert np.array_equal(moves, exchangeable_permutations(subjects, 200, 0, families, sites))


def test_a_family_that_spans_sites_swaps_only_with_families_like_it():
    subjects = list("abcdefghij")
    families = {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3", "f": "3"}
    sites = dict(zip(subjects, "xyyxxxzzzz"))
    moves = exchangeable_permutations(subjects, 100, 1, families, sites)
    assert {tuple(row) for row in moves[:, :4]} == {(0, 1, 2, 3), (3, 2, 1, 0)}


@pytest.mark.parametrize("sizes", [(1,) * 6, (3, 2, 2), (4, 1)])
def test_fewer_arrangements_than_a_p_value_of_05_needs_are_refused(sizes):
    subjects = [f"s{i}" for i in range(sum(sizes))]
    sites = dict(zip(subjects, np.repeat([f"site{k}" for k in range(len(sizes))], sizes)))
    possible = n_arrangements(subjects, sites=sites)
    assert possible == prod(map(factorial, sizes))
    if possible >= 20:
        assert len(np.unique(exchangeable_permutations(subjects, 400, 0, sites=sites), axis=0)) == possible
    else:
        with pytest.raises(DataError, match="exchangeable"):
            exchangeable_permutations(subjects, 10, 0, sites=sites)


def test_statistics_are_those_of_scikit_learn_refitted_on_every_permutation():
    rng = np.random.default_rng(3)
    n = 36
    x = rng.standard_normal((n, 60))
    y = np.column_stack([(x[:, 0] + rng.standard_normal(n) > 0).astype(float), x[:, 1] + rng.standard_normal(n)])
    y[4, 0], y[9] = np.nan, np.nan
    fold = np.arange(n) % 4
    moves = exchangeable_permutations([str(i) for i in range(n)], 3, 0)
    found = linear_statistics(folds_of(x, fold), y, (MOTOR, SCORE), moves, ridge)
    for k, order in enumerate([np.arange(n), *moves]):
        won = met = error = base = 0.0
        for f in range(4):
            train, test = fold != f, fold == f
            z = StandardScaler().fit(x[train])
            label, value = y[order, 0], y[order, 1]
            seen, tested = train & ~np.isnan(label), test & ~np.isnan(label)
            model = RidgeClassifierCV(ALPHAS).fit(z.transform(x[seen]), label[seen])
            pairs = (label[tested] == 1).sum() * (label[tested] == 0).sum()
            if pairs:
                won += pairs * roc_auc_score(label[tested], model.decision_function(z.transform(x[tested])))
                met += pairs
            seen, tested = train & ~np.isnan(value), test & ~np.isnan(value)
            predicted = RidgeCV(ALPHAS).fit(z.transform(x[seen]), value[seen]).predict(z.transform(x[tested]))
            error += ((predicted - value[tested]) ** 2).sum()
            base += ((value[seen].mean() - value[tested]) ** 2).sum()
        assert found[k] == pytest.approx([won / met, 1 - error / base])


def test_p_values_count_the_observed_and_the_maximum_corrects_over_tasks():
    tasks = (MOTOR, SCORE)
    null = np.column_stack([np.arange(1, 100) / 100, np.arange(99, 0, -1) * 1.0])
    results = permutation_results(np.vstack([[0.985, 50.0], null]), tasks, "ridge", "Is there any signal?")
    assert results[0].p_value == pytest.approx((1 + 1) / 100)
    assert results[1].p_value == pytest.approx((50 + 1) / 100)
    # Null distributions with opposite ranks: of both tasks, p <= 0.02 occurs at 1 + 1 permutations + observed.
    assert results[0].p_value_max == pytest.approx(4 / 100)
    assert results[0].p_value_max >= results[0].p_value
    assert results[0].n_permutations == 99


def test_undefined_null_statistics_count_against_the_finding_and_undefined_observed_has_no_p():
    values = np.array([[0.9, np.nan], [np.nan, 0.4], [0.2, 0.6], [0.3, 0.5]])
    motor, other = permutation_results(values, (MOTOR, SCORE), "ridge", "")
    assert motor.p_value == pytest.approx(2 / 4)
    assert np.isnan(other.p_value)


def test_null_cohorts_have_a_mean_auc_of_one_half_and_p_values_no_smaller_than_uniform():
    """200 null cohorts whose splits are stratified by the true labels; full run: benchmarks/null.py."""
    auc, p = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((33, 40)) + rng.standard_normal((33, 1))
        y = (np.arange(33) < 12).astype(float)
        fold = np.r_[rng.permutation(12) % 5, (rng.permutation(21) + 2) % 5]
        moves = exchangeable_permutations([str(i) for i in range(33)], 39, seed)
        found = linear_statistics(folds_of(x, fold), y[:, None], (MOTOR,), moves, ridge)
        result = permutation_results(found, (MOTOR,), "ridge", "")[0]
        auc.append(result.observed)
        p.append(result.p_value)
    assert stats.ttest_1samp(auc, 0.5).pvalue > 0.01
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.1


def test_a_planted_signal_is_found():
    rng = np.random.default_rng(5)
    y = (np.arange(40) < 18).astype(float)
    x = rng.standard_normal((40, 50)) + np.outer(y, np.r_[np.ones(8) * 1.5, np.zeros(42)])
    moves = exchangeable_permutations([str(i) for i in range(40)], 99, 0)
    found = linear_statistics(folds_of(x, np.arange(40) % 5), y[:, None], (MOTOR,), moves, ridge)
    assert permutation_results(found, (MOTOR,), "ridge", "")[0].p_value == pytest.approx(0.01)


def test_residual_edges_keep_what_covariates_explain_and_move_the_rest():
    rng = np.random.default_rng(6)
    covariates = rng.standard_normal((30, 2))
    x = rng.standard_normal((30, 7)) + covariates @ rng.standard_normal((2, 7))
    split = ResidualEdges.of(x, covariates)
    assert len(split.kept) == 30 - 2 - 1
    assert split.permuted(np.arange(27)) == pytest.approx(x)
    moved = split.permuted(rng.permutation(27)) - split.explained
    assert not np.allclose(moved, x - split.explained)
    assert covariates.T @ moved == pytest.approx(np.zeros((2, 7)), abs=1e-9)
    # statsmodels' residuals are these, rotated back; Theil's have the identity as covariance factor.
    usual = np.column_stack([sm.OLS(edge, sm.add_constant(covariates)).fit().resid for edge in x.T])
    assert split.back @ split.residual == pytest.approx(usual)
    assert split.back.T @ split.back == pytest.approx(np.eye(27))
    alone = np.arange(30) >= 20
    assert set(range(20)) <= set(ResidualEdges.of(x, covariates, alone).kept)
    with pytest.raises(DataError, match="too many covariates"):
        ResidualEdges.of(x, rng.standard_normal((30, 20)))


def split_by(folds, x, covariates):
    split = ResidualEdges.of(x, covariates)
    return [FoldEdges(train, test, split) for train, test in folds]


def test_added_value_is_found_when_it_is_there_and_not_when_covariates_explain_it_all():
    rng = np.random.default_rng(7)
    n = 60
    covariates = rng.standard_normal((n, 2))
    own = rng.standard_normal((n, 1))
    noise = rng.standard_normal((n, 40))
    beyond = noise + own @ np.ones((1, 40)) + covariates @ rng.standard_normal((2, 40))
    echo = noise + 2 * covariates @ rng.standard_normal((2, 40))
    y = (covariates[:, 0] + 1.5 * own[:, 0] + 0.5 * rng.standard_normal(n) > 0).astype(float)[:, None]
    fold = np.arange(n) % 5
    folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]
    moves = exchangeable_permutations([str(i) for i in range(n - 3)], 49, 0)
    p = [
        permutation_results(
            added_value_statistics(split_by(folds, x, covariates), covariates, y, (MOTOR,), moves, ALPHAS),
            (MOTOR,),
            "ridge",
            "",
        )[0].p_value
        for x in (beyond, echo)
    ]
    assert p[0] == pytest.approx(1 / 50)
    assert p[1] > 0.05
