"""Encoder-decoders on grids of any size, and the critic's gradient penalty."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from connectome_tl.nn.voxel.adversarial import AgeGuide, Critic, EncoderDecoder, gradient_penalty
from connectome_tl.nn.voxel.unet import UNet

GRIDS = [(16, 16, 16), (13, 17, 10), (8, 9, 11)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("depth", [1, 3])
def test_a_unet_gives_one_map_per_output_on_any_grid(grid: tuple[int, int, int], depth: int) -> None:
    net = UNet(2, 3, width=4, depth=depth)
    found = net(torch.randn(2, 2, *grid))
    assert found.shape == (2, 3, *grid)
    found.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_generator_returns_the_grid_it_was_given(grid: tuple[int, int, int], depth: int) -> None:
    net, volumes = EncoderDecoder(2, width=4, depth=depth, latent=6), torch.randn(2, 2, *grid)
    latent = net.encode(volumes)
    assert latent.shape[1] == 6
    assert net.decode(latent, grid).shape == volumes.shape
    assert torch.equal(net(volumes), net.decode(latent, grid))
    assert AgeGuide(2, width=4)(volumes).shape == (2,)
    assert Critic(2, width=4)(volumes).shape == (2,)


class Linear(nn.Module):
    """A critic whose gradient is `slope` everywhere."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, volumes: Tensor) -> Tensor:
        return (volumes * self.slope).flatten(1).sum(dim=1)


@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
def test_the_penalty_is_the_squared_distance_of_the_gradients_norm_from_one(norm: float) -> None:
    slope = torch.randn(1, 4, 4, 4)
    slope = norm * slope / slope.norm()
    real, made = torch.randn(3, 1, 4, 4, 4), torch.randn(3, 1, 4, 4, 4)
    assert float(gradient_penalty(Linear(slope), real, made)) == pytest.approx((norm - 1) ** 2, abs=1e-5)
