"""Contrast as an adaptation and with a segmentation; it has no effect at inference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_rows import SmallEncoder, rows_of, simulated
from torch import Tensor, nn

from connectome_tl.errors import DataError
from connectome_tl.settings.images.contrast import Segmentation, VoxelContrast
from connectome_tl.settings.images.descent import Descent
from connectome_tl.training.images.contrast import adapt_by_contrast, dice, fit_segmenter

BRIEF = Descent(steps=30, batch_size=4, learning_rate=1e-2)


def maps(encoder: nn.Module, volumes: Tensor) -> Tensor:
    assert isinstance(encoder, SmallEncoder)
    return encoder.layers[:3](volumes)


def test_an_adapted_encoder_separates_tissues_better_across_subjects() -> None:
    rows = rows_of(simulated())
    torch.manual_seed(0)
    encoder = SmallEncoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    adapted = adapt_by_contrast(encoder, maps, rows, rows.ids[:12], VoxelContrast(), BRIEF, seed=0)
    assert adapted.losses[-5:].mean() < 0.9 * adapted.losses[:5].mean()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert list(adapted.encoder.state_dict()) == list(before)


def test_the_network_that_segments_is_the_same_with_and_without_contrast() -> None:
    rows = rows_of(simulated())
    plain = fit_segmenter(rows, rows.ids[:6], Segmentation(width=4, contrast=None, descent=Descent(steps=3)), seed=0)
    other = fit_segmenter(rows, rows.ids[:6], Segmentation(width=4, descent=Descent(steps=3)), seed=0)
    shapes = [{name: value.shape for name, value in s.network.state_dict().items()} for s in (plain, other)]
    assert shapes[0] == shapes[1]
    assert any(
        not torch.equal(a, b)
        for a, b in zip(plain.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    )
    nothing = Segmentation(width=4, contrast=VoxelContrast(weight=0.0, bank="none"), descent=Descent(steps=3))
    same = fit_segmenter(rows, rows.ids[:6], nothing, seed=0)
    for a, b in zip(plain.network.state_dict().values(), same.network.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_it_segments_new_subjects_better_than_the_commonest_class() -> None:
    rows = rows_of(simulated())
    settings = Segmentation(width=8, descent=Descent(steps=60, batch_size=4, learning_rate=1e-2))
    fitted = fit_segmenter(rows, rows.ids[:12], settings, seed=0)
    test = rows.at(range(18, 24))
    labels, n_classes = test.need_labels(), int(rows.need_labels().max()) + 1
    found = fitted.segment(test.volumes)
    # At 16^3 the other classes are one voxel wide or have ten voxels in total.
    score = dice(found, labels, n_classes)[:, [2, 3]].mean()
    print(f"mean Dice of cortex and white matter {score:.3f}")
    assert score > 0.5


def test_dice_counts_overlap_and_leaves_absent_classes_open() -> None:
    a = torch.tensor([[1, 1, 0, 2]])[:, None, None]
    b = torch.tensor([[1, 0, 0, 2]])[:, None, None]
    scores = dice(a, b, 4)
    assert scores[0, :2] == pytest.approx([2 / 3, 1.0])
    assert np.isnan(scores[0, 2])


def test_volumes_without_labels_are_refused() -> None:
    rows = rows_of(simulated())
    bare = type(rows)(rows.ids, rows.volumes, rows.ages)
    with pytest.raises(DataError, match="no label maps"):
        fit_segmenter(bare, rows.ids, Segmentation(), seed=0)
