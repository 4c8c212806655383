"""Optimiser settings of the image methods."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import Count

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Steps = Annotated[int, Field(ge=0)]


class Descent(Settings):
    """AdamW on batches of volumes.

    Args:
        steps: optimiser steps.
        batch_size: volumes of a batch.
        cosine: cosine decay of the learning rate to zero.
    """

    steps: Steps = 200
    batch_size: Count = 8
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 1e-4
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    cosine: bool = False
