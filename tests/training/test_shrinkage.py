"""Predictions of values are shrunk towards the mean by held-out rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import plan_of, small_cohorts, small_settings

import connectome_tl.training.networks.ensemble as ensemble
from connectome_tl.cohort.splits import Fold
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import StudyCohorts

COHORTS = small_cohorts(n_target=40)
FOLD = Fold(COHORTS.target.ids[:28], COHORTS.target.ids[28:])
AT = 1  # column of the motor score, after the risk


def plan(cohorts: StudyCohorts = COHORTS) -> FitPlan:
    alone = small_settings(steps=40).with_settings({"stages.finetune.ensemble.random_start": False})
    return plan_of(FOLD, alone, cohorts=cohorts, scheme="network")


def fitted(cohorts: StudyCohorts = COHORTS) -> FitResult:
    wanted = plan(cohorts)
    return fit([wanted], cohorts.by_name())[wanted.key]


def motor(values: dict[str, np.ndarray], ids: tuple[str, ...]) -> np.ndarray:
    return np.array([values[subject][AT] for subject in ids])


def test_values_are_moved_to_the_line_of_held_out_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    shrunk = fitted()
    monkeypatch.setattr(ensemble, "shrink", lambda *_: {})
    plain = fitted()
    truth = COHORTS.target.targets.loc[list(FOLD.train), "motor_score"].to_numpy(float)
    known = np.isfinite(truth)
    before = motor(plain.held_out, FOLD.train)
    slope = np.clip(np.polyfit(before[known], truth[known], 1)[0], 0.1, 1)
    assert 0.1 < slope < 0.95
    assert shrunk.facts["slope motor_score"] == pytest.approx(slope, rel=1e-5)

    tested = motor(plain.predictions, FOLD.test)
    line = truth[known].mean() + slope * (tested - before[known].mean())
    np.testing.assert_allclose(motor(shrunk.predictions, FOLD.test), line, rtol=1e-4)
    # Held-out predictions of a part: by the slope of the other parts, so that they do not depend on its outcomes.
    after = motor(shrunk.held_out, FOLD.train)
    for part in plan().inner:
        own = np.isin(FOLD.train, part)
        others = known & ~own
        slope = np.clip(np.polyfit(before[others], truth[others], 1)[0], 0.1, 1)
        line = truth[others].mean() + slope * (before[own] - before[others].mean())
        np.testing.assert_allclose(after[own], line, rtol=1e-4)
    # Risks are unchanged.
    for subject in FOLD.test:
        assert shrunk.predictions[subject][0] == plain.predictions[subject][0]


def test_values_of_noise_are_predicted_by_their_mean() -> None:
    rng, slopes = np.random.default_rng(5), []
    for _ in range(4):
        targets = COHORTS.target.targets.assign(motor_score=100 + 15 * rng.normal(size=COHORTS.target.n_subjects))
        noisy = COHORTS.with_role("target", replace(COHORTS.target, targets=targets))
        result = fitted(noisy)
        slopes.append(result.facts["slope motor_score"])
        spread = motor(result.predictions, FOLD.test).std()
        assert spread < 15 * 0.6
    assert np.median(slopes) < 0.5
