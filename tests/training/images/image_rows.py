"""Small simulated rows of volumes for the tests in this folder."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.simulation.volumes import SimulatedVolumes, VolumeSettings, simulate_volumes
from connectome_tl.training.images.rows import VolumeRows


@cache
def simulated(n: int = 24, size: int = 16, place: str | None = None, seed: int = 3) -> SimulatedVolumes:
    return simulate_volumes(n, VolumeSettings(size=size, site_effect=0.3, place=place), seed=seed)  # type: ignore[arg-type]


def planted(n: int = 24, size: int = 12) -> tuple[VolumeRows, np.ndarray, np.ndarray]:
    """Balls that differ by two slopes and, in one region, by age (0 to 24); the region and the ball."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij"))
    ball = np.sqrt((grid**2).sum(axis=0)) < 0.9
    region = np.sqrt(((grid - np.array([0.3, 0.0, -0.2])[:, None, None, None]) ** 2).sum(axis=0)) < 0.4
    ages = rng.uniform(0, 24, n)
    a, b = rng.normal(size=(2, n, 1, 1, 1))
    volumes = ball * (1 + a * grid[0] + b * grid[1]) + region * (ages[:, None, None, None] - 12) / 6
    volumes = volumes + 0.1 * rng.normal(size=volumes.shape)
    ids = tuple(f"p{i}" for i in range(n))
    return VolumeRows(ids, torch.tensor(volumes[:, None], dtype=torch.float32), ages), region, ball


def rows_of(sim: SimulatedVolumes) -> VolumeRows:
    """Standardised over each head, as in the conversion to grids."""
    inside = sim.labels > 0
    volumes = np.zeros_like(sim.volumes)
    for i, mask in enumerate(inside):
        values = sim.volumes[i][mask]
        volumes[i][mask] = (values - values.mean()) / values.std()
    sex = np.arange(len(sim)) % 2.0
    labels = torch.from_numpy(sim.labels.astype(np.int64))
    return VolumeRows(sim.ids, torch.from_numpy(volumes[:, None]), sim.age, sex, labels=labels)


class SmallEncoder(nn.Module):
    """Two convolutions and a mean."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Conv3d(1, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv3d(8, width, 3, 2, 1), nn.ReLU()
        )

    def maps(self, volumes: Tensor) -> Tensor:
        return self.layers(volumes)

    def forward(self, volumes: Tensor) -> Tensor:
        return self.maps(volumes).mean(dim=(2, 3, 4))
