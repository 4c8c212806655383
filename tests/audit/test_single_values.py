"""A single value that reveals the outcome is reported, of any kind; noise and strong signals are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connectome_tl.audit import separation
from connectome_tl.audit.separation import too_good
from connectome_tl.audit.single_values import alone_findings
from connectome_tl.settings.cohort import Covariate
from connectome_tl.tasks import Task
from tests.small_study import small_cohorts

COHORT = small_cohorts(n_target=40, effect=0.0, seed=4).target
TASKS = tuple(COHORT.task(name) for name in ("cognitive", "motor_score"))
IMPAIRED = COHORT.targets["cognitive"].to_numpy(float)
SCORE = COHORT.targets["motor_score"].to_numpy(float)
RNG = np.random.default_rng(0)


def warned(cohort, tasks=TASKS):
    (finding,) = alone_findings(cohort, tasks)
    assert finding.status in ("passed", "warning")
    return finding.what if finding.status == "warning" else ""


def with_column(values, **spec):
    return replace(
        COHORT,
        covariates=COHORT.covariates.assign(later=values),
        covariate_specs=(*COHORT.covariate_specs, Covariate(column="later", **spec)),
    )


def test_noise_warns_of_nothing():
    for seed in range(12):
        target = small_cohorts(n_target=33, effect=0.0, seed=seed).target
        assert warned(target, tuple(target.task(n) for n in ("cognitive", "motor_score"))) == ""


def test_columns_edges_and_measures_that_hold_the_outcome_are_named():
    noisy = np.nan_to_num(SCORE, nan=90.0) + 2.0 * RNG.standard_normal(SCORE.size)
    assert "motor_score from column later (R2 0." in warned(with_column(noisy))
    text = np.where(IMPAIRED == 1, "referred", "home").astype(object)
    assert "cognitive from column later: home (AUC 1.00)" in warned(with_column(text, type="categorical"))
    weights = COHORT.weights.copy()
    weights[:, 0, 2, 5] = weights[:, 0, 5, 2] = 1 + np.nan_to_num(IMPAIRED)
    edge = f"cognitive from edge {COHORT.regions[2]} - {COHORT.regions[5]} ({COHORT.measures[0]})"
    assert edge in warned(replace(COHORT, weights=weights))
    features = RNG.standard_normal((COHORT.n_subjects, COHORT.n_regions, 2))
    features[:, 3, 1] = -np.exp(np.nan_to_num(SCORE) / 10)
    found = warned(replace(COHORT, region_features=features, region_feature_names=("a", "b")))
    assert f"motor_score from regional measure b of {COHORT.regions[3]} (R2 of ranks" in found


def named_one_by_one(values, names, outcome, task):
    """As `separation.too_good`, every value tested by SciPy."""
    varies = [k for k in range(len(names)) if np.unique(values[np.isfinite(values[:, k]), k]).size > 1]
    found = []
    for k in varies:
        known = np.isfinite(values[:, k])
        text, p = separation.measured(values[known, k], outcome[known], task)
        found += [f"{names[k]} ({text})"] if text and p < 0.01 / len(varies) else []
    return found


@pytest.mark.filterwarnings("ignore")  # of SciPy, on values of 1e200 and on constant columns
@pytest.mark.parametrize("kind", ["binary", "regression", "ordinal", "multiclass"])
def test_of_many_values_the_same_are_named_as_one_by_one(kind):
    rng, n, names = np.random.default_rng(1), 24, [str(k) for k in range(60)]
    task = Task(name="t", kind=kind, column="t", levels=() if kind in ("binary", "regression") else ("a", "b", "c"))
    outcome = rng.normal(size=n) if kind == "regression" else rng.permutation(np.arange(n) % task.n_levels) * 1.0
    noise = rng.normal(size=(n, 60)) * rng.uniform(0, 0.6, 60)
    values = np.where(np.arange(60) % 3, outcome[:, None], 0) + noise
    values[:, :10] = np.exp(4 * values[:, :10])  # visible in the ranks only
    values[:, 10:14] = np.round(values[:, 10:14])
    values[:, 14:18] *= [1e200, 1e-200, 0.0, -1.0]
    values[:3, 18:30] = np.nan
    values[0, 30:33] = np.inf
    found = separation.too_good(values, names, outcome, task)
    assert found == named_one_by_one(values, names, outcome, task)
    assert 10 < len(found) < 45


@pytest.mark.parametrize("what", ["covariate", "region"])
def test_what_is_missing_can_give_the_outcome_away(what):
    lost = IMPAIRED == 1
    if what == "covariate":
        column = np.where(lost, np.nan, RNG.standard_normal(lost.size))
        assert "cognitive from missing later (AUC 1.00)" in warned(with_column(column))
    else:
        mask = COHORT.node_mask.copy()
        mask[:, 0] = ~lost
        assert f"cognitive from missing region {COHORT.regions[0]}" in warned(replace(COHORT, node_mask=mask))


def test_three_positives_among_many_edges_are_not_enough_to_suspect_one():
    few = COHORT.targets.assign(cognitive=np.where(np.arange(40) < 3, 1.0, 0.0))
    weights = RNG.random(COHORT.weights.shape)  # all 66 edges vary
    weights[:, 0, 2, 5] = weights[:, 0, 5, 2] = 1 + few["cognitive"] + RNG.random(40)
    assert warned(replace(COHORT, targets=few, weights=weights), TASKS[:1]) == ""


def test_coinciding_outliers_of_few_values_are_chance():
    points, few = Task(name="points", kind="regression", column="points"), Task(name="few", kind="binary", column="few")
    rng = np.random.default_rng(0)
    y = np.r_[rng.normal(102, 3, 8), 70.0, 72.0]
    two_valued, heavy = np.r_[np.zeros(8), 1.0, 1.0], np.r_[rng.normal(0, 0.01, 9), 5.0]
    for values, outcome in ((two_valued, y), (heavy, np.r_[rng.normal(102, 1, 9), 40.0])):
        assert too_good(values[:, None], ["x"], outcome, points) == []
    assert too_good(np.r_[np.zeros(6), np.ones(3)][:, None], ["x"], np.r_[np.zeros(6), np.ones(3)], few) == []
    linear = np.arange(10.0)
    assert too_good(linear[:, None], ["x"], 3 * linear + rng.normal(0, 0.1, 10), points)
