"""3D residual networks in the layout of MedicalNet (Chen et al. 2019, arXiv:1904.00625), built by MONAI.

This module corrects differences of MONAI 1.6 from MedicalNet and from its own documentation: the stem has stride 1 by
default, `norm` applies to the stem only, shortcut A stops the gradient, and the last two stages are not dilated.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from connectome_tl.errors import UsageError
from connectome_tl.nn.voxel.convolutions import Stem, channels_last, for_processors

Depth = Literal[10, 18, 34, 50]
Norm = Literal["group", "batch", "instance"]

_LAYERS: dict[int, list[int]] = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}
_PLANES = (64, 128, 256, 512)
_GROUPS = 8


class VoxelResNet(nn.Module):
    """A residual network without a head, from volumes to embeddings.

    Parameters have the names and shapes of MedicalNet's files (`conv1`, `bn1`, `layerK.i.convJ`,
    `layerK.i.downsample.0`) for `width=1`.

    Args:
        depth: 10, 18, 34 or 50 layers.
        n_channels: channels of the volumes.
        width: factor on the numbers of channels 64, 128, 256, 512; small nets have 1/8 or less.
        norm: `group` does not depend on the batch; `batch` is required for MedicalNet's weights.
        stem_stride: 2 as in MedicalNet, 1 for small grids.
        dilated: the last two stages have stride 1 and dilation 2 and 4, as in MedicalNet; else stride 2.
        shortcut: `A` pads with zeros, `B` is a convolution; default: as in MedicalNet's files (A for 18 and 34
        layers).

    Attributes:
        width: of the embedding.
    """

    def __init__(
        self,
        depth: Depth = 10,
        *,
        n_channels: int = 1,
        width: float = 1.0,
        norm: Norm = "group",
        stem_stride: int = 2,
        dilated: bool = False,
        shortcut: Literal["A", "B"] | None = None,
    ) -> None:
        super().__init__()
        from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck

        if depth not in _LAYERS:
            raise UsageError(f"no residual network has {depth} layers", expected="10, 18, 34 or 50")
        planes = [max(1, round(width * n)) for n in _PLANES]
        shortcut = shortcut or ("A" if depth in (18, 34) else "B")
        made = ResNet(
            ResNetBottleneck if depth == 50 else ResNetBlock,
            _LAYERS[depth],
            planes,
            n_input_channels=n_channels,
            conv1_t_stride=stem_stride,
            shortcut_type=shortcut,
            feed_forward=False,
            bias_downsample=False,
        )
        self.depth, self.norm, self.stem_stride, self.dilated, self.shortcut = (
            depth,
            norm,
            stem_stride,
            dilated,
            shortcut,
        )
        if stem_stride == 2:
            made.conv1.__class__ = Stem
        for_processors(made)
        self.conv1, self.bn1, self.maxpool = made.conv1, made.bn1, made.maxpool
        self.layer1, self.layer2 = made.layer1, made.layer2
        self.layer3, self.layer4 = made.layer3, made.layer4
        self.width = planes[3] * (4 if depth == 50 else 1)
        if dilated:
            _dilate(self.layer3, 2)
            _dilate(self.layer4, 4)
        for stage in self.stages:
            for block in stage:
                if block.downsample is not None and not isinstance(block.downsample, nn.Module):
                    block.downsample = ZeroPadded(*_ends(block))
        if norm != "batch":
            _replace_norms(self, norm)

    @property
    def stages(self) -> tuple[nn.Sequential, ...]:
        """The four stages of residual blocks."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def maps(self, volumes: Tensor) -> tuple[Tensor, ...]:
        """Feature maps after each stage; volumes (batch, n_channels, depth, height, width).

        Raises:
            UsageError: instance normalisation of a map of a single voxel, which would be 0.
        """
        shrunk = self.stem_stride * (4 if self.dilated else 16)
        if self.norm == "instance" and max(volumes.shape[2:]) <= shrunk:
            raise UsageError(
                "instance normalisation would zero the last stage, which has a single voxel on this grid",
                expected=f"a grid of more than {shrunk} voxels along one axis",
                got=" x ".join(map(str, volumes.shape[2:])),
                remedy="Use norm: group, stem_stride: 1 or a larger grid.",
            )
        h = self.bn1(self.conv1(channels_last(volumes)))
        h = functional.relu(self.maxpool(h))  # in this order fewer voxels are rectified; the result is the same
        found = []
        for stage in self.stages:
            h = stage(h)
            found.append(h)
        return tuple(found)

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, width): the last stage's maps, averaged over space."""
        return self.maps(volumes)[-1].mean(dim=(2, 3, 4))


class ZeroPadded(nn.Module):
    """Shortcut A: every `stride`-th voxel, with channels of zeros added; it has no parameters."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.added, self.stride = n_out - n_in, stride

    def forward(self, h: Tensor) -> Tensor:
        step = self.stride
        return functional.pad(h[:, :, ::step, ::step, ::step], (0, 0, 0, 0, 0, 0, 0, self.added))


def norm_of(kind: Norm, n_channels: int) -> nn.Module:
    """A 3D normalisation; `group` has 8 groups, or the largest smaller number that divides the channels."""
    if kind == "batch":
        return nn.BatchNorm3d(n_channels)
    if kind == "instance":
        return nn.InstanceNorm3d(n_channels, affine=True)
    groups = next(n for n in range(min(_GROUPS, max(1, n_channels // 2)), 0, -1) if n_channels % n == 0)
    return nn.GroupNorm(groups, n_channels)


def _ends(block: nn.Module) -> tuple[int, int, int]:
    """Input and output channels of a block, and its stride."""
    convs = [layer for name, layer in block.named_children() if name.startswith("conv")]
    strides = [layer.stride[0] for layer in convs if isinstance(layer, nn.Conv3d)]
    assert isinstance(convs[0], nn.Conv3d)
    assert isinstance(convs[-1], nn.Conv3d)
    return convs[0].in_channels, convs[-1].out_channels, max(strides)


def _dilate(stage: nn.Sequential, dilation: int) -> None:
    for block in stage:
        if block.downsample is not None and not isinstance(block.downsample, nn.Module):
            n_in, n_out, _ = _ends(block)
            block.downsample = ZeroPadded(n_in, n_out, 1)
        for layer in block.modules():
            if isinstance(layer, nn.Conv3d):
                layer.stride = (1, 1, 1)
                if layer.kernel_size[0] > 1:
                    layer.dilation = layer.padding = (dilation,) * 3


def _replace_norms(module: nn.Module, kind: Norm) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            setattr(module, name, norm_of(kind, child.num_features))
        else:
            _replace_norms(child, kind)
