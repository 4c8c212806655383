"""Corruption of test rows by the guard: all values are exchanged or absurd, with unchanged types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from connectome_tl.audit.corruption import other_outcomes, wrecked
from connectome_tl.features.tangent import holds_correlations
from connectome_tl.tasks import Task
from tests.small_study import small_cohorts

TARGET = small_cohorts().target
IDS = TARGET.ids[16:]


def test_everything_of_these_subjects_changes_and_nothing_of_others() -> None:
    features = np.random.default_rng(0).normal(size=(TARGET.n_subjects, TARGET.n_regions, 2))
    cohort = replace(TARGET, region_features=features, region_feature_names=("a", "b"))
    spoiled = wrecked(cohort, IDS)
    assert spoiled.region_features is not None
    for i, subject in enumerate(cohort.ids):
        same = subject not in IDS
        pairs = [(spoiled.weights, cohort.weights), (spoiled.region_features, features), (spoiled.age, cohort.age)]
        pairs += [
            (getattr(spoiled, table)[name].to_numpy(), getattr(cohort, table)[name].to_numpy())
            for table in ("covariates", "targets")
            for name in getattr(cohort, table).select_dtypes("number")
        ]
        for new, old in pairs:
            missing = np.ndim(old[i]) == 0 and np.isnan(old[i])
            assert np.array_equal(new[i], old[i], equal_nan=True) == (same or missing)
    assert wrecked(cohort, ["nobody"]) is cohort


def test_what_is_measured_stays_of_its_kind() -> None:
    rng = np.random.default_rng(0)
    found = [np.corrcoef(rng.normal(size=(TARGET.n_regions, 30))) for _ in TARGET.ids]
    everywhere = np.ones_like(TARGET.node_mask)
    cohort = replace(TARGET, weights=np.array(found, dtype=np.float32)[:, None], node_mask=everywhere)
    assert holds_correlations(wrecked(cohort, IDS), IDS)
    numbers = wrecked(TARGET, IDS).covariates.select_dtypes("number").loc[list(IDS)]
    assert (numbers > 0).all().all()


def test_other_outcomes_are_outcomes_of_the_same_kind() -> None:
    level = np.arange(TARGET.n_subjects) % 3.0
    task = Task(name="level", kind="multiclass", column="level", levels=("a", "b", "c"))
    cohort = replace(TARGET, tasks=(*TARGET.tasks, task), targets=TARGET.targets.assign(level=level))
    rows = cohort.positions(IDS)
    found = other_outcomes(cohort, rows).targets
    assert set(found["level"]) <= {0.0, 1.0, 2.0}
    assert (found["level"].to_numpy()[rows] != level[rows]).all()
    assert set(found["cognitive"].dropna()) <= {0.0, 1.0}
