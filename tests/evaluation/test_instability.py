"""Instability decreases with the number of infants; bootstraps draw families; no refit uses the infant it predicts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from small_study import TASKS, small_cohorts, small_settings

from connectome_tl.audit.wrecking import wrecked
from connectome_tl.cohort.splits import kinship_groups, make_split_plan
from connectome_tl.errors import DataError
from connectome_tl.evaluation import instability as module
from connectome_tl.evaluation.baselines import cpm, kernel_ridge
from connectome_tl.evaluation.baselines.design import Design
from connectome_tl.evaluation.baselines.engines.learners import GRAM, calibrated
from connectome_tl.evaluation.baselines.engines.linear import probability_from_ridge
from connectome_tl.evaluation.baselines.engines.refits import (
    gram_refits,
    kernel_refits,
    logistic_refits,
    ridge_refits,
    rows_refits,
)
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.instability import bootstrap_risks, instability, resampled, study_instability
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.evaluation.permutation.tests import FoldRows
from connectome_tl.settings.baselines import CpmSettings, KernelRidgeSettings
from connectome_tl.settings.study import Refits, SplitSettings
from connectome_tl.settings.tuning import FoldChoice, Tuned

COHORTS = small_cohorts()
BASELINES = ("prevalence", "nuisance_only", "clinical_only", "ridge", "linear_all")
STUDY = small_settings(
    steps=1, splits=SplitSettings(repeats=2, outer=3), refits=Refits(linear=8, network=3), baselines=BASELINES
)
SPLITS = make_split_plan(COHORTS.target, STUDY.splits)


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


ridge = partial(ridge_refits, alphas=(10.0, 100.0))


def found_in(folds, y, cluster, n_refits):
    return instability("motor", "ridge", *bootstrap_risks(folds, y, cluster, n_refits, refit=ridge), 0.5)


def test_risks_are_steadier_with_more_infants():
    few, many = (found_in(*made(n), n_refits=40) for n in (30, 300))
    assert many.mean_absolute_error < 0.6 * few.mean_absolute_error
    assert many.classification < few.classification
    inside = [low <= one <= high for low, one, high in zip(few.low, few.original, few.high)]
    assert np.mean(inside) > 0.8


def test_twins_add_nothing_when_families_are_drawn():
    single, related, ignored = [], [], []
    for seed in range(3):
        single.append(found_in(*made(40, seed), n_refits=60).mean_absolute_error)
        folds, y, family = made(40, seed, twins=True)
        related.append(found_in(folds, y, family, n_refits=60).mean_absolute_error)
        ignored.append(found_in(folds, y, np.arange(y.size), n_refits=60).mean_absolute_error)
    assert np.mean(related) > 0.85 * np.mean(single)
    assert np.mean(ignored) < 0.85 * np.mean(single)


def test_the_numbers_of_a_case_worked_by_hand():
    record = instability("motor", "full", np.array([0.4, 0.6]), np.array([[0.5, 0.6], [0.3, 0.4]]), 0.5)
    assert record.mean_absolute_error == pytest.approx((0.1 + 0.0 + 0.1 + 0.2) / 4)
    assert record.classification == pytest.approx(2 / 4)  # 0.5 is called positive, 0.4 negative


def test_folds_of_several_repeats_are_refused():
    folds, y, family = made(30)
    with pytest.raises(DataError, match="one repeat"):
        bootstrap_risks([*folds, folds[0]], y, family)


def test_every_model_of_every_binary_task_is_refitted_and_the_network_s_original_is_its_own():
    from connectome_tl.evaluation.nested_cv import cross_validate

    found = {(one.task, one.model): one for one in study_instability(STUDY, COHORTS, SPLITS, tasks_of(STUDY, COHORTS))}
    assert set(found) == {("cognitive", m) for m in ("full", *BASELINES[1:])}
    assert found["cognitive", "full"].n_refits == 3
    table = cross_validate(STUDY.model_copy(update={"controls": ()}), COHORTS, SPLITS).predictions
    here = (
        (table["task"] == "cognitive") & (table["model"] == "full") & (table["repeat"] == 0) & table["y_true"].notna()
    )
    assert sorted(found["cognitive", "full"].original) == pytest.approx(sorted(table.loc[here, "y_score"]))
    assert found["cognitive", "full"].mean_absolute_error > 0


def test_no_refit_uses_a_test_row(monkeypatch):
    """Corrupted test rows change predictions of these rows only through their own features: no fit changes."""
    from small_study import fitted_bytes

    states = []
    honest = module.fit

    def spied(plans, cohorts, **options):
        plans = list(plans)
        first = [member for plan in plans[:4] for member in plan.lineage()]  # those of the first fold
        results = honest([*plans, *(replace(member, keep=True) for member in first)], cohorts, **options)
        states.append([(member.stage, fitted_bytes(results[member.key])) for member in first])
        return results

    monkeypatch.setattr(module, "fit", spied)
    tasks = tasks_of(STUDY, COHORTS)
    small = STUDY.model_copy(update={"refits": Refits(linear=0, network=3)})
    study_instability(small, COHORTS, SPLITS, tasks)
    spoiled = COHORTS.with_role("target", wrecked(COHORTS.target, SPLITS.repeats[0][0].test))
    study_instability(small, spoiled, SPLITS, tasks)
    assert {stage for stage, _ in states[0]} == {"source", "pretrain", "adapt", "core", "finetune", "mixture"}
    assert states[0] == states[1]


def test_a_draw_of_the_same_infant_is_a_row_of_its_own():
    ids = COHORTS.target.ids
    tables = COHORTS.target.covariates
    known = replace(COHORTS.target, as_read=tables, scores=tables, volumes=tuple(ids))  # all that a file may contain
    again = resampled(known, (ids[1], ids[1], ids[0]), ids[5:7])
    assert again.ids == (ids[1], f"{ids[1]} #2", ids[0], ids[5], ids[6])
    np.testing.assert_array_equal(again.weights[1], again.weights[0])
    np.testing.assert_array_equal(again.targets.loc[f"{ids[1]} #2"], COHORTS.target.targets.loc[ids[1]])
    assert again.task(TASKS[0]) == COHORTS.target.task(TASKS[0])
    assert again.as_read is not None
    assert again.scores is not None
    assert list(again.as_read.index) == list(again.scores.index) == list(again.ids)
    assert again.volumes == (ids[1], ids[1], ids[0], ids[5], ids[6])
    assert again.take(again.ids[::-1]).take(again.ids).ids == again.ids


@pytest.mark.parametrize(("n_refits", "ends"), [(99, (0.0, 1.0)), (100, (0.025, 0.975))])
def test_of_few_refits_the_range_is_given_and_of_many_95_percent(n_refits, ends):
    refitted = np.random.default_rng(5).random((n_refits, 3))
    found = instability("motor", "full", np.full(3, 0.5), refitted, 0.5)
    np.testing.assert_allclose([found.low, found.high], np.quantile(refitted, ends, axis=0))


def sample(seed=0, n=30, p=12):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(float)
    x = rng.standard_normal((n, p)) + 0.8 * y[:, None]
    counts = np.bincount(rng.integers(n, size=n), minlength=n)
    return x, y, rng.standard_normal((7, p)), counts


def expected_by_copies(model, alphas, x, y, test, counts, loss):
    """Explicit copies, with the penalty by leaving out each original row with all its copies."""
    mean, spread = x.mean(axis=0), x.std(axis=0)
    rows = np.repeat(np.arange(len(y)), counts)
    z, labels, z_test = ((x - mean) / spread)[rows], y[rows], (test - mean) / spread
    losses = []
    for alpha in alphas:
        total = 0.0
        for original in np.unique(rows):
            out = rows == original
            total += loss(model(alpha).fit(z[~out], labels[~out]), z[out], labels[out])
        losses.append(total)
    return model(alphas[int(np.argmin(losses))]).fit(z, labels), z_test


@pytest.mark.parametrize("seed", range(4))
def test_ridge_refits_are_those_of_copies_written_out_with_penalties_that_leave_out_all_copies(seed):
    from sklearn.linear_model import Ridge

    x, y, test, counts = sample(seed)
    alphas = (1.0, 10.0, 100.0)
    ours = ridge_refits(x, test, y, np.arange(len(y)), counts[None], alphas)[0]
    model, z = expected_by_copies(
        lambda a: Ridge(alpha=a), alphas, x, 2 * y - 1, test, counts, lambda m, a, b: ((m.predict(a) - b) ** 2).sum()
    )
    np.testing.assert_allclose(ours, probability_from_ridge(model.predict(z)), rtol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_logistic_refits_are_those_of_copies_written_out(seed):
    from sklearn.linear_model import LogisticRegression

    x, y, test, counts = sample(seed)
    ours = logistic_refits(x, test, y, np.arange(len(y)), counts[None], (5.0,))[0]
    model, z = expected_by_copies(
        lambda a: LogisticRegression(C=1 / a, tol=1e-10, max_iter=5000), (5.0,), x, y, test, counts, lambda *_: 0.0
    )
    np.testing.assert_allclose(ours, model.predict_proba(z)[:, 1], atol=1e-5)


def test_any_learner_is_refitted_on_copies_written_out():
    x, y, test, counts = sample(p=12)
    y[3] = np.nan
    counts[3] = 0
    got = rows_refits(GRAM, x, test, y, np.arange(len(y)), np.array([counts]))[0]
    rows = np.r_[np.repeat(np.arange(len(y)), counts), 3]
    fitted = GRAM.predict(Design(x[rows], test, (), rows), y[rows], True)
    np.testing.assert_allclose(got, fitted, rtol=1e-9)  # the order of rows does not matter


def test_refits_of_cpm_and_of_kernels_are_those_of_samples_written_out_as_rows():
    x, y, test, counts = sample(seed=3, n=40, p=30)
    families, every = np.arange(40) // 2, np.ones(40, dtype=int)
    gaps = np.where(np.random.default_rng(1).random(x.shape) < 0.1, np.nan, x)
    learner = calibrated(partial(cpm.solve, CpmSettings(threshold=0.2)))
    for edges in (x, gaps):
        ours = cpm.refits(CpmSettings(threshold=0.2), edges, test, y, families, np.array([every, counts]))
        written_out = rows_refits(learner, edges, test, y, families, np.array([every, counts]))
        np.testing.assert_allclose(ours, written_out, atol=1e-9)
    settings = KernelRidgeSettings(kernels=("correlation",))  # it does not depend on what else is drawn
    kernels = partial(kernel_ridge.kernels_of, settings)
    ours = kernel_refits(kernels, x, test, y, families, np.array([every]))
    learner = calibrated(partial(kernel_ridge.solve, settings))
    np.testing.assert_allclose(ours, rows_refits(learner, x, test, y, families, np.array([every])), atol=1e-9)


def test_copies_in_a_sample_do_not_loosen_the_penalty():
    """With noise, penalties chosen with copies on both sides are far too small, and risks vary."""
    rng = np.random.default_rng(0)
    x, y, test = rng.standard_normal((40, 200)), (np.arange(40) % 2).astype(float), rng.standard_normal((30, 200))
    counts = np.array([np.bincount(rng.integers(40, size=40), minlength=40) for _ in range(20)])
    whole = np.ones((1, 40), dtype=int)
    for refit in (ridge_refits, logistic_refits, gram_refits, partial(rows_refits, GRAM)):
        spread = np.std(refit(x, test, y, np.arange(40), counts), axis=1).mean()
        leaky = [np.repeat(np.arange(40), count) for count in counts]
        naive = [np.std(refit(x[r], test, y[r], np.arange(len(r)), np.ones((1, len(r)), dtype=int))) for r in leaky]
        assert spread < 0.5 * np.mean(naive)
        assert np.isfinite(refit(x, test, y, np.arange(40), whole)).all()


CLOSED = ("ridge", "linear_all", "kernel_ridge", "cpm", "linear_transfer", "meta_matching", "nuisance_only")


def test_baselines_with_a_closed_form_are_refitted_and_their_original_risks_are_those_of_the_baseline_itself():
    tasks = tasks_of(STUDY, COHORTS)
    study = STUDY.model_copy(update={"baselines": ("prevalence", *CLOSED, "elastic_net")})
    linear = study.model_copy(update={"refits": Refits(linear=2, network=0)})
    found = study_instability(linear, COHORTS, SPLITS, tasks)
    assert {one.model for one in found} == set(CLOSED)
    table = baseline_predictions(study.model_copy(update={"baselines": CLOSED}), COHORTS, SPLITS, tasks)
    for one in found:
        assert one.mean_absolute_error > 0
        here = (table["task"] == one.task) & (table["model"] == one.model) & (table["repeat"] == 0)
        expected = table.loc[here & table["y_true"].notna(), "y_score"]
        np.testing.assert_allclose(sorted(one.original), sorted(expected), rtol=1e-9)


def test_draws_of_one_infant_are_one_family():
    ids = COHORTS.target.ids
    again = resampled(COHORTS.target, (ids[4], ids[4], ids[5], ids[0]), ids[1:2])  # the last two are twins
    assert kinship_groups(again.family).tolist() == [0, 0, 1, 2, 2]


def test_networks_of_a_tuned_study_are_refitted_with_the_settings_of_their_fold(monkeypatch):
    choices = tuple(
        FoldChoice(repeat=r, fold=f, trial=0, values=(0.5,), settings={"core.clip": 2.0 + f})
        for r in range(2)
        for f in range(3)
    )
    tuned = Tuned(
        study="", split_plan="", data="", model="full", task="cognitive", objectives=("auc",), trials=1,
        sampler="random", folds=choices,
    )  # fmt: skip
    made, chain = [], module.chain

    def seen(study, *arguments, **more):
        made.append(study.core.clip)
        return chain(study, *arguments, **more)

    monkeypatch.setattr(module, "chain", seen)
    study = STUDY.model_copy(update={"tuned": tuned, "refits": Refits(linear=0, network=1)})
    study_instability(study, COHORTS, SPLITS, tasks_of(study, COHORTS))
    assert made == [2.0, 2.0, 3.0, 3.0, 4.0, 4.0]
