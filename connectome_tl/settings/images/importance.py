"""Settings of voxel importance maps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count
from connectome_tl.settings.images.descent import Descent, NonNegative, Positive


class NoiseMap(Settings):
    """As much noise per voxel as a frozen predictor survives (Bintsi et al. 2021, arXiv:2108.05388).

    The paper's loss weights and noise range are not published, so they are settings. With `weight: auto` the weight of
    the noise term follows the error: it rises while the squared change of the prediction is below `tolerance`
    (a share of the variance of the predictions over subjects) and falls above it.

    Args:
        weight: of the noise term, minus the mean logarithm of the share of the largest noise.
        tolerance: squared change of the prediction that `auto` aims at.
        lowest, highest: standard deviation of the noise where a voxel matters most and least, in units of the
            standard deviation of the voxels.
        width: filters of the first level of the U-Net. depth: its levels.
    """

    weight: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    tolerance: Positive = 0.1
    lowest: NonNegative = 0.0
    highest: Positive = 3.0
    width: Count = 8
    depth: Annotated[int, Field(ge=1, le=5)] = 3
    descent: Descent = Descent(steps=300, batch_size=8, learning_rate=3e-3)


class ComparedMaps(Settings):
    """The two other kinds of map, at about equal cost: 64 patches and 16 steps.

    Args:
        patches: occluding patches along each axis.
        steps: of the integral of the gradient.
        smoothing: standard deviation in voxels of the Gaussian that smooths integrated gradients.
    """

    patches: Count = 4
    steps: Count = 16
    smoothing: NonNegative = 1.0
