"""Settings of voxel-wise contrastive learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count, Probability
from connectome_tl.settings.images.descent import Descent, NonNegative, Positive


class VoxelContrast(Settings):
    """Pull features of voxels of one class together (Wang et al. 2021, arXiv:2108.06522).

    The paper's form of the loss is not published, so it is a setting.

    Args:
        scope: `across` pulls voxels of different volumes together, `within` only those of one volume (the control).
        bank: what a voxel is compared with besides the batch: running means of each class (`prototypes`), features
            of earlier batches (`memory`), or nothing.
        per_class: voxels drawn of each class and volume.
        momentum: of the prototypes. size: features that the memory keeps per class.
        temperature: of the softmax over cosine similarities.
        width: of the projected features.
        weight: of this term beside that of the task.
    """

    scope: Literal["across", "within"] = "across"
    bank: Literal["none", "prototypes", "memory"] = "prototypes"
    per_class: Count = 16
    momentum: Probability = 0.9
    size: Count = 64
    temperature: Positive = 0.1
    width: Count = 16
    weight: NonNegative = 0.1


class Segmentation(Settings):
    """An encoder-decoder that names the class of each voxel, with or without contrast.

    Args:
        width: filters of the first level. depth: levels.
        contrast: null trains by Dice and cross-entropy alone.
    """

    width: Count = 8
    depth: Annotated[int, Field(ge=1, le=5)] = 2
    contrast: VoxelContrast | None = VoxelContrast()
    descent: Descent = Descent(steps=200, batch_size=4, learning_rate=3e-3)
