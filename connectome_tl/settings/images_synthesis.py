"""Settings of synthetic volumes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.images_descent import Descent
from connectome_tl.settings.model import Count
from connectome_tl.settings.training import NonNegative, Positive

Span = tuple[float, float]


class TaskGuidedGan(Settings):
    """An encoder-decoder that reconstructs volumes, judged by a critic and by an age network
    (Li et al. 2021, arXiv:2108.01659).

    Args:
        width: filters of the first level. depth: levels, each halving the grid.
        latent: channels of the coarsest level, whose maps are mixed.
        reconstruction: weight of the mean absolute error.
        age: weight of the squared age error of the synthetic volume; 0 is the GAN without guidance.
        adversarial: weight of the critic's term; 0 is a plain autoencoder.
        penalty: weight of the critic's gradient penalty.
        critic_steps: of the critic per step of the generator.
        bin_width: volumes are mixed within bins of this width, in units of age.
        share: synthetic volumes per training volume.
        source: `gan` mixes latent maps, `mixup` mixes the volumes themselves (the cheap control).
    """

    width: Count = 8
    depth: Annotated[int, Field(ge=1, le=5)] = 2
    latent: Count = 16
    reconstruction: NonNegative = 10.0
    age: NonNegative = 0.1
    adversarial: NonNegative = 1.0
    penalty: NonNegative = 10.0
    critic_steps: Count = 1
    bin_width: Positive = 1.0
    share: Positive = 1.0
    source: Literal["gan", "mixup"] = "gan"
    descent: Descent = Descent(steps=300, batch_size=8, learning_rate=1e-3, weight_decay=0.0)


class RandomContrast(Settings):
    """Volumes with random intensities per label (SynthSeg, Billot et al. 2023, doi:10.1016/j.media.2023.102789).

    Args:
        means: range of a label's mean intensity. deviations: of its standard deviation.
        blur: range of the smoothing in voxels.
        bias: strength of the smooth multiplicative field, as the standard deviation of its logarithm.
        noise: largest standard deviation of added noise, as a share of that of the volume.
        flip: mirror half of the volumes along the first axis.
    """

    means: Span = (0.0, 1.0)
    deviations: Span = (0.0, 0.1)
    blur: Span = (0.0, 1.0)
    bias: NonNegative = 0.3
    noise: NonNegative = 0.2
    flip: bool = True
