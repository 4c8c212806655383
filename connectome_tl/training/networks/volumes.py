"""Device, precision and augmentation of volumes during training.

A `Work` prepares each batch of the training loop (`training.networks.loop`): it reads volumes, moves them to the device
and augments them there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import Batch
from connectome_tl.training.networks.augmentation import Augmenter
from connectome_tl.training.networks.parallel import share_volumes


@dataclass(eq=False)
class Work:
    """Device, precision and augmentation for the training of one network.

    Attributes:
        device: device of model and batches.
        precision: float32 or bf16, for networks on volumes.
        augment: transform of a batch of volumes (n, n_channels, depth, height, width) on the device, or None.
        labelled: whether the objective needs the label maps of the volumes.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "float32"
    augment: Augmenter | None = None
    labelled: bool = False

    def begin(self, model: nn.Module) -> None:
        """Move the model to the device."""
        model.to(self.device)
        share_volumes(model)
        if self.precision == "bf16" and self.device.type == "cuda":  # faster there; values do not depend on it
            model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def arithmetic(self) -> AbstractContextManager[Any]:
        """The context in which an objective is computed."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def prepared(self, batch: Batch, goal: Tensor | None) -> tuple[Batch, Tensor | None]:
        """A batch on the device, with volumes read and augmented, and its targets."""
        if "image" in batch.modalities and batch.image.embedding is None:
            on_cpu = self.device.type == "cpu"
            volumes = batch.image.volumes if on_cpu else batch.image.volumes_on(self.device)
            labels = batch.image.classes.to(self.device) if self.labelled else None
            if self.augment is not None:
                volumes, labels = self.augment.both(volumes, labels)
            batch = batch.with_image(replace(batch.image, volume=volumes, where=None, source=None, labels=labels))
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
