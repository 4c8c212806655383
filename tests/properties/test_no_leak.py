"""Corrupt the test rows wherever they occur: no byte of any fitted state may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal, get_args

import numpy as np
import pandas as pd
import pytest
from small_study import (
    FLAT,
    GRAPH,
    TASKS,
    fitted_bytes,
    plan_of,
    small_cohorts,
    small_settings,
    with_correlations,
    with_rows,
)

from connectome_tl.audit.corruption import other_outcomes, wrecked
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.errors import LeakageError
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.fixed import BASELINES, baseline_predictions, baselines_of
from connectome_tl.features.modalities import ClinicalSteps, ConnectomeSteps
from connectome_tl.features.scaling import TargetScaler
from connectome_tl.features.steps import fit_steps
from connectome_tl.provenance import canonical_json
from connectome_tl.settings.encoders import AnyEncoder, EncoderSettings, FlatEncoder, GraphEncoder
from connectome_tl.settings.features import Confounds, EdgeSettings, FeatureSettings, HarmoniseSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.objectives import MaskedEdges
from connectome_tl.training.checkpoint import tensor_bytes
from connectome_tl.training.fit import fit
from connectome_tl.training.objectives.table import OBJECTIVES
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import SCHEMES, StudyCohorts

COHORTS = small_cohorts()
N_FEATURES = 2
BOTH = ("connectome", "clinical")


def with_region_features(cohort: Cohort) -> Cohort:
    features = np.random.default_rng(1).normal(size=(cohort.n_subjects, cohort.n_regions, N_FEATURES))
    return replace(cohort, region_features=features, region_feature_names=("thickness", "volume"))


TARGET = with_region_features(COHORTS.target)
FOLD = Fold(TARGET.ids[:16], TARGET.ids[16:])
EVERYTHING = FeatureSettings(
    harmonise=HarmoniseSettings(method="combat", unseen="reference"),
    confounds=Confounds(columns=("age", "sex", "log(mean_fd)")),
    edges=EdgeSettings(consensus=0.4, n_edges=30),
)
Wreck = Callable[[Cohort], Cohort]


def _numbers(value: float) -> Wreck:
    def wreck(cohort: Cohort) -> Cohort:
        spoiled = with_rows(cohort, FOLD.test, weights=value, region_features=value, age=value)
        covariates, targets = spoiled.covariates.copy(), spoiled.targets.copy()
        for column in covariates.columns:
            if pd.api.types.is_numeric_dtype(covariates[column]):
                covariates.loc[list(FOLD.test), column] = value
            else:
                covariates.loc[list(FOLD.test), column] = "never seen"
        targets.loc[list(FOLD.test)] = value
        return replace(spoiled, covariates=covariates, targets=targets)

    return wreck


def _shuffled(cohort: Cohort) -> Cohort:
    other = cohort.take(FOLD.test[::-1])
    covariates, targets = cohort.covariates.copy(), cohort.targets.copy()
    covariates.loc[list(FOLD.test)] = other.covariates.to_numpy()
    targets.loc[list(FOLD.test)] = 1 - other.targets.to_numpy()
    return replace(
        with_rows(
            cohort, FOLD.test, weights=other.weights, node_mask=other.node_mask, region_features=other.region_features
        ),
        covariates=covariates,
        targets=targets,
    )


def _unmasked(cohort: Cohort) -> Cohort:
    return with_rows(cohort, FOLD.test, node_mask=False, site="elsewhere", family="one family")


WRECKS: dict[str, Wreck] = {
    "missing": _numbers(np.nan),
    "huge": _numbers(1e30),
    "shuffled": _shuffled,
    "no regions, elsewhere, one family": _unmasked,
}


def _column(table: str, name: str, value: object) -> Wreck:
    def change(cohort: Cohort) -> Cohort:
        changed = getattr(cohort, table).copy()
        changed.loc[FOLD.train[4], name] = value
        return replace(cohort, **{table: changed})

    return change


CANARIES: dict[str, Wreck] = {
    "weights": lambda c: with_rows(c, FOLD.train[4:5], weights=1.5 * c.weights[4:5]),
    "region features": lambda c: with_rows(c, FOLD.train[4:5], region_features=3.0),
    "node mask": lambda c: with_rows(c, FOLD.train[4:5], node_mask=False),
    "age": lambda c: with_rows(c, FOLD.train[4:5], age=50.0),
    "covariate": _column("covariates", "birth_weight", 1.0),
    "site": lambda c: with_rows(c, FOLD.train[4:5], site="B" if c.site[4] == "A" else "A"),
}


def state_of(cohort: Cohort) -> bytes:
    """All that is fitted on the features and targets of the training rows."""
    features = fit_steps(cohort, FOLD.train, EVERYTHING, BOTH)
    arrays, plain = features.state()
    raw = cohort.targets.to_numpy(float)[cohort.positions(FOLD.train)]
    scaler = TargetScaler.fit(raw, cohort.tasks, FOLD.train)
    connectome, clinical = features.steps["connectome"], features.steps["clinical"]
    assert isinstance(connectome, ConnectomeSteps)
    assert isinstance(clinical, ClinicalSteps)
    assert connectome.regional is not None
    assert len(connectome.edge_steps) == 3
    parts = (features, *connectome.edge_steps, connectome.scaler, connectome.regional, clinical.encoder, scaler)
    assert all(part.ids == FOLD.train for part in parts)
    arrays = {**arrays, "targets.mean": scaler.mean, "targets.scale": scaler.scale, "targets": scaler.apply(raw)}
    return tensor_bytes(arrays) + canonical_json(plain).encode()


@pytest.mark.parametrize("wreck", WRECKS)
def test_no_step_of_the_features_moves(wreck: str) -> None:
    assert state_of(WRECKS[wreck](TARGET)) == state_of(TARGET)


@pytest.mark.parametrize("canary", CANARIES)
def test_steps_do_move_with_a_training_row(canary: str) -> None:
    assert state_of(CANARIES[canary](TARGET)) != state_of(TARGET)


@pytest.mark.parametrize("method", ["combat", "gamma"])
@pytest.mark.parametrize("wreck", WRECKS)
def test_site_effects_do_not_move(method: Literal["combat", "gamma"], wreck: str) -> None:
    def state(cohort: Cohort) -> bytes:
        settings = FeatureSettings(harmonise=HarmoniseSettings(method=method))
        found = fit_steps(cohort, FOLD.train, settings, ("connectome",))
        steps = found.steps["connectome"]
        assert isinstance(steps, ConnectomeSteps)
        FOLD.admit("site effects", steps.edge_steps[0].ids)
        arrays, plain = found.state()
        assert any(name.startswith("connectome.edge_steps.0.") for name in arrays)
        return tensor_bytes(arrays) + canonical_json(plain).encode()

    want = state(TARGET)
    assert state(WRECKS[wreck](TARGET)) == want
    assert state(with_rows(TARGET, FOLD.train[:1], weights=3.0)) != want


def test_a_study_with_site_effects_removed_trains_and_predicts_other_values() -> None:
    plain, harmonised = (
        plan_of(FOLD, small_settings(harmonise=HarmoniseSettings(method=method)), scheme="scratch")
        for method in ("none", "combat")
    )
    assert plain.key != harmonised.key
    results = fit([plain, harmonised], COHORTS.by_name())
    one, other = (results[plan.key].predictions[FOLD.test[0]] for plan in (plain, harmonised))
    assert np.isfinite(other).all()
    assert not np.array_equal(one, other)


def without_predictions(plan: FitPlan) -> FitPlan:
    parents = tuple((name, without_predictions(parent)) for name, parent in plan.parents)
    return replace(plan, predict=(), parents=parents)


def everything_fitted(
    target: Cohort, schemes: Sequence[str], model: ModelSettings, objective: str = "masked_edges"
) -> dict[str, bytes]:
    """All fits of these schemes by key. The pool contains infants of the target, including tested ones."""
    stages = small_settings(steps=2).stages.model_dump()
    stages["adapt"]["objective"] = {"kind": objective}
    study = small_settings(
        model=model, stages=stages, confounds=Confounds(columns=("age",)), edges=EdgeSettings(n_edges=40)
    )
    assert COHORTS.source is not None
    pool = replace(target, name="pool")
    cohorts = StudyCohorts({"target": target, "source": with_region_features(COHORTS.source), "pool": pool})
    plans = [plan_of(FOLD, study, cohorts=cohorts, scheme=scheme) for scheme in schemes]
    results = fit([without_predictions(plan) for plan in plans], cohorts.by_name())
    assert all(not set(result.rows) & set(FOLD.test) for result in results.values())
    return {key: fitted_bytes(result) for key, result in results.items()}


@cache
def fitted_as_it_is(*schemes: str, kind: str = "flat") -> dict[str, bytes]:
    return everything_fitted(TARGET, schemes, MODELS[kind])


MODELS = {"graph": GRAPH, "flat": FLAT}
ALL_SCHEMES = tuple(scheme.name for scheme in SCHEMES if scheme.name != "no_image")


@pytest.mark.parametrize("wreck", WRECKS)
@pytest.mark.parametrize("kind", MODELS)
def test_whole_fits_of_every_scheme_do_not_move(kind: str, wreck: str) -> None:
    want = fitted_as_it_is(*ALL_SCHEMES, kind=kind)
    assert everything_fitted(WRECKS[wreck](TARGET), ALL_SCHEMES, MODELS[kind]) == want


OTHER_OBJECTIVES = sorted(
    kind.model_fields["kind"].default
    for kind in OBJECTIVES
    if kind is not MaskedEdges and kind.modality == "connectome" and kind.__module__.startswith("connectome_tl")
)
# Models of volumes are tested in tests/workflows/test_image_study.py and tests/evaluation/test_image_baselines.py.
OF_VOLUMES = {
    "random_encoder",
    "volumes",
    "quantiles",
    "volumes_quantiles",
    "pca_gpr",
    "two_stage",
    "synthetic_volumes",
    "mixed_volumes",
    "real_volumes",
}
OF_MATRICES = [name for name in BASELINES if name not in OF_VOLUMES]


@pytest.mark.parametrize("objective", OTHER_OBJECTIVES)
def test_whole_fits_of_every_objective_do_not_move(objective: str) -> None:
    want = everything_fitted(TARGET, ["network"], FLAT, objective)
    for name in ("missing", "huge", "shuffled"):
        assert everything_fitted(WRECKS[name](TARGET), ["network"], FLAT, objective) == want, name
    moved = everything_fitted(CANARIES["weights"](TARGET), ["network"], FLAT, objective)
    assert moved.keys() != want.keys()
    # The adaptation (the infant is in its pool), and stage 3 from both starts.
    assert len(set(moved.values()) - set(want.values())) == 3


OTHER_ENCODERS = [kind for kind in get_args(get_args(AnyEncoder)[0]) if kind not in (GraphEncoder, FlatEncoder)]


@pytest.mark.parametrize("encoder", OTHER_ENCODERS, ids=lambda kind: kind.model_fields["kind"].default)
def test_whole_fits_of_every_encoder_do_not_move(encoder: type[EncoderSettings]) -> None:
    model = FLAT.model_copy(update={"encoder": encoder()})
    want = everything_fitted(TARGET, ["network"], model)
    for name in ("huge", "shuffled"):
        assert everything_fitted(WRECKS[name](TARGET), ["network"], model) == want, name
    moved = everything_fitted(CANARIES["weights"](TARGET), ["network"], model)
    # The adaptation (the infant is in its pool), and stage 3 from both starts.
    assert len(set(moved.values()) - set(want.values())) == 3


@pytest.mark.parametrize("canary", CANARIES)
def test_whole_fits_do_move_with_a_training_row(canary: str) -> None:
    want = fitted_as_it_is("full")
    found = everything_fitted(CANARIES[canary](TARGET), ["full"], FLAT)
    assert found.keys() != want.keys()
    fitted = set(found.values())
    moved = [key for key, content in want.items() if content not in fitted]
    assert moved or canary == "site"  # without harmonisation a site has no effect


def test_outcomes_of_training_rows_move_the_supervised_fits_alone() -> None:
    want = fitted_as_it_is("full")
    targets = TARGET.targets.copy()
    targets.loc[list(FOLD.train), list(TASKS)] = targets.loc[list(FOLD.train[::-1]), list(TASKS)].to_numpy()
    found = everything_fitted(replace(TARGET, targets=targets), ["full"], FLAT)
    stages = {key: content for key, content in want.items() if content not in set(found.values())}
    assert 3 <= len(stages) < len(want)


def test_a_row_of_the_test_fold_predicts_itself_alone() -> None:
    for scheme in ("full", "core", "network"):
        plan = plan_of(FOLD, scheme=scheme)
        want = fit([plan], COHORTS.by_name())[plan.key].predictions
        others = FOLD.test[1:]
        cohorts = COHORTS.with_role("target", with_rows(COHORTS.target, others, weights=1e3))
        again = fit([plan], cohorts.by_name())[plan.key].predictions
        np.testing.assert_allclose(again[FOLD.test[0]], want[FOLD.test[0]], rtol=1e-5)
        assert not np.allclose(again[FOLD.test[1]], want[FOLD.test[1]])


def test_a_scaler_fitted_on_all_rows_is_caught() -> None:
    features = fit_steps(COHORTS.target, COHORTS.target.ids, FeatureSettings(), BOTH)
    for step in (features, *features.steps.values()):
        with pytest.raises(LeakageError):
            FOLD.admit("scaler", step.ids)
    FOLD.admit("ridge", BaselineData(small_settings(), COHORTS, ()).edges(FOLD).fitted_on)


@pytest.mark.parametrize("correlations", [False, True])
def test_no_baseline_sees_a_test_row(correlations: bool) -> None:
    study = small_settings(baselines=tuple(OF_MATRICES), confounds=Confounds(columns=("age",)))
    cohorts = StudyCohorts({role: changed(cohort, correlations) for role, cohort in COHORTS.roles.items()})
    target = cohorts.target
    tasks = [target.task(name) for name in TASKS]
    found = baselines_of(study, cohorts, tasks)
    assert set(found) == set(OF_MATRICES)
    spoiled = baselines_of(study, cohorts.with_role("target", wrecked(target, FOLD.test)), tasks)
    y = target.targets["cognitive"].to_numpy(float)[target.positions(FOLD.train)]
    for name, baselines in found.items():
        for one, other in zip(baselines, spoiled[name], strict=True):
            design, again = one.design(FOLD), other.design(FOLD)
            FOLD.admit(name, design.fitted_on)
            assert (design.train.shape[1] > 0) == (name != "prevalence" and (correlations or name != "tangent_ridge"))
            np.testing.assert_array_equal(design.train, again.train)
            # With the same rows to predict, no fitted state may differ, including the learner's.
            first, second = (
                one.learner.predict(replace(part, test=design.test), y, True) if design.train.shape[1] else np.zeros(1)
                for part in (design, again)
            )
            np.testing.assert_array_equal(first, second, err_msg=name)


def changed(cohort: Cohort, correlations: bool) -> Cohort:
    return with_correlations(cohort) if correlations else cohort


def test_every_baseline_moves_with_an_outcome_of_training_alone() -> None:
    study = small_settings(baselines=tuple(name for name in OF_MATRICES if name != "tangent_ridge"))
    plan, tasks = SplitPlan(((FOLD,),)), [TARGET.task(name) for name in TASKS]
    made = {
        what: baseline_predictions(study, COHORTS.with_role("target", cohort), plan, tasks)
        for what, cohort in (
            ("as it is", COHORTS.target),
            ("test", other_outcomes(COHORTS.target, COHORTS.target.positions(FOLD.test))),
            ("train", other_outcomes(COHORTS.target, COHORTS.target.positions(FOLD.train[:4]))),
        )
    }
    want = made["as it is"]
    assert set(want["model"]) == set(study.baselines)
    np.testing.assert_array_equal(made["test"]["y_score"], want["y_score"])
    moved = want["y_score"] != made["train"]["y_score"]
    assert set(want.loc[moved, "model"]) == set(study.baselines)
