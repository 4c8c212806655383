"""Small 3D encoder-decoder with skip connections, for grids of any size."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.nn.voxel.resnet import norm_of


def double_convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """Two 3 x 3 x 3 convolutions with group normalisation; the first one has the stride."""
    return nn.Sequential(
        nn.Conv3d(n_in, n_out, 3, stride, 1, bias=False),
        norm_of("group", n_out),
        nn.LeakyReLU(0.01),
        nn.Conv3d(n_out, n_out, 3, 1, 1, bias=False),
        norm_of("group", n_out),
        nn.LeakyReLU(0.01),
    )


class UNet(nn.Module):
    """A network with outputs for each voxel (Çiçek et al. 2016, arXiv:1606.06650), upsampled by interpolation.

    Args:
        width: filters at full resolution, doubled at each level. depth: levels below the first.
    """

    def __init__(self, n_in: int, n_out: int, *, width: int = 8, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.first = double_convolution(n_in, width)
        self.down = nn.ModuleList([double_convolution(a, b, stride=2) for a, b in pairwise(widths)])
        self.up = nn.ModuleList([double_convolution(a + b, a) for a, b in reversed(list(pairwise(widths)))])
        self.last = nn.Conv3d(width, n_out, 1)
        self.width = width

    def features(self, volumes: Tensor) -> Tensor:
        """(batch, width, depth, height, width of the grid): features before the linear output layer."""
        skips = [self.first(volumes)]
        for step in self.down:
            skips.append(step(skips[-1]))
        h = skips.pop()
        for step in self.up:
            skip = skips.pop()
            h = step(torch.cat([functional.interpolate(h, size=skip.shape[2:], mode="nearest"), skip], dim=1))
        return h

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, n_out, depth, height, width) of volumes (batch, n_in, depth, height, width)."""
        return self.last(self.features(volumes))
