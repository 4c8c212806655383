"""A head of waves and spots with a known value at every point, for tests of registration."""

from __future__ import annotations

import numpy as np

from connectome_tl.imaging.read.images import Volume

AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
SHAPE = (48, 56, 44)


def head(shift: np.ndarray | None = None, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels of 2 mm voxels; each point is looked up `shift` mm away, (x, y, z, 3)."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(2.0 * np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    points = grid if shift is None else grid + shift
    middle = np.array([47.0, 55.0, 43.0])
    inside = (((points - middle) / (36, 44, 32)) ** 2).sum(axis=-1) < 1
    centres = middle + rng.uniform(-0.62, 0.62, (24, 3)) * (36, 44, 32)
    distance = np.linalg.norm(points[..., None, :] - centres, axis=-1)
    labels = np.where((distance.min(axis=-1) < 7) & inside, distance.argmin(axis=-1) + 1, 0)
    # Sparse numbering above 127 and above 2000, as FreeSurfer's.
    numbers = np.concatenate([[0], np.arange(1, 13) * 11, 1990 + np.arange(12) * 7])
    waves = sum(np.cos(points @ rng.normal(0, 0.25, 3) + rng.uniform(0, 6)) for _ in range(12))
    image = np.where(inside, 500 + 30 * np.asarray(waves) + 140 * (labels % 3), 0.0)
    return image, numbers[labels].astype(np.int32)


def bend(amplitude: float) -> np.ndarray:
    """A smooth shift in mm, (x, y, z, 3)."""
    grid = np.stack(np.meshgrid(*(2.0 * np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    wave = amplitude * np.stack([np.sin(grid[..., (i + 1) % 3] / 16 + i) for i in range(3)], axis=-1)
    return wave + np.array([3.0, -2.0, 2.5])


def brain(data: np.ndarray) -> Volume:
    return Volume(np.asarray(data, dtype=np.float32), AFFINE)


def gain(ratio: float) -> np.ndarray:
    """A smooth field over the head, about `ratio` from its weak to its strong side."""
    x, y, z = (np.linspace(-1, 1, n) for n in SHAPE)
    log = 0.7 * x[:, None, None] - 0.5 * y[None, :, None] + 0.6 * z[None, None, :] ** 2
    inside = head()[0] > 0
    low, high = np.percentile(log[inside], [2, 98])
    return np.asarray(np.exp((log - log[inside].mean()) / (high - low) * np.log(ratio)))
