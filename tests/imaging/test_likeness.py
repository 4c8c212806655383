"""The local squared correlation: equal to its definition, invariant to contrast and gain, low after displacement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.read.images import Volume, read_volume
from connectome_tl.imaging.register.likeness import local_likeness
from connectome_tl.imaging.register.template_fit import likeness_of
from connectome_tl.imaging.register.warps import Warp
from connectome_tl.settings.imaging import RegistrationSettings

from .heads import AFFINE, brain, gain, head

LIMIT = RegistrationSettings().min_likeness


def by_definition(fixed: np.ndarray, carried: np.ndarray) -> float:
    both = (fixed > 0) & (carried > 0)
    a, b = fixed / fixed[both].mean(), carried / carried[both].mean()
    total = 0.0
    for voxel in np.argwhere(both):
        window = tuple(slice(max(v - 2, 0), v + 3) for v in voxel)
        here = both[window]
        if here.sum() <= 0.3 * 125:
            continue
        x, y = a[window][here], b[window][here]
        floors = [(0.02 * values.mean()) ** 2 for values in (x, y)]
        total += np.cov(x, y, bias=True)[0, 1] ** 2 / ((x.var() + floors[0]) * (y.var() + floors[1]))
    return total / (fixed > 0).sum()


def test_it_is_the_mean_of_squared_correlations_of_windows() -> None:
    rng = np.random.default_rng(0)
    fixed = rng.uniform(1, 2, (12, 11, 13))
    carried = fixed + rng.normal(0, 0.2, fixed.shape)
    fixed[:2], carried[:, -3:] = 0, 0
    found = local_likeness(Volume(fixed, AFFINE), Volume(carried, AFFINE))
    assert found == pytest.approx(by_definition(fixed, carried), abs=1e-4)
    assert 0.3 < found < 0.9


def test_neither_contrast_nor_a_bias_field_changes_it() -> None:
    image, _ = head()
    plain = local_likeness(brain(image), brain(image))
    assert plain > 0.93
    inverted = np.where(image > 0, 1500 - image, 0)
    assert local_likeness(brain(image), brain(inverted)) > 0.85  # darker parts are closer to the noise floor
    assert local_likeness(brain(image * gain(9.0)), brain(inverted)) > 2 * LIMIT  # a slope within a window is noise


def test_whatever_lies_elsewhere_is_far_below_the_limit() -> None:
    image, _ = head()
    rng = np.random.default_rng(0)
    wrong = {
        "shifted": np.roll(image, 6, axis=1),
        "mirrored": image[::-1],
        "upside down": image[:, ::-1, ::-1],
        "noise": np.where(image > 0, rng.normal(500, 50, image.shape), 0),
        "even": np.where(image > 0, 500.0, 0),
        "nothing": np.zeros_like(image),
    }
    for name, other in wrong.items():
        assert local_likeness(brain(image), brain(other)) < 0.6 * LIMIT, name


def test_what_the_template_does_not_reach_counts_as_unlike() -> None:
    image, _ = head()
    half = np.where(np.arange(image.shape[0])[:, None, None] < image.shape[0] // 2, image, 0)
    whole = local_likeness(brain(image), brain(image))
    assert local_likeness(brain(image), brain(half)) == pytest.approx(whole / 2, abs=0.03)
    assert local_likeness(brain(half), brain(image)) > 0.9  # an image of half a brain can be correct


def test_a_lesion_has_no_say() -> None:
    image, _ = head()
    lesion = np.zeros(image.shape, dtype=bool)
    lesion[10:20, 20:35, 15:30] = True
    sick = np.where(lesion & (image > 0), 3000 + 500 * np.random.default_rng(0).normal(size=image.shape), image)
    with_it, without = local_likeness(brain(sick), brain(image)), local_likeness(brain(sick), brain(image), lesion)
    assert without > with_it + 0.05


def test_a_real_brain_at_full_size_is_told_from_its_turns(shared_data: Path) -> None:
    file = shared_data / "fetal_atlases/SpinaBifida_Fidon2021/fetal_SB_atlas_GA30_operated"
    image, mask = read_volume(file / "srr.nii.gz"), read_volume(file / "mask.nii.gz")
    real = Volume(np.where(mask.data > 0, np.maximum(image.data, 0), 0), image.affine)
    here = Warp(np.eye(4))
    noisy = Volume(
        real.data + np.where(mask.data > 0, np.random.default_rng(0).normal(0, 5, real.shape), 0), real.affine
    )
    assert likeness_of(noisy, real, here) > 2.5 * LIMIT
    middle = np.argwhere(mask.data > 0).mean(axis=0) @ image.affine[:3, :3].T + image.affine[:3, 3]
    over = np.diag([1.0, -1.0, -1.0, 1.0])
    over[:3, 3] = middle - over[:3, :3] @ middle
    assert likeness_of(real, real, Warp(over)) < 0.5 * LIMIT
