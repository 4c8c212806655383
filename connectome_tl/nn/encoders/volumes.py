"""Branches on volumes: a 3D network with dropout on its embedding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from connectome_tl.nn.batch import ImageRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes, register_branch
from connectome_tl.nn.layers import SharedDropout
from connectome_tl.nn.voxel.dense import ScaleDense, densenet
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.nn.voxel.sfcn import Sfcn
from connectome_tl.settings.images.embedding import EmbeddingEncoder
from connectome_tl.settings.images.volumes import (
    DenseNetEncoder,
    ImageEncoder,
    ResNetEncoder,
    ScaleDenseEncoder,
    SfcnEncoder,
)


def _alone(net: nn.Module, volumes: Tensor) -> Tensor:
    found: Tensor = net(volumes)
    return found


class VolumeBranch(Branch):
    """Volumes to an embedding; `net` maps (batch, n_channels, depth, height, width) to (batch, net.width).

    Attributes:
        run: function that applies the network to a batch; processes that share a fit divide the batch.
    """

    run: Callable[[nn.Module, Tensor], Tensor] = staticmethod(_alone)
    skips_absent = True

    def __init__(self, settings: ImageEncoder, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.width = int(net.width)  # type: ignore[arg-type]
        self.dropout = SharedDropout(settings.dropout)

    def forward(self, rows: ImageRows) -> Encoded:
        embedding: Tensor = self.dropout(self.run(self.net, rows.volumes))
        return Encoded(embedding)


class EmbeddingBranch(Branch):
    """A dense layer on precomputed embeddings."""

    def __init__(self, settings: EmbeddingEncoder, sizes: Sizes) -> None:
        super().__init__()
        self.width = settings.width
        self.linear = nn.Linear(sizes["n_columns"], settings.width)
        self.dropout = SharedDropout(settings.dropout)

    def forward(self, rows: ImageRows) -> Encoded:
        assert rows.embedding is not None
        embedding: Tensor = self.dropout(torch.relu(self.linear(rows.embedding)))
        return Encoded(embedding)


def _resnet(settings: ResNetEncoder, n_channels: int) -> nn.Module:
    return VoxelResNet(
        settings.depth,
        n_channels=n_channels,
        width=settings.width,
        norm=settings.norm,
        stem_stride=settings.stem_stride,
        dilated=settings.dilated,
        shortcut=settings.shortcut,
    )


def _branch(make: Callable[..., nn.Module]) -> Callable[[ImageEncoder, Sizes], Branch]:
    def build(settings: ImageEncoder, sizes: Sizes) -> Branch:
        return VolumeBranch(settings, make(settings, sizes["n_channels"]))

    return build


register_branch(ResNetEncoder, _branch(_resnet))
register_branch(SfcnEncoder, _branch(lambda s, n: Sfcn(s.widths, n_channels=n, norm=s.norm)))
register_branch(DenseNetEncoder, _branch(lambda s, n: densenet(s.init_features, s.growth, s.layers, n, norm=s.norm)))
register_branch(ScaleDenseEncoder, _branch(lambda s, n: ScaleDense(s.width, s.blocks, n_channels=n, norm=s.norm)))
register_branch(EmbeddingEncoder, EmbeddingBranch)
