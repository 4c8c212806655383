"""Edges in bfloat16: nearly the same fit in half the memory, the same every time, for encoders that take it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import plan_of, retrained, small_cohorts, small_settings, weights_of

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.models import SettingsError
from connectome_tl.settings.encoders import FlatEncoder, GraphEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import SplitSettings, Stages
from connectome_tl.settings.training import FineTune, Training
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import FitPlan

COHORTS = small_cohorts()
FOLD = make_split_plan(COHORTS.target, SplitSettings(repeats=1, outer=3, stratum="cognitive")).repeats[0][0]


def one(plan: FitPlan) -> FitResult:
    return fit([plan], COHORTS.by_name())[plan.key]


def predicted(result: FitResult) -> np.ndarray:
    return np.array(list(result.predictions.values()))


def test_a_fit_on_edges_in_bfloat16_is_nearly_that_in_float32() -> None:
    model = ModelSettings(encoder=GraphEncoder(width=8, embedding=8))
    study = small_settings(model=model)
    plan = replace(plan_of(FOLD, study, scheme="network_scratch", inner=(), checkpoints=()), predict=FOLD.test)
    plan = retrained(plan, steps=40, part_learning_rates={})
    exact, other = one(plan), one(replace(plan, seed=plan.seed + 1))
    lower = retrained(plan, precision="bf16")
    assert lower.key != plan.key
    found, again = one(lower), one(lower)
    assert all(np.array_equal(weights_of(found)[name], value) for name, value in weights_of(again).items())
    assert np.array_equal(predicted(found), predicted(again))
    apart = np.abs(predicted(found) - predicted(exact)).max()
    assert 0 < apart < 0.1 * np.abs(predicted(other) - predicted(exact)).max()


def test_precision_is_refused_for_encoders_that_do_not_take_it() -> None:
    stages = Stages(finetune=FineTune(training=Training(precision="bf16")))
    for encoder in (FlatEncoder(), GraphEncoder(engine="pyg")):
        with pytest.raises(SettingsError, match=r"stages.finetune.training.precision: bf16 goes with"):
            small_settings(model=ModelSettings(encoder=encoder), stages=stages)
    small_settings(stages=stages)
