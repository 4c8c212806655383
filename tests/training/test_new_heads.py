"""The head of an outcome that is new in a stage starts as a combination of the heads of the previous stage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score
from small_study import plan_of, retrained, small_cohorts, small_settings, weights_of

from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.study import CohortUse
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import NetworkModel
from connectome_tl.training.networks.heads import _combined
from connectome_tl.training.plans import FitPlan

COHORTS = small_cohorts()
TRAIN = COHORTS.target.ids[:18]


def started(scheme: str = "network", **changed: object) -> tuple[FitPlan, FitResult, FitResult | None]:
    """A plan of one network without any step, its fit, and that of the previous stage."""
    study = small_settings(source=CohortUse(cohort="older/cohort.yaml", tasks=("score", "age", "sex")))
    plan = plan_of(Fold(TRAIN, ()), study, scheme=scheme, inner=(), checkpoints=(), **changed)
    plan = retrained(plan, steps=0)
    results = fit([plan], COHORTS.by_name())
    parent = dict(plan.parents).get("stage")
    return plan, results[plan.key], None if parent is None else results[parent.key]


@pytest.mark.parametrize("task", ["cognitive", "motor_score"])
def test_it_is_the_ridge_regression_on_the_outputs_of_the_old_heads(task: str) -> None:
    _, result, parent = started()
    assert parent is not None
    child, before = weights_of(result), weights_of(parent)
    model = NetworkModel.of(result.arrays, result.plain)
    embedded = model.embed(COHORTS.target, TRAIN)
    weight = np.concatenate([before[f"heads.{name}.weight"] for name in ("score", "age", "sex")])
    bias = np.concatenate([before[f"heads.{name}.bias"] for name in ("score", "age", "sex")])
    scores = embedded @ weight.T + bias
    goal = model.targets.apply(COHORTS.target.targets.loc[list(TRAIN), ["cognitive", "motor_score"]].to_numpy(float))
    y = goal[:, ["cognitive", "motor_score"].index(task)]
    known = np.isfinite(y)
    x = scores[known] / scores[known].std(axis=0)
    ridge = RidgeCV(np.logspace(-3, 3, 25) * known.sum()).fit(x, y[known])
    expected = ridge.predict(scores / scores[known].std(axis=0))
    if task == "cognitive":
        mean = y[known].mean()
        expected = logit(mean) + 4 * (expected - mean)
    found = embedded @ child[f"heads.{task}.weight"][0] + child[f"heads.{task}.bias"][0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_its_penalty_is_chosen_without_the_relatives_of_a_row() -> None:
    """Every infant is there twice, with equal scores and outcome: errors that leave out one row would be too small."""
    rng = np.random.default_rng(0)
    scores, noise = rng.normal(size=(20, 15)), rng.normal(size=20)
    twice = [np.repeat(values, 2, axis=0) for values in (scores, noise)]
    by_row, _ = _combined(*twice, np.arange(40))
    by_family, _ = _combined(*twice, np.repeat(np.arange(20), 2))
    assert np.abs(by_family).max() < 0.1 * np.abs(by_row).max()


def test_a_network_without_earlier_stages_keeps_its_random_heads() -> None:
    plan, result, parent = started("network_scratch")
    assert parent is None
    weights = weights_of(result)["heads.cognitive.weight"]
    assert 0 < np.abs(weights).max() <= plan.model.fused_width**-0.5  # type: ignore[union-attr]


def test_heads_that_are_not_carried_start_at_random() -> None:
    plan, _, _ = started()
    _, with_heads, _ = started()
    _, without, _ = started(transfer=replace(plan.transfer, carry=("encoder", "fusion")))
    one, two = (weights_of(result)["heads.cognitive.weight"] for result in (with_heads, without))
    assert not np.array_equal(one, two)


def test_a_related_source_is_found_before_the_first_step() -> None:
    """The older subjects' score affects the same edges as the infants' outcome, with another name and sign."""
    cohorts = small_cohorts(n_source=240, n_target=60, effect=2.0)
    study = small_settings(source=CohortUse(cohort="older/cohort.yaml", tasks=("score", "age", "sex")), steps=160)
    target = cohorts.target
    plan = plan_of(Fold(target.ids[:30], target.ids[30:]), study, cohorts=cohorts, scheme="network_no_adapt", inner=())
    plan = retrained(replace(plan, checkpoints=()), steps=0)
    result = fit([plan], cohorts.by_name())[plan.key]
    truth = target.targets["cognitive"].to_numpy(float)[30:]
    risk = np.array([result.predictions[subject][0] for subject in target.ids[30:]])
    known = np.isfinite(truth)
    assert roc_auc_score(truth[known], risk[known]) > 0.75
