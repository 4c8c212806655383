"""Convolutions for processors equal `torch.nn.Conv3d` in float32 and are near it in bfloat16."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from connectome_tl.nn.voxel.convolutions import Conv, Stem, channels_last, for_processors, is_thin, plain
from connectome_tl.nn.voxel.resnet import VoxelResNet


def results(layer: nn.Module, volumes: Tensor, *, rough: bool = False) -> list[Tensor]:
    """Output, and gradients of the input and of all parameters, for one direction of the output."""
    layer.zero_grad()
    given = volumes.clone().requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=rough):
        out = layer(given)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=volumes.dtype)
    (out.to(volumes.dtype) * direction).sum().backward()
    gradients = [given.grad, *(parameter.grad for parameter in layer.parameters())]
    return [out.detach().to(volumes.dtype), *(g.clone() for g in gradients if g is not None)]


def deviation(found: list[Tensor], exact: list[Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True))


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("n_out", "width"), [(16, 8), (512, 4)])  # as a convolution, and as a product
def test_a_convolution_in_bfloat16_has_correct_gradients_at_any_depth(
    kernel: int, depth: int, n_out: int, width: int
) -> None:
    """The defect of torch 2.13: an input thinner than the kernel along its first axis, 16 channels."""
    torch.manual_seed(0)
    torchs = nn.Conv3d(16, n_out, kernel, padding=kernel // 2, bias=False)
    ours = for_processors(copy.deepcopy(torchs))
    volumes = torch.randn(2, 16, depth, width, width)
    assert ours._is_small(volumes) == (n_out == 512)
    found = results(ours, volumes, rough=True)
    assert all(one.isfinite().all() for one in found)
    assert deviation(found, results(torchs, volumes)) < 0.02


@pytest.mark.parametrize("stride", [1, 2, (1, 2, 3)])
@pytest.mark.parametrize("padding", [0, 1, (0, 1, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_is_the_convolution(stride: int, padding: int, bias: bool) -> None:
    torch.manual_seed(0)
    torchs = nn.Conv3d(3, 1500, (3, 2, 3), stride, padding, bias=bias).double()
    ours = for_processors(copy.deepcopy(torchs))
    volumes = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64)
    assert type(ours) is Conv
    assert ours._is_small(volumes)
    assert deviation(results(ours, volumes), results(torchs, volumes)) < 1e-12


def test_a_product_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    layer = for_processors(nn.Conv3d(2, 600, 3, padding=1).double())
    volumes = torch.randn(1, 2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: (layer(v) ** 2).mean(1), volumes, atol=1e-6)


OTHERS: list[dict[str, object]] = [{"dilation": 2}, {"groups": 2}, {"padding_mode": "circular"}, {"padding": "same"}]


@pytest.mark.parametrize("arguments", OTHERS)
def test_other_convolutions_are_left_to_torch(arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    torchs = nn.Conv3d(2, 900, 3, **{"padding": 1, **arguments})  # type: ignore[arg-type]
    volumes = torch.randn(1, 2, 5, 5, 5)
    for one, other in zip(
        results(for_processors(copy.deepcopy(torchs)), volumes), results(torchs, volumes), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", [(8, 8, 8), (9, 12, 7), (1, 2, 3)])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_stem_is_the_strided_convolution(shape: tuple[int, ...], n_channels: int) -> None:
    torch.manual_seed(0)
    torchs = nn.Conv3d(n_channels, 16, 7, 2, 3, bias=False)
    stem = copy.deepcopy(torchs)
    stem.__class__ = Stem
    volumes = torch.randn(2, n_channels, *shape)
    assert deviation(results(stem, volumes, rough=True), results(torchs, volumes)) < 0.02
    assert torch.equal(results(stem, volumes)[0], results(torchs, volumes)[0])


@pytest.mark.parametrize("n_channels", [1, 3])
def test_channels_last_keeps_values_and_sets_the_layout_of_what_follows(n_channels: int) -> None:
    volumes = torch.randn(2, n_channels, 6, 5, 4)
    found = channels_last(volumes)
    assert torch.equal(found, volumes)
    out = nn.Conv3d(n_channels, 4, 3, padding=1)(found)
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(channels_last(volumes.transpose(2, 4)), volumes.transpose(2, 4))


def test_what_torch_refuses_is_refused() -> None:
    layer = for_processors(nn.Conv3d(2, 900, 3))
    assert layer(torch.randn(2, 3, 3, 3)).shape == (900, 1, 1, 1)  # without a batch, as in torch
    with pytest.raises(RuntimeError, match="type"):
        layer(torch.randn(1, 2, 3, 3, 3).half())
    with pytest.raises(RuntimeError, match=r"smaller|size"):
        layer(torch.randn(1, 2, 2, 3, 3))


def test_shapes_are_found_without_data() -> None:
    """Bundles are checked on torch's meta device."""
    net = VoxelResNet(10, width=1 / 16).to("meta")
    assert net(torch.zeros(1, 1, 32, 32, 32, device="meta")).shape == (1, net.width)


def test_a_network_of_torch_convolutions_computes_the_same() -> None:
    torch.manual_seed(0)
    net = VoxelResNet(10, width=1 / 4).eval()
    other = plain(copy.deepcopy(net))
    assert {type(layer) for layer in net.modules() if isinstance(layer, nn.Conv3d)} == {Conv, Stem}
    assert {type(layer) for layer in other.modules() if isinstance(layer, nn.Conv3d)} == {nn.Conv3d}
    volumes = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert deviation([net(volumes)], [other(volumes)]) < 1e-4


def test_thinness_counts_dilation() -> None:
    layer = nn.Conv3d(1, 1, 3, padding=2, dilation=2)
    assert is_thin(layer, (1, 1, 4, 8, 8))
    assert not is_thin(layer, (1, 1, 5, 8, 8))


def test_weights_and_their_names_are_kept() -> None:
    net = VoxelResNet(10, width=1 / 16)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert for_processors(for_processors(net)) is net
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(value.is_contiguous() for value in net.state_dict().values())
