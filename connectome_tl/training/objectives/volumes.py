"""Objective: reconstruct masked blocks of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.objectives import MaskedVolume
from connectome_tl.training.objectives.hiding import masked_error
from connectome_tl.training.objectives.objective import TRAIN, Objective, ObjectiveSizes


class MaskedVolumeReconstruction(Objective):
    """Mask blocks of voxels, and predict block means of the clean volume from the embedding of the rest."""

    def __init__(self, settings: MaskedVolume, sizes: ObjectiveSizes) -> None:
        super().__init__()
        self.share, self.blocks, self.coarse = settings.share, settings.blocks, settings.coarse
        n_channels = sizes.modalities["image"]["n_channels"]
        self.decoder = nn.Linear(sizes.widths["image"], n_channels * settings.coarse**3)

    def forward(
        self, model: OutcomeModel, batches: Mapping[str, Batch], targets: Mapping[str, Tensor | None]
    ) -> dict[str, Tensor]:
        del targets
        batch = batches[TRAIN]
        volumes = batch.image.volumes
        n, side = len(volumes), self.blocks
        kept = (torch.rand(n, 1, side, side, side, device=volumes.device) >= self.share).to(volumes.dtype)
        seen = volumes * nn.functional.interpolate(kept, size=volumes.shape[2:], mode="nearest")
        embedding = model.branches["image"](replace(batch.image, volume=seen)).embedding
        clean = nn.functional.adaptive_avg_pool3d(volumes, self.coarse).flatten(1)
        there = batch.present["image"][:, None].expand_as(clean)
        return {"reconstruction": masked_error(self.decoder(embedding), clean, there)}
