"""Simple fully convolutional network (Peng et al. 2021, doi:10.1016/j.media.2020.101871), without head."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from connectome_tl.nn.voxel.resnet import norm_of


class Sfcn(nn.Module):
    """Blocks of 3 x 3 x 3 convolution, norm, max-pooling and ReLU; the last one is 1 x 1 x 1 and is not pooled.

    Axes of one voxel are not pooled further, so that any grid size is allowed.

    Attributes:
        width: of the embedding, the last of `widths`.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256, 256, 64),
        *,
        n_channels: int = 1,
        norm: Literal["group", "batch"] = "group",
    ) -> None:
        super().__init__()
        pairs = list(itertools.pairwise((n_channels, *widths)))
        last = len(pairs) - 1
        self.convs = nn.ModuleList(
            nn.Conv3d(a, b, 1 if i == last else 3, padding=0 if i == last else 1) for i, (a, b) in enumerate(pairs)
        )
        self.norms = nn.ModuleList(norm_of(norm, b) for _, b in pairs)
        self.width = widths[-1]

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, width): the last maps, averaged over space."""
        h = volumes
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = norm(conv(h))
            if i < len(self.convs) - 1:
                h = halved(h)
            h = nn.functional.relu(h)
        return h.mean(dim=(2, 3, 4))


def halved(h: Tensor) -> Tensor:
    """Max-pooling by 2 along every axis of two or more voxels."""
    steps = [2 if n > 1 else 1 for n in h.shape[2:]]
    return nn.functional.max_pool3d(h, steps, steps)
