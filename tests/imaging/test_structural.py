"""The boundary of the brain, in images with and without scalp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from connectome_tl.imaging.preprocess.structural import brain_mask
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
