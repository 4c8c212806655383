"""bfloat16 on a CPU: thin inputs stay in float32, the others are close to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from connectome_tl.nn.voxel.precision import check_layer, check_network, fastest, in_float32, is_thin
from connectome_tl.nn.voxel.resnet import VoxelResNet


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_guarded_convolution_has_right_gradients_at_any_depth(kernel: int, depth: int) -> None:
    """The published defect: an input thinner than the kernel along its first axis, 16 channels."""
    torch.manual_seed(0)
    layer = nn.Conv3d(16, 16, kernel, padding=kernel // 2, bias=False)
    volumes = torch.randn(2, 16, depth, 8, 8)
    direction = torch.randn(2, 16, depth, 8, 8)
    found = []
    for rough in (False, True):
        layer.zero_grad()
        given = volumes.clone().requires_grad_(True)
        if rough:
            in_float32(layer)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rough):
            out = layer(given)
        (out.float() * direction).sum().backward()
        assert given.grad is not None
        assert layer.weight.grad is not None
        found.append([out.float().detach(), given.grad.clone(), layer.weight.grad.clone()])
    for exact, other in zip(*found, strict=True):
        assert other.isfinite().all()
        assert float((other - exact).abs().max() / exact.abs().max()) < 0.02


def test_every_layer_that_is_not_thin_is_right_here_or_the_probe_takes_float32() -> None:
    torch.manual_seed(0)
    net = VoxelResNet(10, width=1 / 8)
    shape = (2, 1, 32, 32, 32)
    checks = check_network(net, shape)
    assert len(checks) == 1 + 8 + 3
    assert {check.name for check in checks if check.is_thin} >= {"layer4.0.conv2"}
    chosen = fastest(net, shape, tries=1, gain=0.0)  # except speed
    assert chosen == ("bf16" if all(check.is_right for check in checks if not check.is_thin) else "float32")
    assert fastest(net, shape, tries=1, gain=1e9) == "float32"


def test_a_layer_that_gives_no_numbers_is_wrong() -> None:
    layer = nn.Conv3d(1, 1, 3, padding=1)
    nn.init.constant_(layer.weight, float("nan"))
    assert not check_layer(layer, (1, 1, 4, 4, 4)).is_right


def test_thinness_counts_dilation() -> None:
    layer = nn.Conv3d(1, 1, 3, padding=2, dilation=2)
    assert is_thin(layer, (1, 1, 4, 8, 8))
    assert not is_thin(layer, (1, 1, 5, 8, 8))


def test_guarding_changes_no_weight_and_no_name() -> None:
    net = VoxelResNet(10, width=1 / 16)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    in_float32(net)
    in_float32(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
