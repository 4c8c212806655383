"""Records of a run: training curves by step, models whose training has not converged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.nested_cv import CrossValidation, PlannedFold
from connectome_tl.report.figures.fits import training_figure
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.model_table import model_named
from connectome_tl.settings.training import Training
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.core_stage import UNUSED_SOURCE
from connectome_tl.training.plans import FitPlan, RowSet, StageName
from connectome_tl.workflows.study.records import idle_controls, training_curves, unsettled

FOLD = Fold(tuple(f"s{i}" for i in range(40)), ())
LATE = "still improving at the last step: motor_score"


def plan(seed: int, *, stage: StageName = "finetune", n_rows: int = 40, parent: FitPlan | None = None) -> FitPlan:
    ids = tuple(f"s{i}" for i in range(n_rows))
    parents = () if parent is None else (("stage", parent),)
    rows = RowSet("target", ids, "")
    return FitPlan(stage, rows, ("y",), (), FeatureSettings(), seed, training=Training(), parents=parents)


def result(made: FitPlan, curve: np.ndarray | None = None, *notes: str) -> FitResult:
    values = np.zeros(0) if curve is None else curve
    return FitResult(made.key, made.stage, frozenset(), made.tasks, {}, {}, curve=values, notes=notes)


def validation(plans: dict[str, list[FitPlan]], results: list[FitResult]) -> CrossValidation:
    planned = tuple(PlannedFold(model, (), 0, 0, FOLD, tuple(own)) for model, own in plans.items())
    return CrossValidation(pd.DataFrame(), planned, {one.key: one for one in results})


def test_the_points_of_a_training_curve_are_at_their_steps() -> None:
    few, many = plan(0), plan(1, n_rows=640)
    # A point is the mean of 4 of 320 steps, or of 7 of 640; losses are their own step.
    results = [result(few, np.arange(4.0, 321.0, 4)), result(many, np.minimum(np.arange(7.0, 645.0, 7), 640.0))]
    (curve,) = training_curves(validation({"network": [few]}, results))
    assert curve.step == tuple(range(4, 321, 4))
    assert curve.median == curve.step
    (longer,) = training_curves(validation({"network": [many]}, results))
    assert longer.step[-2:] == (637, 640)
    (mixed,) = training_curves(validation({"network": [few, many]}, results))
    assert mixed.step == curve.step
    np.testing.assert_allclose(mixed.median[1:], mixed.step[1:])  # 7 is the first known step of one of them
    svg = training_figure([mixed], "t")
    assert svg is not None
    assert ">Step<" in svg


@pytest.mark.parametrize("controls", [("scratch",), ("scratch", "network_scratch")])
def test_a_control_whose_network_is_undertrained_is_named_once(controls: tuple[str, ...]) -> None:
    early = plan(2, stage="pretrain")
    whole, bare, other = plan(0, parent=early), plan(1), plan(3, parent=early)
    plans = {"full": [whole], "network": [whole], **{name: [bare] for name in controls}, "no_clinical": [other]}
    slow = "the training loss was still falling at the last step"
    results = [result(early, None, slow), result(whole), result(bare, None, LATE), result(other)]
    assert unsettled(validation(plans, results)) == (
        f"Full model (stage 1: pretraining): {slow} (1 of 1 fits)",
        f"Network alone (stage 1: pretraining): {slow} (1 of 1 fits)",
        f"{model_named(controls[-1]).label} (stage 3: fine-tuning): {LATE} (1 of 1 fits)",
    )


@pytest.mark.parametrize(("n_idle", "said"), [(0, ()), (1, ("in 1 of 2 fits",)), (2, ("in 2 of 2 fits",))])
def test_a_control_with_a_permuted_source_that_was_not_usable_is_named(n_idle: int, said: tuple[str, ...]) -> None:
    plans = [plan(0), plan(1)]
    results = [result(one, None, *[UNUSED_SOURCE] * (i < n_idle)) for i, one in enumerate(plans)]
    found = idle_controls(validation({"core_permuted_source": plans, "core_scratch": plans}, results))
    assert len(found) == len(said)
    assert all(text.startswith("Core with a permuted source: ") and words in text for text, words in zip(found, said))
