"""Generator with a latent map, critic, and age-guiding network for synthetic volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def _convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """A convolution without normalisation, which would remove the size of a deviation."""
    return nn.Sequential(nn.Conv3d(n_in, n_out, 3, stride, 1), nn.LeakyReLU(0.2))


class EncoderDecoder(nn.Module):
    """Volumes to a coarse map of `latent` channels and back, without skips (after Li et al. 2021, arXiv:2108.01659)."""

    def __init__(self, n_channels: int = 1, *, width: int = 8, depth: int = 2, latent: int = 16) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.depth = depth
        self.encoder = nn.Sequential(
            *[_convolution(a, b, stride=2) for a, b in zip([n_channels, *widths[:-1]], widths, strict=True)],
            nn.Conv3d(widths[-1], latent, 1),
        )
        ways = list(zip([latent, *reversed(widths[1:])], reversed(widths), strict=True))
        self.decoder = nn.ModuleList([_convolution(a, b) for a, b in ways])
        self.last = nn.Conv3d(width, n_channels, 3, padding=1)

    def encode(self, volumes: Tensor) -> Tensor:
        """(batch, latent, ...) maps, each axis halved `depth` times."""
        return self.encoder(volumes)

    def decode(self, latent: Tensor, size: Sequence[int]) -> Tensor:
        """Volumes of this grid from latent maps."""
        sizes = [tuple(size)]
        for _ in range(self.depth - 1):
            sizes.append(tuple(-(-n // 2) for n in sizes[-1]))
        h = latent
        for step, grid in zip(self.decoder, reversed(sizes), strict=True):
            h = step(functional.interpolate(h, size=grid, mode="trilinear"))
        return self.last(h)

    def forward(self, volumes: Tensor) -> Tensor:
        """Reconstructions."""
        return self.decode(self.encode(volumes), volumes.shape[2:])


class Critic(nn.Module):
    """Scores of patches, high for real volumes. It has no normalisation, as required by the gradient penalty."""

    def __init__(self, n_channels: int = 1, *, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        layers: list[nn.Module] = []
        for a, b in zip([n_channels, *widths[:-1]], widths, strict=True):
            layers += [nn.Conv3d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, 3, padding=1))

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch,) mean score of the patches."""
        return self.layers(volumes).flatten(1).mean(dim=1)


def gradient_penalty(critic: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    """Mean squared deviation from 1 of the norm of the critic's gradient between real and synthetic volumes
    (Gulrajani et al. 2017, arXiv:1704.00028)."""
    share = torch.rand(len(real), *(1,) * (real.ndim - 1), device=real.device)
    between = (share * real + (1 - share) * made).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class AgeGuide(nn.Module):
    """A small convolutional network with one output per volume, with dense layers on a coarse map."""

    def __init__(self, n_channels: int = 1, *, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.layers = nn.Sequential(
            *[_convolution(a, b, stride=2) for a, b in zip([n_channels, *widths[:-1]], widths, strict=True)],
            nn.AdaptiveAvgPool3d(4),
            nn.Flatten(),
        )
        self.last = nn.Sequential(nn.Linear(64 * widths[-1], 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch,) standardised ages."""
        return self.last(self.layers(volumes))[:, 0]
