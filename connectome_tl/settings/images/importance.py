"""Settings of voxel importance maps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count
from connectome_tl.settings.images.descent import Descent, NonNegative, Positive


class NoiseMap(Settings):
    """Largest noise per voxel that preserves the output of a frozen predictor (Bintsi et al. 2021, arXiv:2108.05388).

    Loss weights and noise range are not published and are therefore settings. With `weight: auto` the weight of the
    noise term is adapted: it increases while the squared change of the prediction is below `tolerance` (a share of the
    variance of the predictions over subjects) and decreases above it.

    Args:
        weight: weight of the noise term, which is the negative mean logarithm of the noise relative to its maximum.
        tolerance: target of `auto` for the squared change of the prediction.
        blur: standard deviation, in voxels, of the Gaussian filter of the noise; 0 for independent voxels. Networks
            average independent noise out within a region, and react to it in a pattern of their strides.
        gradient: `sampled` differentiates the squared change of the prediction under the drawn noise, as published for
            segmentation. `expected` (ours) uses the expected squared change to first order around the noisy volume,
            whose gradient has far less variance at equal cost; the reported error remains that of the drawn noise.
        coarse: the U-Net works on volumes averaged over this number of voxels along each axis, and its output is
            interpolated. 1 for the full grid.
        lowest, highest: noise at the most and the least important voxels, as a standard deviation in units of the
            standard deviation of the voxels.
        width: filters of the first level of the U-Net. depth: its levels.
    """

    weight: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    tolerance: Positive = 0.1
    blur: Annotated[float, Field(ge=0, le=8)] = 1.5
    gradient: Literal["sampled", "expected"] = "expected"
    coarse: Annotated[int, Field(ge=1, le=8)] = 2
    lowest: NonNegative = 0.0
    highest: Positive = 3.0
    width: Count = 8
    depth: Annotated[int, Field(ge=1, le=5)] = 3
    descent: Descent = Descent(steps=100, batch_size=8, learning_rate=3e-3)


class ComparedMaps(Settings):
    """Settings of occlusion and integrated gradients, at about equal cost: 64 patches and 16 steps.

    Args:
        patches: number of occluding patches along each axis.
        steps: number of steps of the integral of the gradient.
        smoothing: standard deviation, in voxels, of the Gaussian filter of integrated gradients.
    """

    patches: Count = 4
    steps: Count = 16
    smoothing: NonNegative = 1.0
