"""Residual networks: MedicalNet's layout, what MONAI gets wrong, gradients, any grid."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from connectome_tl.errors import UsageError
from connectome_tl.nn.voxel.resnet import Depth, Norm, VoxelResNet


@pytest.mark.parametrize(
    ("depth", "parameters", "width"),
    [(10, 14_355_520, 512), (18, 32_986_176, 512), (34, 63_295_808, 512), (50, 46_155_072, 2048)],
)
def test_the_layout_is_that_of_medicalnet(depth: Depth, parameters: int, width: int) -> None:
    with torch.device("meta"):
        net = VoxelResNet(depth, norm="batch")
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net.width == width
    assert net.conv1.weight.shape == (64, 1, 7, 7, 7)
    assert net.conv1.stride == (2, 2, 2)
    names = set(net.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer4.0.conv2.weight"} <= names
    assert ("layer2.0.downsample.0.weight" in names) == (depth in (10, 50))
    assert not any("downsample.0.bias" in name for name in names)


def test_a_net_of_ten_layers_has_as_many_entries_as_its_file() -> None:
    with torch.device("meta"):
        assert len(VoxelResNet(10, norm="batch").state_dict()) == 72


@pytest.mark.parametrize("norm", ["group", "batch", "instance"])
@pytest.mark.parametrize("depth", [10, 18, 50])
def test_gradients_reach_every_parameter_and_the_input(depth: Depth, norm: Norm) -> None:
    torch.manual_seed(0)
    net = VoxelResNet(depth, width=1 / 16, norm=norm, stem_stride=1, n_channels=2)
    volumes = torch.randn(3, 2, 16, 20, 12, requires_grad=True)
    out = net(volumes)
    assert out.shape == (3, net.width)
    (out * torch.randn_like(out)).sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A last channel that is dead for three volumes has no gradient; a whole layer always has one.
    assert not silent
    assert volumes.grad is not None
    assert volumes.grad.abs().sum() > 0


def test_the_norm_is_everywhere_the_one_asked_for() -> None:
    net = VoxelResNet(10, width=1 / 8, norm="group")
    assert not [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm3d)]
    assert len([layer for layer in net.modules() if isinstance(layer, nn.GroupNorm)]) == 1 + 8 + 3


def test_group_norm_makes_a_volume_independent_of_its_batch() -> None:
    torch.manual_seed(0)
    net = VoxelResNet(10, width=1 / 8).train()
    volumes = torch.randn(4, 1, 24, 24, 24)
    torch.testing.assert_close(net(volumes)[2:3], net(volumes[2:3]), rtol=1e-4, atol=1e-5)


def test_the_gradient_passes_through_the_zero_padded_shortcut() -> None:
    torch.manual_seed(0)
    net = VoxelResNet(18, width=1 / 16, stem_stride=1)
    block = net.layer2[0]
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)
    h = torch.rand(1, 4, 8, 8, 8, requires_grad=True)
    out = block(h)
    assert out.shape == (1, 8, 4, 4, 4)
    out.sum().backward()
    assert h.grad is not None
    # The block outputs zero: the output is that of the shortcut, at every second voxel.
    assert h.grad[0, 0, ::2, ::2, ::2].eq(1).all()
    assert h.grad.sum() == 4 * 4**3


@pytest.mark.parametrize("size", [4, 8, 17, 33])
def test_any_grid_gives_an_embedding(size: int) -> None:
    net = VoxelResNet(10, width=1 / 16)
    assert net(torch.randn(1, 1, size, size + 1, size)).isfinite().all()


def test_instance_norm_refuses_a_grid_whose_last_stage_it_would_erase() -> None:
    net = VoxelResNet(10, width=1 / 16, norm="instance")
    assert net(torch.randn(1, 1, 33, 8, 8)).std() > 0
    with pytest.raises(UsageError, match="norm: group"):
        net(torch.randn(1, 1, 32, 32, 32))


def test_dilation_keeps_the_size_of_the_last_stages_and_the_shapes_of_the_weights() -> None:
    plain, dilated = (VoxelResNet(10, width=1 / 16, dilated=flag) for flag in (False, True))
    volumes = torch.randn(1, 1, 32, 32, 32)
    assert [m.shape[-1] for m in plain.maps(volumes)] == [8, 4, 2, 1]
    assert [m.shape[-1] for m in dilated.maps(volumes)] == [8, 4, 4, 4]
    assert {n: t.shape for n, t in plain.state_dict().items()} == {n: t.shape for n, t in dilated.state_dict().items()}


def test_a_saved_net_is_the_same_net(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    net, other = (VoxelResNet(18, width=1 / 16).eval() for _ in range(2))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    other.load_state_dict(load_file(tmp_path / "net.safetensors"))
    volumes = torch.randn(2, 1, 16, 16, 16)
    assert torch.equal(net(volumes), other(volumes))
