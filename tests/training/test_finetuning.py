"""Task weights, mixup, discriminative rates and gradual unfreezing: their effects, and none on controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_study import fitted_bytes, plan_of, retrained, small_cohorts, small_settings, weights_of

from connectome_tl.cohort.splits import Fold
from connectome_tl.features.steps import fit_steps
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.losses import Outcomes, multi_task_loss, summed_losses
from connectome_tl.nn.model import OutcomeModel, build_model, part_of
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.training import Mixup, Training
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import to_batch
from connectome_tl.training.networks.parts import Freezing, parameter_groups
from connectome_tl.training.objectives.mixup import outcome_distances, partners, shares
from connectome_tl.training.objectives.objective import TRAIN
from connectome_tl.training.objectives.supervised import Supervised
from connectome_tl.training.objectives.task_weights import GradientBalance, UncertaintyWeights, Weighting
from connectome_tl.training.plans import FitPlan, Transfer

COHORTS = small_cohorts()
FOLD = Fold(COHORTS.target.ids[:16], COHORTS.target.ids[16:])
OUTCOMES = Outcomes({"a": "regression", "b": "regression", "c": "binary"}, {"a": 1, "b": 1, "c": 1})
MIXUP = {"alpha": 0.4, "neighbours": 3}


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def target_batch() -> Batch:
    target = COHORTS.target
    return to_batch(
        fit_steps(target, target.ids, FeatureSettings(), ("connectome", "clinical")).rows(target, target.ids)
    )


def model_of(batch: Batch) -> OutcomeModel:
    sizes = {name: rows.sizes for name, rows in batch.modalities.items()}
    return build_model(ModelSettings(), sizes, OUTCOMES.sizes).eval()


def single(scheme: str = "network", **training: Any) -> FitPlan:
    return retrained(plan_of(FOLD, scheme=scheme, inner=(), checkpoints=()), part_learning_rates={}, **training)


def weights_after(plan: FitPlan) -> dict[str, np.ndarray]:
    return weights_of(fit([plan], COHORTS.by_name())[plan.key])


def some_goal(n: int = 24) -> torch.Tensor:
    goal = torch.stack([torch.randn(n), 3 * torch.randn(n), (torch.rand(n) > 0.5).float()], dim=1)
    goal[0, 1] = goal[1, 0] = torch.nan
    return goal


# Combination of the losses of several outcomes into one.


def test_equal_weights_are_the_mean_over_outcomes_that_are_there() -> None:
    outputs, goal = torch.randn(24, 3), some_goal()
    goal[:, 2] = torch.nan
    total, count = summed_losses(outputs, goal, None, OUTCOMES)
    found = Weighting()(total / count.clamp_min(1), count > 0, outputs)
    torch.testing.assert_close(found, multi_task_loss(outputs, goal, OUTCOMES))


def test_learned_uncertainties_weigh_a_loss_by_its_inverse_size() -> None:
    """The minimum of exp(-s) L + s is at s = log L, and a missing outcome has no effect."""
    losses, seen = torch.tensor([4.0, 0.25, 9.0]), torch.tensor([True, True, False])
    weights = UncertaintyWeights(3)
    assert weights(losses, seen, losses).item() == pytest.approx(losses[:2].mean().item())
    optimiser = torch.optim.Adam(weights.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        weights(losses, seen, losses).backward()
        optimiser.step()
    assert weights.log_variance.tolist() == pytest.approx([np.log(4), np.log(0.25), 0], abs=0.01)


def test_balanced_gradients_have_the_same_size_at_the_fused_layer() -> None:
    fused = torch.randn(5, 4, requires_grad=True)
    losses = torch.stack([10 * fused[:, 0].square().sum(), fused[:, 1].sum(), (fused[:, 2] * fused[:, 3]).sum()])
    seen = torch.tensor([True, True, True])
    balance = GradientBalance(3)
    balance(losses, seen, fused).backward(retain_graph=True)
    assert fused.grad is not None
    sizes = [fused.grad[:, 0].norm(), fused.grad[:, 1].norm(), fused.grad[:, 2:].norm()]
    assert torch.stack(sizes).std() < 1e-5
    # With equal losses the weights are 1.
    alike = torch.stack([fused[:, 1].sum()] * 3)
    assert GradientBalance(3)(alike, seen, fused).item() == pytest.approx(fused[:, 1].sum().item(), rel=1e-5)
    # An outcome that is missing in the whole batch has no effect and no weight update.
    size = balance.size.clone()
    balance(losses, torch.tensor([True, False, True]), fused)
    assert balance.size[1] == size[1]


@pytest.mark.parametrize("kind", ["uncertainty", "gradient"])
def test_task_weights_change_the_fit_and_the_predictions_come_back(kind: str) -> None:
    plain, weighted = single(steps=20, learning_rate=1e-2), single(steps=20, learning_rate=1e-2, task_weights=kind)
    one, other, again = ({**weights_after(plan)} for plan in (plain, weighted, replace(weighted, label="again")))
    assert any(not np.array_equal(one[name], other[name]) for name in one)
    assert all(np.array_equal(other[name], again[name]) for name in other)
    assert set(one) == set(other)  # learned task weights are not part of the model


# Mixup.


def test_outcomes_that_differ_in_opposite_ways_are_not_near() -> None:
    goal = torch.tensor([[0.0, 0.0], [2.0, -2.0], [0.5, 0.5], [torch.nan, 1.0], [torch.nan, torch.nan]])
    found = outcome_distances(goal)
    assert found[0, 1].item() == pytest.approx(4)
    assert found[0, 2].item() == pytest.approx(0.25)
    assert found[0, 3].item() == pytest.approx(1)
    assert torch.isinf(found[0, 4])
    drawn = torch.stack([partners(goal[:3], 1) for _ in range(20)])
    assert (drawn[:, 0] == 2).all()
    assert (drawn[:, 2] == 0).all()
    drawn = torch.stack([partners(goal[:3], 2) for _ in range(40)])
    assert set(drawn[:, 0].tolist()) == {1, 2}


def test_only_whole_pairs_are_mixed() -> None:
    batch = target_batch()
    rows = batch.connectome
    assert (rows.node_mask == 0).any()
    other = torch.arange(24).roll(1)
    absent = dict(batch.present)
    absent["clinical"] = torch.arange(24) != 7
    share = shares(Batch(batch.modalities, absent), other, 0.5)
    whole = (rows.node_mask == rows.node_mask[other]).all(dim=1)
    whole &= absent["clinical"] == absent["clinical"][other]
    assert (share[~whole] == 1).all()
    assert (share[whole] < 1).all()
    assert 4 < whole.sum() < 24
    mixed = batch.prepared().mixed(other, share)
    want = share[:, None, None, None] * rows.edges + (1 - share[:, None, None, None]) * rows.edges[other]
    torch.testing.assert_close(mixed.connectome.edges, want)
    assert torch.equal(mixed.connectome.node_mask, rows.node_mask)
    torch.testing.assert_close(mixed.connectome.adjacency, replace(rows, edges=want).adjacency)
    torch.testing.assert_close(mixed.connectome.upper, replace(rows, edges=want).upper)
    values = batch.modalities["clinical"].values  # type: ignore[attr-defined]
    found = mixed.modalities["clinical"].values  # type: ignore[attr-defined]
    torch.testing.assert_close(found, share[:, None] * values + (1 - share[:, None]) * values[other])


def test_the_loss_of_mixed_rows_is_that_of_both_outcomes_in_their_shares() -> None:
    batch, goal = target_batch(), some_goal()
    model = model_of(batch)
    objective = Supervised(OUTCOMES, Training(mixup=Mixup(alpha=0.5)))
    torch.manual_seed(3)
    found = objective(model, {TRAIN: batch}, {TRAIN: goal})["outcomes"]
    torch.manual_seed(3)
    other = partners(goal, None)
    share = shares(batch, other, 0.5)
    outputs = model(batch.mixed(other, share))
    parts = []
    for t in range(3):
        total, count = 0.0, 0.0
        for i in range(24):
            for row, weight in ((i, share[i]), (int(other[i]), 1 - share[i])):
                if torch.isfinite(goal[row, t]):
                    logit, y = outputs[i, t], goal[row, t]
                    loss = (logit - y) ** 2 if t < 2 else 2 * (torch.nn.functional.softplus(logit) - y * logit)
                    total, count = total + weight * loss, count + weight
        parts.append(total / count)
    torch.testing.assert_close(found, torch.stack(parts).mean())


@pytest.mark.parametrize("settings", [Mixup(), Mixup(**MIXUP)], ids=["anyone", "near"])
def test_mixup_trains_and_a_fit_with_it_is_the_same_again(settings: Mixup) -> None:
    plan = single("network_scratch", steps=40, learning_rate=1e-2, mixup=settings)
    first, again = (fit([plan], COHORTS.by_name())[plan.key] for _ in range(2))
    assert fitted_bytes(first) == fitted_bytes(again)
    assert first.curve[-5:].mean() < 0.8 * first.curve[:5].mean()
    plain = fit([single("network_scratch", steps=40, learning_rate=1e-2)], COHORTS.by_name())
    assert all(fitted_bytes(one) != fitted_bytes(first) for one in plain.values())


# Settings that apply to transferred weights only.


@pytest.mark.parametrize(
    "settings", [{"rate_decay": 0.1}, {"unfreeze": 1.0}, {"unfreeze": 0.5, "rate_decay": 0.5}], ids=str
)
def test_a_network_from_scratch_is_not_touched(settings: dict[str, float]) -> None:
    """A control without an earlier stage has no transferred weights and is trained without these settings."""
    for plan in (single("network_scratch"), replace(single(), transfer=Transfer(carry=()))):
        plain, changed = (weights_after(p) for p in (plan, retrained(plan, **settings)))
        assert all(np.array_equal(plain[name], changed[name]) for name in plain)
    plain, changed = (weights_after(p) for p in (single(), single(**settings)))
    assert any(not np.array_equal(plain[name], changed[name]) for name in plain)


def test_rates_fall_from_the_heads_to_the_branches() -> None:
    plan = single(steps=1, weight_decay=0.0, learning_rate=0.01, rate_decay=0.5)
    start, end = (weights_after(p) for p in (retrained(plan, steps=0), plan))
    known = set(weights_of(fit(plan.lineage()[:-1], COHORTS.by_name())[dict(plan.parents)["stage"].key]))
    # One step of Adam changes every weight by its rate, for any gradient.
    for part, rate in {"connectome": 0.25, "fusion": 0.5}.items():
        names = [n for n in start if part_of(n) == part and n in known]
        assert max(np.abs(end[n] - start[n]).max() for n in names) == pytest.approx(0.01 * rate, rel=0.05)
    new = [n for n in start if n not in known]
    assert max(np.abs(end[n] - start[n]).max() for n in new) == pytest.approx(0.01, rel=0.05)


def test_parts_begin_to_move_one_after_another() -> None:
    """With 10 steps and `unfreeze: 0.8` the fusion moves from step 4, the encoder from step 8; new parts at once."""
    plan = single(steps=10, weight_decay=0.0, learning_rate=1e-2, unfreeze=0.8)
    start = weights_after(retrained(plan, steps=0))
    known = set(weights_of(fit(plan.lineage()[:-1], COHORTS.by_name())[dict(plan.parents)["stage"].key]))
    model = model_of(target_batch())
    carried = frozenset(name for name, _ in model.named_parameters() if part_of(name) != "clinical")
    freezing = Freezing.of(model, Training(unfreeze=0.8), carried, 10)
    assert freezing.begins == {"heads": 0, "fusion": 4, "connectome": 8}
    moving = {}
    for step in (0, 4, 8):
        freezing.apply(step)
        moving[step] = {part_of(name) for name, p in model.named_parameters() if p.requires_grad}
        assert model.branches["connectome"].training == (step >= 8)
        assert model.fusion.training == (step >= 4)
        assert model.branches["clinical"].training
    assert moving == {
        0: {"heads", "clinical"},
        4: {"heads", "clinical", "fusion"},
        8: {"heads", "clinical", "fusion", "connectome"},
    }
    end = weights_after(plan)
    changed = {name for name in start if not np.array_equal(start[name], end[name])}
    assert {part_of(name) for name in changed & known} == {"connectome", "fusion"}
    # No part of the encoder changes before it is unfrozen.
    seen: list[int] = []
    heads_only = retrained(plan, unfreeze=1.0)
    fit([heads_only], COHORTS.by_name(), hook=lambda step, _: seen.append(step))
    assert max(seen) == 9


def test_what_is_frozen_stays_frozen_when_the_rest_thaws() -> None:
    model = model_of(target_batch())
    carried = frozenset(name for name, _ in model.named_parameters())
    settings = Training(unfreeze=0.5, freeze=("fusion",))
    parameter_groups(model, settings, carried)
    freezing = Freezing.of(model, settings, carried, 10)
    freezing.apply(9)
    assert {part_of(n) for n, p in model.named_parameters() if not p.requires_grad} == {"fusion"}
    assert not model.fusion.training


def test_the_options_are_in_the_methods_text() -> None:
    from connectome_tl.report.text.training import training_text

    said = training_text(
        Training(
            task_weights="uncertainty",
            mixup=Mixup(**MIXUP),
            unfreeze=0.5,
            rate_decay=0.5,
            anchor=0.1,
            freeze=("heads",),
        ),
        30,
        30,
    )
    for part in (
        "learned uncertainties",
        "3 nearest in outcome",
        "first 50% of the steps",
        "decreasing by a factor of 0.5",
        "L2-SP",
    ):
        assert part in said
    assert training_text(Training(), 30, 30).endswith("weight decay 0.1")
    transferred = Training(
        part_learning_rates={"fusion": 0.5}, freeze=("heads",), anchor=0.1, rate_decay=0.5, unfreeze=0.5
    )
    assert training_text(transferred, 30, 30, transfer=False) == training_text(Training(), 30, 30)


@pytest.mark.parametrize("training", [{"task_weights": "gradient"}, {"mixup": MIXUP}, {"unfreeze": 0.5}], ids=str)
def test_an_ensemble_with_them_trains_and_predicts(training: dict[str, Any]) -> None:
    stages = small_settings().stages.model_dump()
    stages["finetune"]["training"] |= training
    study = small_settings(stages=stages)
    plan = plan_of(FOLD, study)
    found = fit([plan], COHORTS.by_name())[plan.key]
    assert all(np.isfinite(values).all() for values in found.predictions.values())
