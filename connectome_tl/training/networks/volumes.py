"""Device, precision and augmentation of volumes during training.

A `Work` prepares each batch of the training loop (`training.loop`): it reads and augments volumes, with random numbers
of the fit only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.voxel.precision import in_float32
from connectome_tl.settings.images.volumes import Augmentation
from connectome_tl.training.networks.contrasts import SoftContrast
from connectome_tl.training.networks.parallel import share_volumes

Augment = Callable[[Tensor], Tensor]


@dataclass(eq=False)
class Work:
    """Device, precision and augmentation for the training of one network.

    Attributes:
        device: device of model and batches.
        precision: float32 or bf16, for networks on volumes.
        augment: transform of one volume (n_channels, depth, height, width), or None.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"
    augment: Augment | None = None

    def begin(self, model: nn.Module) -> None:
        """Move the model to the device; layers that are incorrect in bfloat16 stay in float32."""
        model.to(self.device)
        share_volumes(model)
        if self.precision == "bf16" and self.device.type == "cuda":  # faster there; values do not depend on it
            model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        if self.precision == "bf16" and self.device.type == "cpu":
            in_float32(model)

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context in which an objective is computed."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def prepared(self, batch: Batch, goal: Tensor | None) -> tuple[Batch, Tensor | None]:
        """A batch on the device, with volumes read and augmented, and its targets."""
        if "image" in batch.modalities and batch.image.embedding is None:
            if self.augment is not None:
                volumes = torch.stack([self.augment(one) for one in batch.image.volumes]).to(self.device)
            elif self.device.type == "cpu":
                volumes = batch.image.volumes
            else:
                volumes = batch.image.volumes_on(self.device)
            batch = batch.with_image(replace(batch.image, volume=volumes, where=None, source=None))
        if self.device.type == "cpu":
            return batch, goal
        return batch.to(self.device), None if goal is None else goal.to(self.device)


def device_of(asked: str) -> str:
    """`cpu` or `cuda` for the device setting of a study.

    Raises:
        UsageError: `cuda` where torch finds no GPU.
    """
    found = torch.cuda.is_available() if asked != "cpu" else False
    if asked == "cuda" and not found:
        raise UsageError("device: cuda, and torch finds no GPU", remedy="Set device: auto or device: cpu.")
    return "cuda" if found else "cpu"


def device_again(asked: str) -> torch.device:
    """Device for further work on a finished study: that of its settings, or the CPU if torch finds no GPU here."""
    return torch.device(device_of("cpu" if asked == "cpu" else "auto"))


def augmentation(settings: Augmentation, seed: int) -> Augment | None:
    """MONAI's random transforms for single volumes, with this seed; None without any augmentation."""
    if not settings.changes:
        return None
    from monai.data import set_track_meta
    from monai.transforms import (
        RandAdjustContrast,
        RandAffine,
        RandBiasField,
        RandFlip,
        RandGaussianNoise,
    )

    set_track_meta(False)  # plain tensors, since coordinates are not needed
    angle = float(np.radians(settings.rotate))
    steps: list[Any] = []
    if settings.flip:
        steps.append(RandFlip(prob=settings.flip, spatial_axis=0))
    if settings.affine:
        steps.append(
            RandAffine(
                prob=settings.affine,
                rotate_range=(angle,) * 3,
                translate_range=(settings.shift,) * 3,
                scale_range=(settings.scale,) * 3,
                padding_mode="border",
            )
        )
    if settings.bias:
        steps.append(_Inside(RandBiasField(prob=settings.bias, coeff_range=(0.0, 0.15))))
    if settings.gamma:
        steps.append(_Inside(RandAdjustContrast(prob=settings.gamma, gamma=(0.7, 1.5))))
    if settings.invert:
        steps.append(_Invert(settings.invert))
    if settings.contrast:
        steps.append(SoftContrast(settings.contrast, settings.strength))
    if settings.noise:
        steps.append(RandGaussianNoise(prob=settings.noise, std=0.1))
    for i, step in enumerate(steps):
        drawn = step.transform if isinstance(step, _Inside) else step
        if isinstance(drawn, _Invert | SoftContrast):
            drawn.rng = np.random.default_rng([seed, i])
        else:
            drawn.set_random_state(seed=int(np.random.default_rng([seed, i]).integers(2**32)))

    def apply(volume: Tensor) -> Tensor:
        found = volume
        for step in steps:
            found = step(found)
        return found.as_subclass(Tensor).to(volume.dtype)

    return apply


@dataclass(eq=False)
class _Inside:
    """An intensity transform that preserves a background of 0."""

    transform: Any

    def __call__(self, volume: Tensor) -> Tensor:
        return torch.where(volume == 0, torch.zeros_like(volume), torch.as_tensor(self.transform(volume)))


@dataclass(eq=False)
class _Invert:
    """Randomly invert the intensities of the foreground."""

    chance: float
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __call__(self, volume: Tensor) -> Tensor:
        if self.rng.random() >= self.chance:
            return volume
        inside = volume != 0
        if not bool(inside.any()):
            return volume
        low, high = volume[inside].min(), volume[inside].max()
        return torch.where(inside, low + high - volume, volume)
