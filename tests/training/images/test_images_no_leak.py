"""A corrupted test volume changes no bit of any fitted state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from image_fits import BRIEF, GAN, State, age, gan, noise, weights
from image_rows import SmallEncoder, rows_of, simulated
from torch import Tensor, nn

from connectome_tl.errors import DataError, LeakageError
from connectome_tl.provenance import content_hash
from connectome_tl.settings.images.contrast import Segmentation, VoxelContrast
from connectome_tl.settings.images.importance import NoiseMap
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.settings.images.synthesis import RandomContrast
from connectome_tl.training.images.contrast import adapt_by_contrast, fit_segmenter
from connectome_tl.training.images.importance import fit_noise_map
from connectome_tl.training.images.pruning import prune
from connectome_tl.training.images.rows import VolumeRows, refuse_seen, seeded
from connectome_tl.training.images.synthesis import fit_synthesiser, random_contrast_rows, synthesise


def mixed(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    model = fit_synthesiser(rows, ids, GAN, seed=0)
    return {"volumes": synthesise(rows, ids, GAN, 0, model).rows.volumes.numpy()}


def contrast(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    torch.manual_seed(0)
    found = adapt_by_contrast(
        SmallEncoder(),
        lambda net, v: net.layers(v),
        rows,
        ids,
        VoxelContrast(),
        BRIEF,
        seed=0,  # type: ignore[operator]
    )
    return weights(found.encoder) | weights(found.contrast)


def segmenter(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    return weights(fit_segmenter(rows, ids, Segmentation(width=4, depth=1, descent=BRIEF), seed=0).network)


def random(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    return {"volumes": random_contrast_rows(rows, ids, RandomContrast(), seed=0).volumes.numpy()}


def population(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    net = predictor()
    mapper = fit_noise_map(net, rows, ids, NoiseMap(width=4, depth=1, descent=BRIEF), seed=0)
    volumes = rows.of(ids).loaded()
    return {"map": mapper.population(volumes), "noise": mapper.noise(volumes).numpy()}


def pruned(rows: VolumeRows, ids: tuple[str, ...]) -> State:
    train, net = rows.of(ids), predictor()

    def loss(one: nn.Module, at: np.ndarray) -> Tensor:
        return (one(train.batch(at))[:, 0] - torch.from_numpy(train.ages[at]).float()).square().mean()

    settings = TaylorPruning(target=0.3, per_event=0.3, between=BRIEF, after=BRIEF)
    with seeded(0) as rng:
        found = prune(net, loss, len(train), settings, rng, train.batch(np.arange(1)))
    return weights(found.network)


def predictor() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(SmallEncoder(), nn.Linear(8, 1))


FITS: list[Callable[[VolumeRows, tuple[str, ...]], State]] = [
    age, gan, mixed, contrast, segmenter, noise, population, pruned, random,
]  # fmt: skip


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__)
def test_a_poisoned_test_volume_changes_nothing_fitted(fit: Callable[[VolumeRows, tuple[str, ...]], State]) -> None:
    rows = rows_of(simulated()).at(range(12))
    volumes, ages, labels = rows.volumes.clone(), rows.ages.copy(), rows.need_labels().clone()
    volumes[10:] = float("nan")
    ages[10:] = 1e6
    labels[10:] = 1
    poisoned = replace(rows, volumes=volumes, ages=ages, labels=labels)
    train = rows.ids[:10]
    assert content_hash(fit(rows, train)) == content_hash(fit(poisoned, train))
    # The test can fail: a corrupted training volume does change it.
    other = rows.volumes.clone()
    other[3] *= 1.5
    changed_labels = rows.need_labels().clone()
    changed_labels[3] = changed_labels[4]
    touched = replace(rows, volumes=other, labels=changed_labels)
    assert content_hash(fit(rows, train)) != content_hash(fit(touched, train))


def test_a_broken_training_volume_is_named() -> None:
    rows = rows_of(simulated()).at(range(6))
    volumes = rows.volumes.clone()
    volumes[4, 0, 3, 3, 3] = float("inf")
    with pytest.raises(DataError, match=rows.ids[4]):
        gan(replace(rows, volumes=volumes), rows.ids)


def test_an_unknown_subject_is_named() -> None:
    rows = rows_of(simulated()).at(range(6))
    with pytest.raises(DataError, match="nobody"):
        gan(rows, (*rows.ids, "nobody"))


def test_what_saw_a_test_subject_is_refused() -> None:
    refuse_seen(("a", "b"), ("c",), "the generator")
    with pytest.raises(LeakageError, match="the generator was fitted on 1 subject of"):
        refuse_seen(("a", "b"), ("b", "c"), "the generator")
