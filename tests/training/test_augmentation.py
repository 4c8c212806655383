"""Augmentation of batches of volumes: MONAI's transforms with the same parameters, seeds, chances, background."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, Affine, RandBiasField
from monai.transforms.utils import create_rotate, create_scale, create_translate

from connectome_tl.nn.voxel.contrast import grey_classes
from connectome_tl.settings.images.volumes import Augmentation
from connectome_tl.training.networks import augmentation as here
from connectome_tl.training.networks.augmentation import augmentation

NOTHING = {"flip": 0, "affine": 0, "noise": 0, "gamma": 0}
EVERYTHING = Augmentation(flip=1, affine=1, bias=1, noise=1, gamma=1, invert=1, contrast=1)
NAMES = ("flip", "affine", "bias", "noise", "gamma", "invert", "contrast")


def volumes(n: int = 3, shape: tuple[int, int, int] = (8, 10, 7)) -> torch.Tensor:
    found = torch.rand(n, 1, *shape, generator=torch.Generator().manual_seed(0)) + 0.5
    found[:, :, 0] = 0.0
    return found


def drawn(given: torch.Tensor, seed: int, **asked: float) -> torch.Tensor:
    augment = augmentation(Augmentation(**{**NOTHING, **asked}) if asked else EVERYTHING, seed)
    assert augment is not None
    return augment(given)


def test_augmentation_follows_its_seed_alone() -> None:
    given = volumes()
    before = given.clone()
    torch.manual_seed(np.random.default_rng().integers(2**31))  # other draws of the process do not matter
    one = drawn(given, 1)
    torch.manual_seed(np.random.default_rng().integers(2**31))
    assert torch.equal(one, drawn(given, 1))
    assert not torch.equal(one, drawn(given, 2))
    assert torch.equal(given, before)
    assert one.dtype == given.dtype
    assert one.shape == given.shape
    assert torch.isfinite(one).all()


def test_nothing_to_change_is_no_augmentation() -> None:
    assert augmentation(Augmentation(flip=0, affine=0, noise=0, gamma=0), 0) is None


@pytest.mark.parametrize("name", NAMES)
def test_each_volume_is_changed_with_the_given_probability(name: str) -> None:
    given = volumes(400, (4, 4, 4))
    changed = (drawn(given, 0, **{name: 0.3}) != given).flatten(1).any(dim=1).float().mean()
    assert float(changed) == pytest.approx(0.3, abs=0.09)  # four standard errors


@pytest.mark.parametrize("name", NAMES)
def test_volumes_of_a_batch_are_changed_differently(name: str) -> None:
    given = volumes(1).repeat(2, 1, 1, 1, 1)
    one, two = drawn(given, 0, **{name: 1})
    assert torch.equal(one, two) == (name in ("flip", "invert"))


@pytest.mark.parametrize("name", NAMES)
def test_draws_do_not_depend_on_the_other_augmentations(name: str) -> None:
    given, others = volumes(), dict.fromkeys(NAMES, 1e-09)
    assert torch.equal(drawn(given, 5, **{name: 1}), drawn(given, 5, **{**others, name: 1}))


@pytest.mark.parametrize("name", ["bias", "gamma", "invert", "contrast"])
def test_a_background_of_zero_is_kept(name: str) -> None:
    given = volumes()
    changed = drawn(given, 3, **{name: 1})
    assert (changed[given == 0] == 0).all()
    assert not torch.equal(changed, given)


def test_resampling_equals_monai_on_grids_of_unequal_sides() -> None:
    given, angles, shift, scale = volumes(1, (9, 12, 7)), (0.2, -0.1, 0.3), (1.3, -0.6, 0.4), (1.1, 0.9, 1.05)
    matrix = create_rotate(3, angles) @ create_translate(3, shift) @ create_scale(3, scale)
    theirs, _ = Affine(angles, None, shift, scale, padding_mode="border")(given[0])
    ours = here.resampled(given, np.asarray(matrix)[None])[0]
    assert float((ours - torch.as_tensor(theirs)).abs().max()) < 1e-5


def test_resampling_in_parts_is_resampling_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given, asked = volumes(7), Augmentation()
    parts = here.affines(given, np.random.default_rng(1), asked)
    monkeypatch.setattr(here, "_AT_ONCE", 100)
    assert torch.equal(parts, here.affines(given, np.random.default_rng(1), asked))


def test_affine_changes_stay_within_their_settings() -> None:
    asked, rng = Augmentation(rotate=0, shift=2.0), np.random.default_rng(0)
    point = torch.zeros(200, 1, 11, 11, 11)
    point[:, :, 5, 5, 5] = 1.0
    moved = here.affines(point, rng, asked)
    at = torch.stack(torch.meshgrid(*[torch.arange(11.0)] * 3, indexing="ij")) - 5
    shifts = (moved * at).sum(dim=(2, 3, 4)) / moved.sum(dim=(2, 3, 4))
    assert 1.8 < float(shifts.abs().max()) <= 2.0 + 1e-4
    assert torch.allclose(here.affines(point, rng, Augmentation(rotate=0, shift=0)), point, atol=1e-5)


def test_gamma_equals_monai() -> None:
    given, rng = volumes(2), np.random.default_rng(3)
    powers = np.random.default_rng(3).uniform(0.7, 1.5, 2)
    theirs = torch.stack([torch.as_tensor(AdjustContrast(float(p))(v)) for v, p in zip(given, powers, strict=True)])
    assert torch.allclose(here.gammas(given, rng), theirs, atol=1e-5)


def test_bias_fields_are_those_of_monai() -> None:
    shape, rng = (5, 6, 7), np.random.default_rng(0)
    listed = rng.uniform(0, 0.15, 20)
    terms = np.indices((4, 4, 4)).sum(axis=0) <= 3
    coefficients = np.zeros((4, 4, 4))
    coefficients[terms] = listed
    theirs = RandBiasField(degree=3)._generate_random_field(shape, 3, tuple(listed))
    assert np.allclose(here.polynomials(coefficients[None], shape)[0].numpy(), theirs, atol=1e-6)


def test_inversion_reverses_the_order_of_intensities() -> None:
    given = volumes()
    inside = given != 0
    assert torch.corrcoef(torch.stack([given[inside], drawn(given, 3, invert=1)[inside]]))[0, 1] < -0.999
    empty = torch.zeros(1, 1, 4, 4, 4)
    assert torch.equal(drawn(empty, 0, invert=1), empty)


def test_noise_has_a_random_standard_deviation_up_to_a_tenth() -> None:
    added = here.noises(torch.zeros(300, 1, 8, 8, 8), np.random.default_rng(0)).flatten(1)
    spreads = added.std(dim=1)
    assert 0.04 < float(spreads.mean()) < 0.06
    assert 0.09 < float(spreads.max()) < 0.11
    assert float((added.mean(dim=1) / (spreads / 512**0.5)).std()) == pytest.approx(1, abs=0.2)


def test_no_augmentation_but_a_shift_of_the_head_fills_the_background() -> None:
    """Objectives find the head by its background of 0."""
    given = volumes()
    for name in NAMES:
        if name not in ("flip", "affine"):
            assert torch.equal(drawn(given, 4, **{name: 1}) == 0, given == 0), name
    classes = grey_classes(drawn(given, 4, noise=1), 4)
    assert torch.equal(classes == 0, (given == 0)[:, 0])
