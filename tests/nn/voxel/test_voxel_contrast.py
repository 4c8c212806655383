"""The contrastive loss on voxels: its pairs and memory banks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from connectome_tl.nn.voxel.contrast import VoxelContrastLoss, grey_classes, labels_on
from connectome_tl.settings.images.contrast import VoxelContrast


def scene(shift: float) -> tuple[Tensor, Tensor]:
    """Two volumes with two classes along the first axis; `shift` gives the second class of the second volume other
    features."""
    labels = torch.ones(2, 4, 4, 4, dtype=torch.long)
    labels[:, 2:] = 2
    maps = torch.zeros(2, 3, 4, 4, 4)
    maps[:, 0] = (labels == 1).float()
    maps[:, 1] = (labels == 2).float()
    maps[1] = maps[1] * (1 - shift) + shift * maps[1].flip(0).roll(1, 0)
    return maps, labels


def loss_of(shift: float, **settings: object) -> float:
    torch.manual_seed(0)
    loss = VoxelContrastLoss(None, 3, VoxelContrast.model_validate({"bank": "none", **settings}))
    return float(loss(*scene(shift)))


def test_volumes_that_disagree_cost_across_and_not_within() -> None:
    assert loss_of(1.0, scope="across") > loss_of(0.0, scope="across") + 0.5
    assert loss_of(1.0, scope="within") == pytest.approx(loss_of(0.0, scope="within"), abs=1e-4)


def test_equal_features_of_a_class_and_orthogonal_classes_give_the_known_value() -> None:
    # 16 voxels per class and volume: across, a voxel has 16 positives at similarity 1 and 32 negatives at 0.
    expected = torch.log(16 * torch.tensor(10.0).exp() + 32) - 10
    assert loss_of(0.0, scope="across") == pytest.approx(float(expected), rel=1e-4)


def test_one_volume_alone_has_nothing_to_be_compared_with_across() -> None:
    loss = VoxelContrastLoss(3, 3, VoxelContrast(bank="none"))
    maps, labels = scene(0.0)
    one = loss(maps[:1].requires_grad_(), labels[:1])
    one.backward()
    assert float(one.detach()) == 0.0


@pytest.mark.parametrize("bank", ["prototypes", "memory"])
def test_a_bank_lets_volumes_of_different_batches_meet(bank: str) -> None:
    torch.manual_seed(0)
    loss = VoxelContrastLoss(None, 3, VoxelContrast.model_validate({"bank": bank, "size": 5}))
    maps, labels = scene(1.0)
    loss(maps[:1], labels[:1])
    assert loss.filled.tolist() == ([0, 1, 1] if bank == "prototypes" else [0, 5, 5])
    disagreeing = float(loss.eval()(maps[1:], labels[1:]))
    agreeing = float(loss(maps[:1], labels[:1]))
    assert disagreeing > agreeing + 0.5


def test_prototypes_move_by_their_momentum() -> None:
    loss = VoxelContrastLoss(None, 3, VoxelContrast(momentum=0.75))
    maps, labels = scene(0.0)
    loss(maps, labels)
    assert torch.allclose(loss.prototypes[1], torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
    loss(maps.roll(1, dims=1), labels)
    assert torch.allclose(loss.prototypes[1], torch.tensor([0.75, 0.25, 0.0]), atol=1e-5)


def test_labels_on_a_coarser_grid_are_the_commonest_of_each_cell() -> None:
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    labels[0, :2, :2, :2] = 2
    labels[0, 0, 0, 0] = 1
    coarse = labels_on(labels, (2, 2, 2), 3)
    assert int(coarse[0, 0, 0, 0]) == 2
    assert int(coarse.sum()) == 2


def test_background_is_left_out_and_each_class_is_drawn_up_to_its_number() -> None:
    loss = VoxelContrastLoss(3, 3, VoxelContrast(per_class=5))
    _, labels = scene(0.0)
    labels[0, 0] = 0
    labels[0, 2:] = 0
    labels[0, 2, 0, :2] = 2
    volume, place = loss._drawn(labels)
    drawn = labels.flatten(1)[volume, place]
    counts = {(v, c): int(((volume == v) & (drawn == c)).sum()) for v in (0, 1) for c in (0, 1, 2)}
    assert counts == {(0, 0): 0, (0, 1): 5, (0, 2): 2, (1, 0): 0, (1, 1): 5, (1, 2): 5}


def test_grey_classes_are_ranks_within_each_head() -> None:
    torch.manual_seed(0)
    volumes = torch.randn(2, 1, 8, 8, 8)
    volumes[:, :, :2] = 0.0
    found = grey_classes(volumes, 4)
    assert bool((found[:, :2] == 0).all())
    counts = [int((found[0] == label).sum()) for label in range(1, 5)]
    assert max(counts) - min(counts) <= 1
    assert torch.equal(grey_classes(3 * volumes, 4), found)
    assert bool((grey_classes(torch.zeros(1, 1, 4, 4, 4), 4) == 0).all())
