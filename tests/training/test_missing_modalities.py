"""A subject without covariates, or without a connectome, is learnt from and predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_study import FLAT, GRAPH, TASKS, plan_of, small_cohorts, small_settings, with_rows

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.model import ModelSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted import NetworkModel, stored_model

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
    # Training rows lack them too, so that what stands in their place is learnt.
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
    """Whatever stands in the place of what is not there, the network says the same."""
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
