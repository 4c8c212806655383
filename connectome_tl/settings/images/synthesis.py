"""Settings of synthetic volumes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count
from connectome_tl.settings.images.descent import Descent, NonNegative, Positive


class TaskGuidedGan(Settings):
    """An encoder-decoder that reconstructs volumes, trained with a critic and an age network (Li et al. 2021,
    arXiv:2108.01659).

    Args:
        width: filters of the first level. depth: levels, each halving the grid.
        latent: channels of the coarsest level, whose maps are mixed.
        centred: the generator works on deviations from the mean training volume; the published one generates whole
            volumes, which needs more training data.
        reconstruction: weight of the mean absolute error.
        age: weight of the squared age error of the synthetic volume; 0 for a GAN without guidance.
        adversarial: weight of the adversarial term (published: 1); 0 for a plain autoencoder.
        penalty: weight of the critic's gradient penalty.
        critic_steps: steps of the critic per step of the generator.
        bin_width: volumes are mixed within age bins of this width; `auto` is 1/10 of the age range of the training
            rows, doubled until a bin has two of them.
        share: number of synthetic volumes per training volume.
        source: `gan` mixes latent maps, `mixup` mixes voxels (the inexpensive control).
    """

    width: Count = 8
    depth: Annotated[int, Field(ge=1, le=5)] = 2
    latent: Count = 16
    centred: bool = True
    reconstruction: NonNegative = 10.0
    age: NonNegative = 0.1
    adversarial: NonNegative = 0.1
    penalty: NonNegative = 10.0
    critic_steps: Count = 1
    bin_width: Positive | Literal["auto"] = "auto"
    share: Positive = 1.0
    source: Literal["gan", "mixup"] = "gan"
    descent: Descent = Descent(steps=300, batch_size=8, learning_rate=1e-3, weight_decay=0.0)


class RandomContrast(Settings):
    """Volumes with random intensities per label (`simulation.volumes.random_contrast`).

    Args:
        copies: number of volumes per label map. blur: smoothing of the volumes, in voxels.
    """

    copies: Count = 1
    blur: NonNegative = 0.6
