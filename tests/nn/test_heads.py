"""Heads that predict distributions, and modalities that are hidden in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_cases import SIZES, make_batch
from scipy import stats

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.heads import SoftLabelHead
from connectome_tl.nn.losses import Outcomes, summed_losses
from connectome_tl.nn.model import OutcomeModel, build_model, hidden
from connectome_tl.settings.encoders import FlatEncoder
from connectome_tl.settings.model import DistributionHead, ModelSettings
from connectome_tl.settings.training import Training
from connectome_tl.training.objectives.supervised import Supervised

SOFT = DistributionHead(bins=12, spread=1.5)
MODEL = ModelSettings(encoder=FlatEncoder(widths=(6, 4)), fused_width=5, regression=SOFT)
HEADS = {"risk": 1, "age": 1}


def model_of(settings: ModelSettings = MODEL) -> OutcomeModel:
    torch.manual_seed(0)
    return build_model(settings, SIZES, HEADS, regressions=("age",))


def test_only_regressions_get_distributions_and_their_output_is_the_mean_over_the_bins() -> None:
    model = model_of().eval()
    assert set(model.soft_heads) == {"age"}
    fused = model.embed(make_batch())
    found = model.outputs(fused)
    assert found.shape == (len(fused), 2)
    head = model.soft_heads["age"]
    weights = torch.softmax(head.linear(fused), dim=1).detach().numpy()
    np.testing.assert_allclose(found[:, 1].detach(), weights @ head.centres.numpy(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[:, :1], model.heads["risk"](fused))


def test_the_loss_is_the_divergence_from_a_normal_distribution_on_the_bins() -> None:
    head = SoftLabelHead(3, SOFT)
    head.cover(torch.tensor([-1.0, 2.0, float("nan")]))
    centres = head.centres.numpy().astype(float)
    np.testing.assert_allclose(centres, np.linspace(-1.3, 2.3, 12), rtol=1e-6)
    fused, goal = torch.randn(4, 3), torch.tensor([0.1, -1.0, float("nan"), 9.0])
    found = head.losses(fused, goal).detach().numpy()
    q = torch.softmax(head.linear(fused), dim=1).detach().numpy().astype(float)
    for i, value in enumerate([0.1, -1.0, 0.0, 2.3]):  # beyond the bins an outcome counts as the last of them
        p = stats.norm.pdf(centres, value, 1.5 * (centres[1] - centres[0]))
        assert found[i] == pytest.approx(stats.entropy(p / p.sum(), q[i]), rel=1e-3)


def test_bins_stay_where_there_is_no_range_to_cover() -> None:
    head = SoftLabelHead(3, SOFT)
    before = head.centres.clone()
    head.cover(torch.tensor([1.0, 1.0, float("nan")]))
    assert torch.equal(head.centres, before)


def test_soft_labels_take_the_place_of_the_squared_error_and_of_nothing_else() -> None:
    model, outcomes = model_of().eval(), Outcomes({"risk": "binary", "age": "regression"}, HEADS)
    batch = make_batch()
    goal = torch.tensor([[0.0, 0.3], [1.0, -1.0], [1.0, float("nan")], [0.0, 0.0], [1.0, 1.0], [0.0, 0.5]])
    found = Supervised(outcomes, Training())(model, {"train": batch}, {"train": goal})["outcomes"]
    fused = model.embed(batch)
    total, count = summed_losses(model.outputs(fused), goal, None, outcomes)
    divergence = model.soft_heads["age"].losses(fused, goal[:, 1])
    want = (total[0] / count[0] + divergence[torch.isfinite(goal[:, 1])].mean()) / 2
    torch.testing.assert_close(found, want)
    found.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.heads.parameters())


def test_a_row_always_keeps_a_modality_that_it_has() -> None:
    torch.manual_seed(1)
    first = torch.tensor([True, True, False, False]).repeat(500)
    second = torch.tensor([True, False, True, False]).repeat(500)
    found = hidden({"image": first, "clinical": second}, 0.6)
    assert not (found["image"] & ~first).any()
    assert not (found["clinical"] & ~second).any()
    left = found["image"] | found["clinical"]
    assert torch.equal(left, first | second)
    both = (first & second).nonzero()[:, 0]
    # Hidden with probability 0.6; both would be hidden with 0.36, and are then both used.
    assert float(found["image"][both].float().mean()) == pytest.approx(0.4 + 0.36, abs=0.06)
    only = first & ~second
    assert torch.equal(found["image"][only], first[only])


def test_modalities_are_hidden_in_training_alone_and_drawn_from_the_seed() -> None:
    settings = MODEL.model_copy(update={"modality_dropout": 0.5, "encoder": FlatEncoder(widths=(6, 4), dropout=0.0)})
    model, batch = model_of(settings), make_batch()
    plain = model_of(settings.model_copy(update={"modality_dropout": 0.0}))
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval()(batch), plain.eval()(batch))
        model.train()
        torch.manual_seed(3)
        one = model(batch)
        torch.manual_seed(3)
        two = model(batch)
        torch.manual_seed(3)
        seen = hidden({name: batch.present[name] for name in model.branches}, 0.5)
        shown = plain(Batch(batch.modalities, seen))
    assert torch.equal(one, two)
    assert not torch.equal(one, plain(batch))
    torch.testing.assert_close(one, shown)
