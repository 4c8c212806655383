"""The boundary of the brain, in images with and without scalp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.preprocess.structural import brain_mask, plausible_brain, refuse_background
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.warps import Warp, carry_image
from connectome_tl.simulation.phantom import Head, PhantomSettings, make_anatomy, make_head

SETTINGS = PhantomSettings(voxel=3.0, anatomical_voxel=2.0, shells=((0.0, 2),))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def on_t2w(head: Head) -> tuple[Volume, np.ndarray]:
    """The T2w, and on its grid the mask of the diffusion data."""
    image = Volume(head.t2w, head.t2w_affine)
    rough = Volume(head.mask.astype(np.float32), head.affine)
    return image, carry_image(Warp(np.eye(4)), rough, image).data > 0.5


@pytest.mark.parametrize("seed", [1, 2])
def test_a_rough_mask_keeps_the_scalp_out(seed: int) -> None:
    image, near = on_t2w(make_head(make_anatomy(replace(SETTINGS, scalp=True)), seed=seed))
    assert dice(brain_mask(image), near) < 0.8
    assert dice(brain_mask(image, near=near), near) > 0.95


def test_a_rough_mask_changes_little_where_there_is_no_scalp() -> None:
    image, near = on_t2w(make_head(make_anatomy(SETTINGS), seed=1))
    assert dice(brain_mask(image), brain_mask(image, near=near)) > 0.98


@pytest.mark.parametrize("scalp", [True, False])
def test_a_mask_of_the_background_is_refused_and_one_of_the_brain_is_not(scalp: bool) -> None:
    image, brain = on_t2w(make_head(make_anatomy(replace(SETTINGS, scalp=scalp)), seed=1))
    away = np.linspace(-1, 1, image.shape[1])[:, None]
    for mask, field in ((brain, 1.0), (brain, np.exp(1.1 * away))):  # a bias field of 1 to 9
        refuse_background(mask, Volume(image.data * field, image.affine), None)
    if not scalp:  # otherwise much of it is scalp
        for mask in (~brain, np.ones_like(brain), ~brain & (np.arange(brain.shape[2]) > 5)):
            with pytest.raises(DataError, match=r"file mask\.nii: the brain mask covers the background.*inverted"):
                refuse_background(mask, image, "mask.nii")
    with pytest.raises(DataError, match=r"file hooks\.brain: out\.nii\.gz: no plausible brain.*Its output must be"):
        plausible_brain(np.zeros_like(brain), image, hook="hooks.brain: out.nii.gz")
