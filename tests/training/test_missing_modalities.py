"""A subject without covariates, or without a connectome, is used in training and predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kinds_of_study import changed
from sklearn.linear_model import Ridge
from small_study import FLAT, GRAPH, TASKS, plan_of, small_cohorts, small_settings, with_correlations, with_rows

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.fixed import baselines_of
from connectome_tl.settings.features import EdgeSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.tangent import CORRELATIONS, TangentSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.closed_form.spectrum import Design, Families, Spectrum
from connectome_tl.training.core_stage import CONNECTOME_PRESENCE, CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import NetworkModel, stored_model

COHORTS = small_cohorts()
TARGET = COHORTS.target
FOLD = Fold(TARGET.ids[:16], TARGET.ids[16:])
BARE, BLIND = FOLD.test[0], FOLD.test[1]


def without(cohort: Cohort, bare: tuple[str, ...], blind: tuple[str, ...]) -> Cohort:
    """The cohort with some subjects without any covariate, and some without any region."""
    covariates = cohort.covariates.copy()
    covariates.loc[list(bare)] = np.nan
    return with_rows(replace(cohort, covariates=covariates), list(blind), node_mask=False, weights=0.0)


@pytest.mark.parametrize("model", [GRAPH, FLAT], ids=["graph", "flat"])
def test_who_lacks_a_modality_is_predicted_by_every_model(model: ModelSettings, tmp_path: Path) -> None:
    # Training rows lack them too, so that their replacement is learnt.
    target = without(TARGET, (FOLD.train[6], BARE), (FOLD.train[7], BLIND))
    cohorts, store = COHORTS.with_role("target", target), FitStore(tmp_path)
    plan = plan_of(FOLD, small_settings(model=model), cohorts=cohorts)
    results = fit([plan], cohorts.by_name(), store=store)
    for key in (plan.key, *(parent.key for _, parent in plan.parents)):
        found = results[key]
        assert all(np.isfinite(values).all() for values in found.predictions.values())
        assert set(found.held_out) == set(FOLD.train)
        known = TARGET.targets.loc[list(FOLD.train), list(TASKS)].notna().all(axis=1)
        assert all(np.isfinite(found.held_out[str(i)]).all() for i in known.index[known])
        again = stored_model(store, key).predict(target, FOLD.test)
        assert again.tobytes() == np.array([found.predictions[subject] for subject in FOLD.test]).tobytes()


def test_a_prediction_without_a_modality_is_that_of_the_others_alone(tmp_path: Path) -> None:
    """Predictions of the network do not depend on values in place of missing data."""
    cohorts = COHORTS.with_role("target", without(TARGET, (BARE,), (BLIND,)))
    store = FitStore(tmp_path)
    plan = plan_of(FOLD, cohorts=cohorts, scheme="network_scratch")
    fit([plan], cohorts.by_name(), store=store)
    model = stored_model(store, plan.key)
    assert isinstance(model, NetworkModel)
    want = model.predict(cohorts.target, [BARE, BLIND])
    other = with_rows(cohorts.target, [BLIND], weights=55.0)
    np.testing.assert_array_equal(model.predict(other, [BARE, BLIND]), want)
    seen = model.predict(TARGET, [BARE, BLIND])
    assert not np.isclose(seen, want, rtol=1e-6).any()


def lacking(n: int, cohort: Cohort = TARGET) -> tuple[Cohort, tuple[str, ...]]:
    """The cohort with n training rows and `BLIND` without a connectome, and those training rows."""
    chosen = FOLD.train[:: max(1, len(FOLD.train) // n)][:n] if n else ()
    return without(cohort, (), (*chosen, BLIND)), chosen


def core_of(target: Cohort) -> CoreModel:
    cohorts = COHORTS.with_role("target", target)
    plan = plan_of(FOLD, cohorts=cohorts, scheme="core_scratch")
    result = fit([plan], cohorts.by_name())[plan.key]
    return CoreModel.of(result.arrays, result.plain)


def test_an_absence_that_says_something_is_learnt_from() -> None:
    target, absent = lacking(6)
    low = target.targets.copy()
    low.loc[list(absent), "motor_score"] = low["motor_score"].min() - 3 * low["motor_score"].std()
    model = core_of(replace(target, targets=low))
    column = [task.name for task in model.tasks].index("motor_score")
    blind, seen = (model.predict(one, [BLIND])[0, column] for one in (target, TARGET))
    usual = low["motor_score"].drop(list(absent)).std()
    assert blind < seen - usual


@pytest.mark.parametrize("correlated", [False, True], ids=["edges", "tangent"])
def test_presence_is_a_block_where_enough_rows_lack_a_connectome(correlated: bool) -> None:
    """Other features of subjects without one are at the training mean, for any values in the arrays."""
    given = with_correlations(TARGET) if correlated else TARGET
    target, absent = lacking(5, given)
    model = core_of(target)
    ids = [*absent, BLIND]
    blocks = {block.name: block.values for block in model.blocks(target, ids)}
    assert ("tangent" in blocks) == correlated
    assert not blocks[CONNECTOME_PRESENCE].any()
    assert not any(blocks[name].any() for name in ("edges", "tangent") if name in blocks)
    others = model.blocks(target, [i for i in FOLD.test if i != BLIND])
    assert {b.name: b.values for b in others}[CONNECTOME_PRESENCE].all()
    filled = with_rows(target, ids, weights=55.0)
    np.testing.assert_array_equal(model.predict(filled, ids), model.predict(target, ids))
    # Four are too few.
    few = core_of(lacking(4, given)[0])
    assert CONNECTOME_PRESENCE not in {block.name for block in few.blocks(target, ids)}


@pytest.mark.parametrize("tangent", [None, CORRELATIONS, TangentSettings()], ids=["automatic", "as edges", "off"])
def test_an_infant_that_lacks_one_region_is_predicted_from_correlations(
    tangent: TangentSettings | None, tmp_path: Path
) -> None:
    """By the core, the network, the core of a source whose subjects lack no region, and the baselines."""
    cohorts = changed(COHORTS, with_correlations)
    mask = np.arange(TARGET.n_regions) != 3
    target = with_rows(cohorts.target, [BLIND], node_mask=mask)
    cohorts, store = cohorts.with_role("target", target), FitStore(tmp_path)
    study = small_settings(edges=EdgeSettings(tangent=tangent))
    plan = plan_of(FOLD, study, cohorts=cohorts)
    results = fit([plan], cohorts.by_name(), store=store)
    filled = target.weights.copy()
    filled[target.ids.index(BLIND), :, ~mask] = filled[target.ids.index(BLIND), :, :, ~mask] = 55.0
    other = replace(target, weights=filled)
    for found in (results[plan.key], *(results[parent.key] for _, parent in plan.parents)):
        assert np.isfinite(found.predictions[BLIND]).all()
        again = stored_model(store, found.key).predict(other, FOLD.test)
        assert again.tobytes() == np.array([found.predictions[subject] for subject in FOLD.test]).tobytes()
    core = stored_model(store, dict(plan.parents)["core"].key)
    assert isinstance(core, CoreModel)
    assert (core.tangent is not None) == (tangent is None)
    assert core.source is not None
    blocks = {block.name: block.values for block in core.blocks(target, [BLIND])}
    lacking = {"edges": 11, "tangent": 12}  # its edges, and its variance
    for name in lacking.keys() & blocks.keys():
        assert (blocks[name] == 0).sum() >= lacking[name]
        assert (blocks[name] != 0).any()
    baselines = baselines_of(study, cohorts, TARGET.tasks)
    assert {"ridge", "linear_all", "linear_transfer"} <= baselines.keys()
    assert ("tangent_ridge" in baselines) == (tangent is None or tangent.values != "off")
    for name in ("linear_all", "linear_transfer", *(name for name in ("tangent_ridge",) if name in baselines)):
        rows = baselines[name][0].design(FOLD).test[FOLD.test.index(BLIND)]
        assert np.isfinite(rows).all()


def test_predictions_that_leave_out_rows_without_a_connectome_equal_refits() -> None:
    target, _ = lacking(5)
    model = core_of(target)
    y = target.targets["motor_score"].to_numpy(float)[target.positions(FOLD.train)]
    known = np.isfinite(y)
    blocks = [block for block in model.blocks(target, FOLD.train) if block.penalised]
    rows = np.concatenate([b.values / np.sqrt((b.values**2).sum() + 1e-12) for b in blocks], axis=1)[known]
    y = y[known, None]
    design = Design.of(np.ones((len(y), 1)), Families.of([str(i) for i in range(len(y))]))
    errors = design.residuals(y)
    path = Spectrum.of(rows @ rows.T, np.arange(len(y)), design).path(y, errors, np.array([0.1]))
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        want = Ridge(alpha=0.1).fit(rows[others], y[others, 0]).predict(rows[[i]])
        np.testing.assert_allclose(y[i] - errors[i] + path[0, i], want, rtol=1e-7)
