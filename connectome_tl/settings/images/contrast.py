"""Settings of voxel-wise contrastive learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from connectome_tl.settings.base import Settings, given_of
from connectome_tl.settings.encoders import Count, Probability
from connectome_tl.settings.images.descent import Descent, NonNegative, Positive


class VoxelContrast(Settings):
    """Pull features of voxels of one class together (Wang et al. 2021, arXiv:2108.06522).

    The exact form of the loss is not published and is therefore a setting.

    Args:
        scope: `across` contrasts voxels of different volumes, `within` only those of one volume (the control, which has
            no bank).
        bank: additional comparisons beyond the batch: running means of each class (`prototypes`), features of
            earlier batches (`memory`), or none.
        per_class: number of voxels drawn per class and volume.
        momentum: momentum of the prototypes. size: number of features per class in the memory.
        temperature: temperature of the softmax over cosine similarities.
        width: width of the projected features.
        weight: weight of this term relative to that of the task.
    """

    scope: Literal["across", "within"] = "across"
    bank: Literal["none", "prototypes", "memory"] = "prototypes"
    per_class: Count = 16
    momentum: Probability = 0.9
    size: Count = 64
    temperature: Positive = 0.1
    width: Count = 16
    weight: NonNegative = 0.1

    @model_validator(mode="after")
    def _within_has_no_bank(self) -> VoxelContrast:
        unused = [name for name in given_of(self, ("bank", "momentum", "size")) if getattr(self, name) != "none"]
        if self.scope == "within" and unused:
            raise ValueError(
                f"{', '.join(unused)} has no effect with scope: within, which compares voxels of one volume"
            )
        return self


class Segmentation(Settings):
    """An encoder-decoder for voxel classes, with or without contrastive learning.

    Args:
        width: filters of the first level. depth: levels.
        contrast: null for training by Dice and cross-entropy only.
    """

    width: Count = 8
    depth: Annotated[int, Field(ge=1, le=5)] = 2
    contrast: VoxelContrast | None = VoxelContrast()
    descent: Descent = Descent(steps=200, batch_size=4, learning_rate=3e-3)
