"""Batches of volumes in the loop: augmentation by the seed of the fit, class weights, schedules, devices."""

from __future__ import annotations

import itertools
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import Batch, ImageRows
from connectome_tl.nn.branch import BRANCHES, build_branch
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import build_model
from connectome_tl.nn.voxel.convolutions import Conv
from connectome_tl.settings.images.volumes import Augmentation, ResNetEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.objectives import MaskedVolume
from connectome_tl.settings.training import Training
from connectome_tl.training.networks.augmentation import augmentation
from connectome_tl.training.networks.loop import Pool, train
from connectome_tl.training.networks.volumes import Work, device_of
from connectome_tl.training.objectives.objective import TRAIN, ObjectiveSizes
from connectome_tl.training.objectives.supervised import Supervised
from connectome_tl.training.objectives.table import build_objective

MODEL = ModelSettings(encoder=ResNetEncoder(width=1 / 16, stem_stride=1), fused_width=8)
SIZES = {"image": {"n_channels": 1}}


def volumes(n: int = 6, size: int = 8) -> torch.Tensor:
    found = torch.rand(n, 1, size, size, size, generator=torch.Generator().manual_seed(0)) + 0.5
    found[:, :, 0] = 0.0
    return found


def batch(n: int = 6) -> Batch:
    return Batch({"image": ImageRows(volume=volumes(n))}, {"image": torch.ones(n, dtype=torch.bool)})


def test_equal_seeds_train_equal_networks_with_augmentation() -> None:
    def trained() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = build_model(MODEL, SIZES, {"y": 1})
        goal = torch.linspace(-1, 1, 6)[:, None]
        train(
            model,
            Supervised(Outcomes({"y": "regression"}, {"y": 1})),
            {TRAIN: Pool(batch(), goal)},
            Training(steps=3, batch_size=2, schedule="cosine"),
            np.random.default_rng(0),
            work=Work(augment=augmentation(Augmentation(), 5)),
        )
        return model.state_dict()

    one, two = trained(), trained()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_convolutions_of_an_extension_are_guarded_where_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder of an extension need not use the classes of this package."""
    layers = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Sequential(nn.Conv3d(2, 1, 3)))
    monkeypatch.setitem(BRANCHES, ResNetEncoder, lambda *_: layers)
    built = build_branch(ResNetEncoder(), {"n_channels": 1})
    assert [type(layer) for layer in built.modules() if isinstance(layer, nn.Conv3d)] == [Conv, Conv]


def test_a_cosine_schedule_ends_at_rest() -> None:
    torch.manual_seed(0)
    model = build_model(MODEL, SIZES, {"y": 1})
    states: list[torch.Tensor] = []
    train(
        model,
        Supervised(Outcomes({"y": "regression"}, {"y": 1})),
        {TRAIN: Pool(batch(), torch.linspace(-1, 1, 6)[:, None])},
        Training(steps=20, schedule="cosine", weight_decay=0),
        np.random.default_rng(0),
        watched=range(21),
        watch=lambda _: bool(states.append(torch.cat([p.detach().flatten() for p in model.parameters()]))),
    )
    moved = [float((b - a).norm()) for a, b in itertools.pairwise(states)]
    assert moved[-1] < 0.05 * moved[0]


class _Logit(nn.Module):
    """A model that predicts one number for all subjects."""

    soft_heads: ClassVar[dict[str, nn.Module]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(1))

    def embed(self, given: Batch) -> torch.Tensor:
        return torch.zeros(len(given), 1)

    def outputs(self, fused: torch.Tensor) -> torch.Tensor:
        return self.logit.expand(len(fused), 1)


def test_weighted_classes_leave_risks_at_the_true_prevalence() -> None:
    goal = torch.tensor([[1.0]] * 2 + [[0.0]] * 10)
    model = _Logit()
    objective = Supervised(Outcomes({"y": "binary"}, {"y": 1}), Training(), {"y": 2 / 12})
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        objective(model, {TRAIN: batch(12)}, {TRAIN: goal})["outcomes"].backward()
        optimiser.step()
    assert float(torch.sigmoid(model.logit.detach())) == pytest.approx(2 / 12, abs=0.01)


def test_masked_volumes_are_learnt_and_an_absent_one_counts_nothing() -> None:
    torch.manual_seed(0)
    model = build_model(MODEL, SIZES, {})
    width = int(model.branches["image"].width)  # type: ignore[arg-type]
    sizes = ObjectiveSizes(SIZES, {"image": width}, Outcomes({}, {}))
    objective = build_objective(MaskedVolume(blocks=4, coarse=2), sizes)
    given = batch()
    absent = Batch(given.modalities, {"image": torch.zeros(6, dtype=torch.bool)})
    assert float(objective(model, {TRAIN: absent}, {TRAIN: None})["reconstruction"].detach()) == 0
    curve = train(model, objective, {TRAIN: Pool(given)}, Training(steps=40), np.random.default_rng(0))
    assert curve[-5:].mean() < 0.5 * curve[:5].mean()


def test_a_gpu_that_is_not_there_is_said() -> None:
    assert device_of("cpu") == "cpu"
    if torch.cuda.is_available():
        assert device_of("auto") == "cuda"
    else:
        assert device_of("auto") == "cpu"
        with pytest.raises(UsageError, match="no GPU"):
            device_of("cuda")
