"""Value beyond covariates: on the models' rows, beyond nonlinear terms, within sites; omitted tests are reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from sklearn.linear_model import Ridge
from small_study import small_cohorts, small_settings, with_rows

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.evaluation.baselines.engines.linear import fit_ridge
from connectome_tl.evaluation.permutation import beyond_clinical as module
from connectome_tl.evaluation.permutation.added_value import (
    COVARIATE_ALPHAS,
    FoldEdges,
    ResidualEdges,
    added_value_statistics,
)
from connectome_tl.evaluation.permutation.beyond_clinical import beyond_clinical
from connectome_tl.evaluation.permutation.covariate_effects import covariate_effects, natural_spline
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations, permutation_results
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.settings.features import EdgeSettings, HarmoniseSettings
from connectome_tl.settings.study import Confounds, SplitSettings
from connectome_tl.tasks import Task

COHORTS = small_cohorts(n_target=48)
SCORE = Task(name="score", kind="regression", column="score")
MOTOR = Task(name="motor", kind="binary", column="motor")


def found(cohort=COHORTS.target, names=("cognitive", "motor_score"), **changed):
    study = small_settings(**{"permutations": 19, **changed})
    return beyond_clinical(study, cohort, make_split_plan(cohort, study.splits), [cohort.task(name) for name in names])


def curved(seed, n=60):
    """Outcome and edges depend on the square of one covariate and on no other common variable."""
    rng = np.random.default_rng([4, seed])
    c = rng.standard_normal((n, 1))
    x = rng.standard_normal((n, 80)) + (c**2 - 1) @ rng.normal(0, 1, (1, 80))
    y = (c[:, 0] ** 2 + 0.5 * rng.standard_normal(n) > 0.8).astype(float)[:, None]
    fold = rng.permutation(n) % 5
    return c, x, y, [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]


def p_value(columns, x, y, folds, task=MOTOR, n=39):
    split = ResidualEdges.of(x, columns)
    moves = exchangeable_permutations([str(i) for i in split.kept], n, 0)
    made = [FoldEdges(train, test, split) for train, test in folds]
    return permutation_results(added_value_statistics(made, columns, y, (task,), moves), (task,), "", "")[0].p_value


def test_statistics_are_those_of_null_edges_written_out_and_fitted_by_scikit_learn():
    rng = np.random.default_rng(0)
    n, alpha = 30, 40.0
    covariates = rng.standard_normal((n, 2))
    x = rng.standard_normal((n, 50)) + covariates @ rng.standard_normal((2, 50))
    y = (covariates[:, 0] + x[:, :5].sum(axis=1) + rng.standard_normal(n))[:, None]
    fold = np.arange(n) % 3
    folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]
    split = ResidualEdges.of(x, covariates)
    moves = exchangeable_permutations([str(i) for i in split.kept], 4, 0)
    made = [FoldEdges(train, test, split) for train, test in folds]
    ours = added_value_statistics(made, covariates, y, (SCORE,), moves, (alpha,))[:, 0]
    spread = np.sqrt((split.residual**2).mean(axis=0))
    for k, order in enumerate([np.arange(len(split.kept)), *moves]):
        null = split.permuted(order) / spread
        errors = np.zeros(3)
        for train, test in folds:
            base = fit_ridge(covariates[train], y[train], COVARIATE_ALPHAS)
            design = [np.column_stack([np.ones(len(rows)), covariates[rows]]) for rows in (train, test)]
            weights = np.linalg.lstsq(design[0], null[train], rcond=None)[0]
            rest = y[train, 0] - base.predict(covariates[train])[:, 0]
            added = (
                Ridge(alpha=alpha)
                .fit(null[train] - design[0] @ weights, rest)
                .predict(null[test] - design[1] @ weights)
            )
            score = base.predict(covariates[test])[:, 0]
            truth = y[test, 0]
            errors += [((truth - g) ** 2).sum() for g in (score + added, score, y[train, 0].mean())]
        assert ours[k] == pytest.approx((errors[1] - errors[0]) / errors[2], rel=1e-7)


@pytest.mark.slow
def test_a_square_that_edges_and_outcome_share_is_no_value_beyond_the_covariate():
    linear, full = [], []
    for seed in range(1000, 1012):
        c, x, y, folds = curved(seed)
        linear.append(p_value(c, x, y, folds))
        full.append(p_value(np.column_stack([c, c**2, *natural_spline(c[:, 0])]), x, y, folds))
    assert np.mean(np.array(linear) <= 0.05) > 0.5  # result of a linear adjustment
    assert np.mean(np.array(full) <= 0.05) < 0.25


def test_natural_splines_are_linear_beyond_the_outer_knots_and_span_those_of_scipy():
    x = np.sort(np.random.default_rng(1).normal(size=200))
    columns = np.column_stack([np.ones(200), x, *natural_spline(x)])
    assert columns.shape[1] == 4
    knots = np.quantile(x, (0.05, 0.35, 0.65, 0.95))
    outside = x > knots[-1]
    for column in columns.T:
        slopes = np.diff(column[outside]) / np.diff(x[outside])
        np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6, atol=1e-9)
    inside = (x >= knots[0]) & (x <= knots[-1])
    for values in np.eye(4):
        curve = CubicSpline(knots, values, bc_type="natural")(x[inside])
        fit = columns[inside] @ np.linalg.lstsq(columns[inside], curve, rcond=None)[0]
        np.testing.assert_allclose(fit, curve, atol=1e-8)
    assert not list(natural_spline(np.arange(50) % 2.0))


def test_effects_are_added_while_three_subjects_stand_behind_each_column():
    target = COHORTS.target
    specs = clinical_specs(target.covariate_specs)
    whole = target.take([i for i, row in target.covariates.iterrows() if row.notna().all()])
    many = covariate_effects(whole, specs)
    assert many.columns.shape[1] <= len(whole.ids) / 3
    assert "squares" in many.words
    assert "products with age at scan" in many.words
    few = covariate_effects(whole.take(whole.ids[:14]), specs)
    assert "no squares (too few subjects)" in few.words
    constant = replace(whole, covariates=whole.covariates.assign(gestational_age=28.0))
    assert "gestational_age" not in covariate_effects(constant, specs).words
    assert "gestational_age" in many.words


def test_the_edges_are_those_that_the_models_see():
    plain = found()
    assert [result.task for result in plain.results] == ["cognitive", "motor_score"]
    assert plain.notes == ()
    changed = (
        {"confounds": Confounds(columns=("mean_fd",))},
        {"edges": EdgeSettings(n_edges=5)},
        {"harmonise": HarmoniseSettings(method="combat")},
    )
    site = np.array(["A", "B"], dtype=object)[np.arange(48) % 2]
    two_sites = replace(COHORTS.target, site=site)
    for k, settings in enumerate(changed):
        cohort = two_sites if k == 2 else COHORTS.target
        other = found(cohort, **settings).results[1]
        same = found(cohort).results[1]
        assert other.observed != same.observed
        assert other.null != same.null


def test_permutations_stay_within_sites(monkeypatch):
    seen = {}
    honest = module.exchangeable_permutations

    def spied(subjects, n, seed, families, sites):
        seen.update(sites=sites, moves=honest(subjects, n, seed, families, sites), subjects=subjects)
        return seen["moves"]

    monkeypatch.setattr(module, "exchangeable_permutations", spied)
    site = np.array(["A", "B", "C"], dtype=object)[np.arange(48) % 3]
    (result, *_) = found(replace(COHORTS.target, site=site)).results
    own = np.array([seen["sites"][i] for i in seen["subjects"]])
    assert (own[seen["moves"]] == own).all()
    assert "of a site" in result.method
    assert "site" in result.method.split("removed:")[1]


def test_what_cannot_be_tested_is_said():
    target = COHORTS.target
    few = target.take(target.ids[:15])
    (note,) = found(few, splits=SplitSettings(repeats=1, outer=3)).notes
    assert "was not tested: too many covariates" in note
    one_class = replace(target, targets=target.targets.assign(cognitive=np.where(np.arange(48) < 1, 1.0, 0.0)))
    told = found(one_class, splits=SplitSettings(repeats=1, outer=3, stratum=""))
    assert [result.task for result in told.results] == ["motor_score"]
    assert told.notes[0].startswith("cognitive: value beyond clinical covariates was not tested")
    assert found(permutations=0) == module.BeyondClinical()


def test_a_signal_beyond_the_covariates_is_found_on_the_models_rows():
    rng = np.random.default_rng(3)
    own = rng.standard_normal(48)
    pattern = np.triu(rng.normal(size=(12, 12)), 1)
    weights = COHORTS.target.weights + 0.5 * own[:, None, None, None] * (pattern + pattern.T)
    strong = replace(COHORTS.target, weights=weights, targets=COHORTS.target.targets.assign(motor_score=own))
    (result,) = found(strong, names=("motor_score",)).results
    assert result.p_value == pytest.approx(1 / 20)


def test_an_unknown_age_leaves_out_its_subject_and_not_the_adjustment_for_age():
    target = COHORTS.target
    some = with_rows(target, target.ids[:1], age=np.nan)
    (result,) = found(some, ("cognitive",)).results
    assert "age at scan" in result.method
    assert "no age" not in result.method
    whole = target.covariates[[spec.column for spec in clinical_specs(target.covariate_specs)]].notna().all(axis=1)
    assert f"{int(whole.to_numpy()[1:].sum())} subjects with all covariates and age at scan" in result.method
    (result,) = found(with_rows(target, target.ids, age=np.nan), ("cognitive",)).results
    assert "no age at scan (unknown)" in result.method


def test_effects_of_more_sites_than_subjects_allow_are_named_as_left_out():
    target = with_rows(COHORTS.target, COHORTS.target.ids, site=[f"site{i % 12}" for i in range(48)])
    specs = clinical_specs(target.covariate_specs)
    whole = target.take([i for i, ok in zip(target.ids, target.covariates.notna().all(axis=1), strict=True) if ok])
    assert "no sites (too few subjects)" in covariate_effects(whole, specs).words
    two = with_rows(whole, whole.ids, site=[f"site{i % 2}" for i in range(whole.n_subjects)])
    assert "no sites" not in covariate_effects(two, specs).words
