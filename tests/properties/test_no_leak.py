"""Wreck the test rows: not a byte of anything fitted may move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from connectome_tl.features.batches import fit_features, fit_targets
from small_study import FLAT, GRAPH, TASKS, small_cohorts, small_settings, with_rows

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import LeakageError
from connectome_tl.evaluation.baselines.fixed import edge_table
from connectome_tl.provenance import canonical_json
from connectome_tl.settings.features import HarmoniseSettings
from connectome_tl.settings.study import Confounds, ModelSettings
from connectome_tl.training.checkpoint import tensor_bytes
from connectome_tl.training.fit import fit
from connectome_tl.training.stages import SCHEMES, StudyCohorts, chain

COHORTS = small_cohorts()
N_FEATURES = 2


def with_region_features(cohort: Cohort) -> Cohort:
    features = np.random.default_rng(1).normal(size=(cohort.n_subjects, cohort.n_regions, N_FEATURES))
    return replace(cohort, region_features=features, region_feature_names=("thickness", "volume"))


TARGET = with_region_features(COHORTS.target)
FOLD = Fold(TARGET.ids[:16], TARGET.ids[16:])
CONFOUNDS = ("age", "sex", "log(mean_fd)")


def _numbers(value: float) -> Callable[[Cohort], Cohort]:
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


WRECKS: dict[str, Callable[[Cohort], Cohort]] = {
    "missing": _numbers(np.nan),
    "huge": _numbers(1e30),
    "shuffled": _shuffled,
    "no regions": _unmasked,
}


def state_of(cohort: Cohort) -> bytes:
    """All that is fitted on the features and targets of the training rows."""
    features = fit_features(cohort, FOLD.train, clinical=True, confounds=CONFOUNDS)
    arrays, plain = features.state()
    scaler, targets = fit_targets(cohort, FOLD.train, cohort.tasks)
    assert {name.split(".")[0] for name in arrays} == {"edges", "confounds", "regional", "covariates"}
    arrays |= {"targets.mean": scaler.mean, "targets.scale": scaler.scale, "targets": targets}
    fitted = (features, features.edges, features.confounds, features.regional, features.covariates, scaler)
    assert all(part is not None and part.ids == FOLD.train for part in fitted)
    return tensor_bytes(arrays) + canonical_json(plain).encode()


@pytest.mark.parametrize("wreck", WRECKS)
def test_scalers_imputation_and_confounds_do_not_move(wreck: str) -> None:
    assert state_of(WRECKS[wreck](TARGET)) == state_of(TARGET)


@pytest.mark.parametrize("method", ["combat", "gamma"])
@pytest.mark.parametrize("wreck", WRECKS)
def test_site_effects_do_not_move(method: Literal["combat", "gamma"], wreck: str) -> None:
    def state(cohort: Cohort) -> bytes:
        found = fit_features(cohort, FOLD.train, clinical=False, harmonise=HarmoniseSettings(method=method))
        assert found.harmoniser is not None
        FOLD.admit("site effects", found.harmoniser.ids)
        arrays, plain = found.state()
        assert any(name.startswith("harmoniser.0.") for name in arrays)
        return tensor_bytes(arrays) + canonical_json(plain).encode()

    want = state(TARGET)
    assert state(WRECKS[wreck](TARGET)) == want
    assert state(with_rows(TARGET, FOLD.train[:1], weights=3.0)) != want


def test_a_study_with_site_effects_removed_trains_and_predicts_other_values() -> None:
    plain, harmonised = (
        chain(small_settings(harmonise=HarmoniseSettings(method=method)), COHORTS, SCHEMES[1], FOLD, TASKS, seed=0)
        for method in ("none", "combat")
    )
    assert plain.key != harmonised.key
    results = fit([plain, harmonised], COHORTS.by_name())
    one, other = (results[plan.key].predictions[FOLD.test[0]] for plan in (plain, harmonised))
    assert np.isfinite(other).all()
    assert not np.array_equal(one, other)


def test_they_do_move_with_a_training_row() -> None:
    want = state_of(TARGET)
    assert state_of(with_rows(TARGET, FOLD.train[:1], weights=3.0)) != want
    assert state_of(replace(TARGET, covariates=TARGET.covariates.assign(birth_weight=1.0))) != want
    assert state_of(with_rows(TARGET, FOLD.train[:1], region_features=3.0)) != want


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
@pytest.mark.parametrize("model", [GRAPH, FLAT], ids=["graph", "flat"])
def test_whole_fits_of_every_scheme_do_not_move(scheme: object, model: ModelSettings) -> None:
    study = small_settings(model=model, epochs=2, confounds=Confounds(columns=("age",)))

    def states(target: Cohort) -> dict[str, bytes]:
        # The pool holds infants of the target, tested ones too, as it does where one cohort serves both.
        pool = replace(target, name="pool")
        cohorts = StudyCohorts(target, with_region_features(COHORTS.source), pool)  # type: ignore[arg-type]
        plan = replace(chain(study, cohorts, scheme, FOLD, TASKS, seed=0), predict=())  # type: ignore[arg-type]
        results = fit([plan], cohorts.by_name())
        return {
            key: tensor_bytes({**result.state, **result.fitted, "curve": result.curve})
            + canonical_json([result.fitted_plain, sorted(result.rows)]).encode()
            for key, result in results.items()
        }

    want = states(TARGET)
    for name in ("missing", "shuffled"):
        assert states(WRECKS[name](TARGET)) == want, name
    other = with_rows(TARGET, FOLD.train[:1], weights=TARGET.weights[:1] * 1.5)
    assert states(other).keys() != want.keys()


def test_a_row_of_the_test_fold_predicts_itself_alone() -> None:
    plan = chain(small_settings(), COHORTS, SCHEMES[0], FOLD, TASKS, seed=0)
    want = fit([plan], COHORTS.by_name())[plan.key].predictions
    others = FOLD.test[1:]
    target = with_rows(COHORTS.target, others, weights=1e3)
    again = fit([plan], replace(COHORTS, target=target).by_name())[plan.key].predictions
    np.testing.assert_allclose(again[FOLD.test[0]], want[FOLD.test[0]], rtol=1e-6)
    assert not np.allclose(again[FOLD.test[1]], want[FOLD.test[1]])


def test_a_scaler_fitted_on_all_rows_is_caught() -> None:
    features = fit_features(COHORTS.target, COHORTS.target.ids, clinical=True)
    assert features.covariates is not None
    for step in (features, features.edges, features.covariates):
        with pytest.raises(LeakageError):
            FOLD.admit("scaler", step.ids)
    design = edge_table(small_settings(), COHORTS.target, FOLD)
    FOLD.admit("ridge", design.fitted_on)
