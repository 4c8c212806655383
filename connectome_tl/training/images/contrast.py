"""Voxel-wise contrastive adaptation of an encoder, alone or with a segmentation.

Follows Wang et al. 2021 (arXiv:2108.06522), who use it for segmentation. It is not used at inference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.nn.voxel.contrast import VoxelContrastLoss
from connectome_tl.nn.voxel.unet import UNet
from connectome_tl.settings.images.contrast import Segmentation, VoxelContrast
from connectome_tl.settings.images.descent import Descent
from connectome_tl.training.images.descent import descend
from connectome_tl.training.images.lazy import AT_ONCE, Volumes
from connectome_tl.training.images.rows import VolumeRows, in_batches, seeded

Maps = Callable[[nn.Module, Tensor], Tensor]  # an encoder and volumes to maps (n, n_features, ...)


@dataclass(frozen=True, eq=False)
class Adapted:
    """An encoder after adaptation.

    Attributes:
        ids: ids of the training rows. encoder: adapted copy of the original encoder.
        contrast: projection and bank, not needed for prediction. losses: loss of each step.
    """

    ids: tuple[str, ...]
    encoder: nn.Module
    contrast: VoxelContrastLoss
    losses: np.ndarray


def adapt_by_contrast(
    encoder: nn.Module,
    maps: Maps,
    rows: VolumeRows,
    ids: Sequence[str],
    settings: VoxelContrast,
    descent: Descent,
    seed: int,
) -> Adapted:
    """Train a copy of an encoder so that voxels of one label have similar features in all volumes.

    Args:
        maps: which maps of the encoder are compared, `lambda net, volumes: net.maps(volumes)[2]` for example.

    Raises:
        DataError: no label maps.
    """
    rows = rows.of(ids)
    labels = rows.need_labels()
    encoder = copy.deepcopy(encoder).to(rows.device).train()
    with seeded(seed) as rng:
        with torch.no_grad():
            n_features = maps(encoder, rows.volumes[:1].to(rows.device)).shape[1]
        contrast = VoxelContrastLoss(n_features, n_classes_of(labels), settings).to(rows.device)

        def loss_of(index: np.ndarray) -> Tensor:
            return contrast(maps(encoder, rows.batch(index)), labels[index].to(rows.device))

        moving = [*encoder.parameters(), *contrast.parameters()]
        losses = descend(moving, loss_of, len(rows), descent, rng)
    return Adapted(rows.ids, encoder.eval().cpu(), contrast.eval().cpu(), losses)


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A fitted segmentation network.

    Attributes:
        ids: the rows it was fitted on. network: volumes to (n, n_classes, ...) logits.
    """

    ids: tuple[str, ...]
    network: UNet

    def segment(self, volumes: Volumes) -> Tensor:
        """(n, depth, height, width) class of each voxel."""
        return in_batches(lambda part: self.network(part).argmax(dim=1), volumes)


def fit_segmenter(
    rows: VolumeRows, ids: Sequence[str], settings: Segmentation, seed: int, n_classes: int | None = None
) -> Segmenter:
    """Train by soft Dice and cross-entropy, and optionally by contrast.

    With and without contrast, initial weights and batches are the same.

    Args:
        n_classes: labels, 0 included; by default one more than the highest.

    Raises:
        DataError: no label maps.
    """
    from monai.losses import DiceCELoss

    rows = rows.of(ids)
    labels = rows.need_labels()
    n_classes = n_classes or n_classes_of(labels)
    task = DiceCELoss(to_onehot_y=True, softmax=True)
    with seeded(seed) as rng:
        network = UNet(rows.volumes.shape[1], n_classes, width=settings.width, depth=settings.depth).to(rows.device)
        contrast = None
        if settings.contrast is not None:
            contrast = VoxelContrastLoss(network.width, n_classes, settings.contrast).to(rows.device)

        def loss_of(index: np.ndarray) -> Tensor:
            maps, truth = network.features(rows.batch(index)), labels[index].to(rows.device)
            loss: Tensor = task(network.last(maps), truth[:, None])
            if contrast is not None and settings.contrast is not None:
                loss = loss + settings.contrast.weight * contrast(maps, truth)
            return loss

        moving = [*network.parameters(), *(contrast.parameters() if contrast is not None else ())]
        descend(moving, loss_of, len(rows), settings.descent, rng)
    return Segmenter(rows.ids, network.eval().cpu())


def n_classes_of(labels: Volumes) -> int:
    """One more than the highest label."""
    return 1 + max(int(part.max()) for part in labels.split(AT_ONCE))


def dice(found: Tensor, labels: Tensor, n_classes: int) -> np.ndarray:
    """(n, n_classes - 1) overlap of each class but 0 for label maps (n, ...); NaN where a class is in neither."""
    scores = np.full((len(found), n_classes - 1), np.nan)
    for label in range(1, n_classes):
        a, b = (found == label).flatten(1), (labels == label).flatten(1)
        size = (a.sum(dim=1) + b.sum(dim=1)).double()
        overlap = 2 * (a & b).sum(dim=1).double() / size
        scores[:, label - 1] = torch.where(size > 0, overlap, torch.full_like(overlap, float("nan"))).numpy()
    return scores
