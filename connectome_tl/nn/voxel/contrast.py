"""Voxel-wise contrastive loss, between or within volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.settings.images.contrast import VoxelContrast


def labels_on(labels: Tensor, size: Sequence[int], n_classes: int) -> Tensor:
    """Label maps (batch, depth, height, width) on a coarser grid: the most frequent label of each cell."""
    if tuple(labels.shape[1:]) == tuple(size):
        return labels
    depth, height, width = size
    found = labels.new_zeros((len(labels), depth, height, width))
    largest = torch.zeros(found.shape, device=labels.device)
    for label in range(n_classes):  # one at a time, since parcellations have hundreds
        share = functional.adaptive_avg_pool3d((labels == label).float()[:, None], (depth, height, width))[:, 0]
        found = torch.where(share > largest, label, found)
        largest = torch.maximum(share, largest)
    return found


class VoxelContrastLoss(nn.Module):
    """A contrastive loss on voxels (InfoNCE with all positives, Khosla et al. 2020, arXiv:2004.11362).

    It is used in training only and is not part of the network used for prediction.

    Args:
        n_features: channels of the maps; None for no projection.
        n_classes: number of labels; label 0 is excluded.

    Attributes:
        prototypes: (n_classes, width) running means of projected features. memory: (n_classes, size, width).
        filled: (n_classes,) number of features in the memory, or of batches of a prototype.
    """

    prototypes: Tensor
    memory: Tensor
    filled: Tensor

    def __init__(self, n_features: int | None, n_classes: int, settings: VoxelContrast) -> None:
        super().__init__()
        self.settings, self.n_classes = settings, n_classes
        self.project: nn.Module = nn.Identity()
        if n_features is not None:
            self.project = nn.Sequential(
                nn.Linear(n_features, settings.width), nn.ReLU(), nn.Linear(settings.width, settings.width)
            )
        self._empty(settings.width)

    def _empty(self, width: int) -> None:
        """Create an empty bank for features of this width."""
        size = self.settings.size if self.settings.bank == "memory" else 0
        self.register_buffer("prototypes", torch.zeros(self.n_classes, width))
        self.register_buffer("memory", torch.zeros(self.n_classes, size, width))
        self.register_buffer("filled", torch.zeros(self.n_classes, dtype=torch.long))

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss; 0 if no voxel can be compared with another one of its class.

        Args:
            maps: (batch, n_features, depth, height, width).
            labels: (batch, ...) of the volumes, on a grid as fine or finer.
        """
        labels = labels_on(labels, maps.shape[2:], self.n_classes)
        volume, place = self._drawn(labels)
        if len(volume) == 0:
            return maps.sum() * 0.0
        features = maps.flatten(2)[volume, :, place]
        classes = labels.flatten(1)[volume, place]
        found = functional.normalize(self.project(features).float(), dim=1)
        if found.shape[1] != self.prototypes.shape[1]:  # without projection the width equals that of the maps
            self._empty(found.shape[1])
            self.to(found.device)
        similarity = found @ found.T / self.settings.temperature
        same_class, same_volume = classes[:, None] == classes, volume[:, None] == volume
        other = ~torch.eye(len(volume), dtype=torch.bool, device=maps.device)
        if self.settings.scope == "within":
            return _info_nce(similarity, same_class & same_volume & other, same_volume & other)
        positive, compared = same_class & ~same_volume, ~(same_class & same_volume)
        banked, banked_classes = self._bank()
        if len(banked):
            similarity = torch.cat([similarity, found @ banked.T / self.settings.temperature], dim=1)
            same = classes[:, None] == banked_classes
            positive = torch.cat([positive, same], dim=1)
            compared = torch.cat([compared, torch.ones_like(same)], dim=1)
        loss = _info_nce(similarity, positive, compared)
        if self.training and self.settings.bank != "none":
            self._remember(found.detach(), classes)
        return loss

    def _drawn(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Volume and position of up to `per_class` voxels of each class and volume."""
        flat = labels.flatten(1)
        # Random keys are sorted and the first ones of each class selected, with one draw for all voxels.
        keys = torch.rand(flat.shape, device=flat.device)
        volumes, places = [], []
        for v in range(len(flat)):
            order = keys[v].argsort()
            for label in range(1, self.n_classes):
                chosen = order[flat[v, order] == label][: self.settings.per_class]
                volumes.append(torch.full_like(chosen, v))
                places.append(chosen)
        return torch.cat(volumes), torch.cat(places)

    def _bank(self) -> tuple[Tensor, Tensor]:
        """Stored features of earlier batches, and their classes."""
        known = torch.nonzero(self.filled).flatten()
        if self.settings.bank == "none" or len(known) == 0:
            return self.prototypes[:0], known[:0]
        if self.settings.bank == "prototypes":
            return functional.normalize(self.prototypes[known], dim=1), known
        kept = self.filled.clamp_max(self.settings.size)
        parts = [self.memory[label, : kept[label]] for label in known]
        return torch.cat(parts), known.repeat_interleave(kept[known])

    def _remember(self, found: Tensor, classes: Tensor) -> None:
        for label in classes.unique().tolist():
            new = found[classes == label]
            if self.settings.bank == "prototypes":
                m = self.settings.momentum if int(self.filled[label]) else 0.0
                self.prototypes[label] = m * self.prototypes[label] + (1 - m) * new.mean(dim=0)
                self.filled[label] += 1
            else:
                new = new[: self.settings.size]
                slots = (self.filled[label] + torch.arange(len(new), device=new.device)) % self.settings.size
                self.memory[label, slots] = new
                self.filled[label] += len(new)


def _info_nce(similarity: Tensor, positive: Tensor, compared: Tensor) -> Tensor:
    """Mean InfoNCE loss over rows with positives: negative mean log softmax of the positives."""
    log_share = similarity - similarity.masked_fill(~compared, float("-inf")).logsumexp(dim=1, keepdim=True)
    count = positive.sum(dim=1)
    per_row = -(log_share.masked_fill(~positive, 0.0)).sum(dim=1) / count.clamp_min(1)
    has = count > 0
    return torch.where(has, per_row, torch.zeros_like(per_row)).sum() / has.sum().clamp_min(1)


def grey_classes(volumes: Tensor, n_classes: int) -> Tensor:
    """(batch, depth, height, width) int64: 1 to `n_classes` by the rank of the smoothed intensity within each head.

    Voxels with 0 in all channels are outside and get 0. Classes depend on the subject's own volume only. In infants the
    class of a tissue may change with age, since the contrast inverts.

    Args:
        volumes: (batch, n_channels, depth, height, width).
    """
    inside = (volumes != 0).any(dim=1)
    grey = functional.avg_pool3d(volumes.mean(dim=1, keepdim=True), 3, 1, 1, count_include_pad=False)[:, 0]
    found = torch.zeros(inside.shape, dtype=torch.long, device=volumes.device)
    for i, mask in enumerate(inside):
        values = grey[i][mask]
        if len(values):
            rank = values.argsort().argsort()
            found[i][mask] = 1 + (rank * n_classes) // len(values)
    return found
