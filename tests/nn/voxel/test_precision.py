"""Layers in bfloat16 compared with float32, and the choice between the two."""

from __future__ import annotations

import torch
from torch import nn

from connectome_tl.nn.voxel.precision import check_layer, check_network, fastest
from connectome_tl.nn.voxel.resnet import VoxelResNet


def test_every_layer_is_right_here_or_the_probe_takes_float32() -> None:
    torch.manual_seed(0)
    net = VoxelResNet(10, width=1 / 8)
    shape = (2, 1, 32, 32, 32)
    checks = check_network(net, shape)
    assert len(checks) == 1 + 8 + 3
    assert {check.name for check in checks if check.is_thin} >= {"layer4.0.conv2"}
    chosen = fastest(net, shape, tries=1, gain=0.0)  # except speed
    assert chosen == ("bf16" if all(check.is_right for check in checks) else "float32")
    assert fastest(net, shape, tries=1, gain=1e9) == "float32"


def test_a_layer_that_gives_no_numbers_is_wrong() -> None:
    layer = nn.Conv3d(1, 1, 3, padding=1)
    nn.init.constant_(layer.weight, float("nan"))
    assert not check_layer(layer, (1, 1, 4, 4, 4)).is_right
