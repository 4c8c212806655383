"""Dense 3D networks: MONAI's DenseNet, and the multi-scale network of TSAN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from connectome_tl.nn.voxel.resnet import norm_of
from connectome_tl.nn.voxel.sfcn import halved

Norm = Literal["group", "batch"]


class DenseFeatures(nn.Module):
    """Spatially averaged maps of a DenseNet."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features, self.width = features, width

    def forward(self, volumes: Tensor) -> Tensor:
        h: Tensor = self.features(volumes)
        return nn.functional.relu(h).mean(dim=(2, 3, 4))


def densenet(init: int, growth: int, layers: Sequence[int], n_channels: int, *, norm: Norm = "group") -> DenseFeatures:
    """MONAI's DenseNet without head; batch norms are replaced if `norm` differs.

    The stem divides each axis by four, and transitions halve it; axes of one voxel are not reduced further.
    """
    from monai.networks.nets.densenet import DenseNet

    made = DenseNet(3, n_channels, 1, init_features=init, growth_rate=growth, block_config=tuple(layers), bn_size=2)
    width = init
    for i, n in enumerate(layers):
        width += n * growth
        if i < len(layers) - 1:
            width //= 2
    _adapt(made.features, norm)
    return DenseFeatures(made.features, width)


class _Halving(nn.Module):
    """Mean over pairs of voxels along every axis that has two or more."""

    def forward(self, h: Tensor) -> Tensor:
        steps = [2 if n > 1 else 1 for n in h.shape[2:]]
        return nn.functional.avg_pool3d(h, steps, steps)


def _adapt(module: nn.Module, norm: Norm) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d) and norm != "batch":
            setattr(module, name, norm_of(norm, child.num_features))
        elif isinstance(child, nn.AvgPool3d):
            setattr(module, name, _Halving())
        else:
            _adapt(child, norm)


class ScaleDense(nn.Module):
    """The dense multi-scale network of TSAN (Cheng et al. 2021, doi:10.1109/TMI.2021.3085948), without its head.

    A dilated 7 x 7 x 7 stem, then blocks whose output, twice as wide as their input, is concatenated with the
    pooled input, so that the width triples: 8, 24, 72, 216, 648, 1944 as published (about 102 million
    parameters).

    Attributes:
        width: of the embedding, `first * 3 ** blocks`.
    """

    def __init__(self, first: int = 8, blocks: int = 5, *, n_channels: int = 1, norm: Norm = "group") -> None:
        super().__init__()
        self.stem = nn.Conv3d(n_channels, first, 7, padding=6, dilation=2)
        self.norm = norm_of(norm, first)
        self.blocks = nn.ModuleList(_ScaleBlock(first * 3**i, norm) for i in range(blocks))
        self.width = first * 3**blocks

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, width): the last maps, averaged over space."""
        h = nn.functional.elu(self.norm(self.stem(volumes)))
        for block in self.blocks:
            h = block(h)
        return h.mean(dim=(2, 3, 4))


class _Asymmetric(nn.Module):
    """The sum of a cubic convolution and of three along one axis, each with its norm (Ding et al. 2019)."""

    def __init__(self, n_in: int, n_out: int, norm: Norm) -> None:
        super().__init__()
        kernels = ((3, 3, 3), (3, 1, 1), (1, 3, 1), (1, 1, 3))
        self.convs = nn.ModuleList(
            nn.Conv3d(n_in, n_out, k, padding=(k[0] // 2, k[1] // 2, k[2] // 2), bias=False) for k in kernels
        )
        self.norms = nn.ModuleList(norm_of(norm, n_out) for _ in kernels)

    def forward(self, h: Tensor) -> Tensor:
        parts = [norm(conv(h)) for conv, norm in zip(self.convs, self.norms, strict=True)]
        return torch.stack(parts).sum(dim=0)


class _ScaleBlock(nn.Module):
    def __init__(self, n: int, norm: Norm) -> None:
        super().__init__()
        self.first, self.second = _Asymmetric(n, 2 * n, norm), _Asymmetric(2 * n, 2 * n, norm)
        self.norms = nn.ModuleList([norm_of(norm, 2 * n), norm_of(norm, 2 * n)])
        squeezed = max(4, 2 * n // 16)  # a single rectified unit may be 0 for every volume
        self.squeeze, self.excite = nn.Linear(2 * n, squeezed), nn.Linear(squeezed, 2 * n)

    def forward(self, h: Tensor) -> Tensor:
        new = nn.functional.elu(self.norms[0](self.first(h)))
        new = nn.functional.elu(self.norms[1](self.second(new)))
        weights = torch.sigmoid(self.excite(nn.functional.relu(self.squeeze(new.mean(dim=(2, 3, 4))))))
        new = new * weights[:, :, None, None, None]
        return torch.cat([halved(new), halved(h)], dim=1)
