"""A mirrored header is detected by comparing two images of one head."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register import sides
from connectome_tl.imaging.register.orientation import best_turns, turned_about
from connectome_tl.imaging.register.registration import coarse, register_affine
from connectome_tl.imaging.register.sides import likeness_to_anatomy
from connectome_tl.imaging.register.warps import Warp
from connectome_tl.settings.imaging import RegistrationSettings

from .heads import brain, head

SETTINGS = RegistrationSettings(affine_steps=(40, 20), affine_mm=4.0)
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@cache
def pair() -> tuple[Volume, Volume]:
    """An anatomical image, and one with another contrast and position, larger voxels and noise."""
    image = head()[0]
    other = np.where(image > 0, np.maximum(1200 - image, 50), 0)
    moved = np.eye(4)
    moved[:3, 3] = (3.0, -2.0, 4.0)
    small = coarse(Volume(other.astype(np.float32), moved @ brain(image).affine), 2.5)
    noise = np.random.default_rng(0).normal(0, 20, small.shape)
    b0 = np.where(small.data > 40, np.maximum(small.data + noise, 1), 0)
    return Volume(b0.astype(np.float32), small.affine, "sub-01", "sub-01_dwi.nii.gz"), brain(image)


@cache
def likeness_of_pair() -> float:
    b0, image = pair()
    return likeness_to_anatomy(b0, image, register_affine(b0, image, SETTINGS, rigid=True), SETTINGS)


@pytest.mark.slow
def test_two_images_of_one_head_are_alike() -> None:
    assert likeness_of_pair() > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("which", ["anatomy", "diffusion"])
def test_unlike_sides_of_one_head_are_refused_whichever_image_is_mirrored(which: str) -> None:
    b0, image = pair()
    if which == "anatomy":
        image = Volume(image.data, MIRROR @ image.affine, "sub-01", "sub-01_T2w.nii.gz")
    else:
        b0 = replace(b0, affine=MIRROR @ b0.affine)
    warp = register_affine(b0, image, SETTINGS, rigid=True)
    with pytest.raises(DataError, match=r"left and right of the anatomical image and of the diffusion data.*_dwi\.nii"):
        likeness_to_anatomy(b0, image, warp, SETTINGS)
    likeness_to_anatomy(b0, image, warp, SETTINGS.model_copy(update={"orientation": "header"}))


@pytest.mark.slow
def test_a_turned_header_is_refused() -> None:
    b0, image = pair()
    turned = Volume(
        image.data, turned_about(np.diag([-1.0, 1.0, -1.0]), image) @ image.affine, "sub-01", "sub-01_T2w.nii.gz"
    )
    warp = register_affine(b0, turned, SETTINGS, rigid=True)
    with pytest.raises(DataError, match="are turned by 180 degrees against each other"):
        likeness_to_anatomy(b0, turned, warp, SETTINGS)
    trusted = SETTINGS.model_copy(update={"orientation": "header"})
    assert likeness_to_anatomy(b0, turned, warp, trusted) < likeness_of_pair() - 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ([[0, 0, 1], [1, 0, 0], [0, 1, 0]], "turned against each other.*right is front, front is top, top is right"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], "mirrored against each other.*right is front, front is right, top is top"),
    ],
)
def test_any_rotation_or_reflection_between_two_images_of_a_head_is_named(turn: list[list[int]], said: str) -> None:
    b0, image = pair()
    moved = turned_about(np.array(turn, dtype=float), image) @ image.affine
    turned = Volume(image.data, moved, "sub-01", "sub-01_T2w.nii.gz")
    warp = register_affine(b0, turned, SETTINGS, rigid=True)
    with pytest.raises(DataError, match=said):
        likeness_to_anatomy(b0, turned, warp, SETTINGS)


def test_nothing_is_registered_if_poor_images_match_best_as_their_headers_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Noise of different seeds in the same outline."""
    image = head()[0]
    first, second = (
        brain(np.where(image > 0, 500 + np.random.default_rng(seed).normal(0, 100, image.shape), 0)) for seed in (0, 1)
    )
    monkeypatch.setattr(sides, "best_turns", lambda *_: (np.eye(3), MIRROR[:3, :3], False))
    monkeypatch.setattr(sides, "register_affine", lambda *_, **__: pytest.fail("registered"))
    assert 0 < likeness_to_anatomy(first, second, Warp(np.eye(4)), SETTINGS) < 0.25


@pytest.mark.slow
def test_the_search_prefers_another_orientation_only_if_it_is_clearly_more_similar() -> None:
    image = brain(head()[0])
    right = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    turned = Volume(image.data, turned_about(right, image) @ image.affine)
    rotation, _, better = best_turns(image, turned)
    assert better
    np.testing.assert_array_equal(rotation, right)
    assert not best_turns(image, image)[2]
