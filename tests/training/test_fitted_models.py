"""A loaded fit has the same predictions as before, byte for byte, with every setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kinds_of_study import KINDS_OF_STUDY, Case
from small_study import not_averaged, plan_of, small_cohorts, small_settings, with_rows

from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import DataError, InternalError, MissingInputError
from connectome_tl.features.steps import Features
from connectome_tl.provenance import content_hash
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import MixtureModel, NetworkModel, fitted_model, stored_model

COHORTS = small_cohorts()
FOLD = Fold(COHORTS.target.ids[:16], COHORTS.target.ids[16:])


@pytest.mark.parametrize("case", KINDS_OF_STUDY.values(), ids=KINDS_OF_STUDY)
def test_every_stored_fit_predicts_what_it_predicted(case: Case, tmp_path: Path) -> None:
    cohorts, fold = case.cohorts, case.fold
    store = FitStore(tmp_path)
    plans = [case.plan(scheme) for scheme in case.schemes]
    results = fit(plans, cohorts.by_name(), store=store)
    assert {member.stage for plan in plans for member in plan.lineage()} == case.stages
    members = {member.key: member for plan in plans for member in plan.lineage()}
    for key, member in members.items():
        model, cohort = stored_model(store, key), cohorts.by_name()[member.train.cohort]
        ids = fold.test if member.train.cohort == "target" else cohort.ids[:5]
        predicted, embedded = model.predict(cohort, ids), model.embed(cohort, ids)
        assert predicted.shape == (len(ids), sum(task.n_columns for task in model.tasks))
        assert np.isfinite(predicted).all()
        assert len(embedded) == len(ids)
        assert np.isfinite(embedded).all()
        stored = results[key].predictions
        if stored:
            assert predicted.tobytes() == np.array([stored[subject] for subject in ids]).tobytes(), member.stage
        in_memory = fitted_model(results[key], lambda k: results[k])
        assert in_memory.embed(cohort, ids).tobytes() == embedded.tobytes()
        assert in_memory.predict(cohort, ids).tobytes() == predicted.tobytes()
        for part in parts_of(model):
            arrays, plain = part.state()
            again, plain_again = Features.of(arrays, plain).state()
            assert content_hash(plain_again, *again.values()) == content_hash(plain, *arrays.values())
            assert again.keys() == arrays.keys()


def test_tested_rows_change_no_number_of_quadratic_kernels() -> None:
    case = KINDS_OF_STUDY["quadratic kernels"]
    target, test = case.cohorts.target, case.fold.test
    other = with_rows(target, test, weights=target.weights[0], region_features=1e3)
    poisoned = replace(case, cohorts=case.cohorts.with_role("target", other))
    plan, again = case.plan("core"), poisoned.plan("core")
    assert again.key == plan.key
    first, second = (fit([plan], one.cohorts.by_name())[plan.key] for one in (case, poisoned))
    assert any(name.startswith("core/quadratic.") for name in first.arrays)
    assert first.arrays.keys() == second.arrays.keys()
    for name, values in first.arrays.items():
        assert values.tobytes() == second.arrays[name].tobytes(), name
    assert any((first.predictions[subject] != second.predictions[subject]).any() for subject in test)


def parts_of(model: object) -> list[Features]:
    if isinstance(model, MixtureModel):
        return [*parts_of(model.core), *parts_of(model.network)]
    if isinstance(model, CoreModel):
        return [one for one in (model.features, model.tangent) if one is not None]
    assert isinstance(model, NetworkModel)
    return [model.features]


def test_one_subject_at_a_time_is_the_same_as_all_at_once() -> None:
    for scheme in ("full", "core", "network"):
        plan = plan_of(FOLD, scheme=scheme)
        results = fit([plan], COHORTS.by_name())
        model = fitted_model(results[plan.key], lambda key: results[key])  # noqa: B023
        together = model.predict(COHORTS.target, FOLD.test)
        for i, subject in enumerate(FOLD.test):
            np.testing.assert_allclose(model.predict(COHORTS.target, [subject])[0], together[i], rtol=1e-5)


def test_a_model_of_other_regions_is_refused() -> None:
    plan = plan_of(FOLD, scheme="full")
    results = fit([plan], COHORTS.by_name())
    model = fitted_model(results[plan.key], lambda key: results[key])
    other = small_cohorts(n_regions=10).target
    for apply in (model.predict, model.embed):
        with pytest.raises(DataError, match="has other regions than the model"):
            apply(other, other.ids)


def test_a_fit_that_kept_nothing_is_no_model(tmp_path: Path) -> None:
    plan = replace(plan_of(FOLD, scheme="network_scratch"), keep=False)
    store = FitStore(tmp_path)
    result = fit([plan], COHORTS.by_name(), store=store)[plan.key]
    with pytest.raises(InternalError, match="did not keep"):
        fitted_model(result)
    with pytest.raises(MissingInputError, match="arrays are missing"):
        stored_model(store, plan.key)


def test_a_model_without_the_fits_it_is_made_of_is_refused(tmp_path: Path) -> None:
    for scheme in ("full", "core"):
        plan, store = plan_of(FOLD, scheme=scheme), FitStore(tmp_path / scheme)
        results = fit([plan], COHORTS.by_name(), store=store)
        with pytest.raises(InternalError, match=r"made of|fitted with"):
            fitted_model(results[plan.key])
        (store.folder / f"{plan.parents[0][1].key}.safetensors").unlink()
        with pytest.raises(MissingInputError, match="Run the study again"):
            stored_model(store, plan.key)


def test_the_order_of_covariates_and_heads_survives_being_stored(tmp_path: Path) -> None:
    """JSON sorts keys: columns and heads must not depend on it."""
    study = small_settings(target={"cohort": "t", "tasks": ["motor_score", "cognitive", "language"]})
    plan = replace(
        not_averaged(plan_of(FOLD, study, scheme="network_scratch")), tasks=("motor_score", "cognitive", "language")
    )
    fit([plan], COHORTS.by_name(), store=FitStore(tmp_path))
    model = stored_model(FitStore(tmp_path), plan.key)
    assert isinstance(model, NetworkModel)
    assert list(model.heads) == ["motor_score", "cognitive", "language"]
    encoder = model.features.steps["clinical"].encoder  # type: ignore[attr-defined]
    assert list(encoder.medians) == ["gestational_age", "birth_weight", "ivh_grade"]
    assert list(model.sizes) == list(model.features.steps) == ["connectome", "clinical"]
