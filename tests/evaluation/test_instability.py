"""Instability falls with the number of infants, and a bootstrap is of families."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.evaluation.instability import bootstrap_instability
from connectome_tl.evaluation.linear import fit_ridge
from connectome_tl.evaluation.permutation import FoldRows


def made(n, seed=0, twins=False):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 5 < 2).astype(float)
    x = rng.standard_normal((n, 10)) + 0.6 * y[:, None]
    cluster = np.arange(n)
    if twins:
        x, y, cluster = np.vstack([x, x]), np.r_[y, y], np.r_[cluster, cluster]
    fold = cluster % 4
    folds = [
        FoldRows(0, np.flatnonzero(fold != k), np.flatnonzero(fold == k), x[fold != k], x[fold == k]) for k in range(4)
    ]
    return folds, y, cluster


def ridge(x, y):
    return fit_ridge(x, y, (10.0, 100.0))


def test_risks_are_steadier_with_more_infants():
    few, many = (bootstrap_instability(*made(n), n_bootstrap=40, fit=ridge) for n in (30, 300))
    assert many.mean_absolute_error < 0.6 * few.mean_absolute_error
    assert many.classification < few.classification
    inside = (few.low <= few.original) & (few.original <= few.high)
    assert inside.mean() > 0.8


def test_twins_add_nothing_when_families_are_drawn():
    single = bootstrap_instability(*made(40), n_bootstrap=60, fit=ridge)
    folds, y, family = made(40, twins=True)
    related = bootstrap_instability(folds, y, family, n_bootstrap=60, fit=ridge)
    ignored = bootstrap_instability(folds, y, np.arange(y.size), n_bootstrap=60, fit=ridge)
    assert related.mean_absolute_error > 0.85 * single.mean_absolute_error
    assert ignored.mean_absolute_error < 0.85 * single.mean_absolute_error


def test_folds_of_several_repeats_are_refused():
    folds, y, family = made(30)
    with pytest.raises(DataError, match="one repeat"):
        bootstrap_instability([*folds, folds[0]], y, family)
