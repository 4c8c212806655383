"""Random augmentation of batches of volumes, on the device of the batch.

Distributions and formulas are those of MONAI's random transforms (`RandFlip`, `RandAffine`, `RandBiasField`,
`RandAdjustContrast`, `RandGaussianNoise`), which process one volume at a time on the processor. All random numbers are
drawn on the processor, so that they do not depend on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from connectome_tl.settings.images.volumes import Augmentation
from connectome_tl.training.networks.contrasts import soft_contrasts

Augment = Callable[[Tensor], Tensor]
Interpolation = Literal["bilinear", "nearest"]
Change = Callable[[Tensor, np.random.Generator], Tensor]

_BIAS = (3, 0.15)  # degree of the polynomial of a bias field, and its largest coefficient
_GAMMA = (0.7, 1.5)
_NOISE = 0.1  # largest standard deviation
_AT_ONCE = 4  # volumes that are resampled together


@dataclass(frozen=True)
class _Step:
    """A change that each volume of a batch undergoes with a probability, and its random numbers.

    Attributes:
        moving: the same change of label maps, if it moves voxels.
    """

    chance: float
    change: Change
    rng: np.random.Generator
    moving: Change | None


@dataclass(frozen=True)
class Augmenter:
    """Random transform of batches of volumes, and of their label maps."""

    steps: tuple[_Step, ...]

    def __call__(self, volumes: Tensor) -> Tensor:
        """Transformed volumes (n, n_channels, depth, height, width)."""
        return self.both(volumes, None)[0]

    def both(self, volumes: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Transformed volumes, and their label maps (n, depth, height, width), moved by nearest neighbours."""
        found = volumes.clone()
        moved = None if labels is None else labels[:, None].float()
        for step in self.steps:
            rows = np.flatnonzero(step.rng.random(len(volumes)) < step.chance)
            if not len(rows):
                continue
            at = torch.from_numpy(rows).to(volumes.device)
            drawn = step.rng.bit_generator.state
            found[at] = step.change(found[at], step.rng)
            if moved is not None and step.moving is not None:
                step.rng.bit_generator.state = drawn
                moved[at] = step.moving(moved[at], step.rng)
        return found, None if moved is None else moved[:, 0].long()


def augmentation(settings: Augmentation, seed: int) -> Augmenter | None:
    """Random transform of a batch (n, n_channels, depth, height, width), float32; None without any augmentation.

    Each augmentation has random numbers of its own, so that they do not depend on whether others are enabled.
    """
    if not settings.changes:
        return None
    changes: tuple[tuple[float, Change], ...] = (
        (settings.flip, flips),
        (settings.affine, partial(affines, settings=settings)),
        (settings.bias, _inside(bias_fields)),
        (settings.gamma, _inside(gammas)),
        (settings.invert, inversions),
        (settings.contrast, partial(soft_contrasts, strength=settings.strength)),
        (settings.noise, _inside(noises)),  # a background of 0 marks what is outside the head, also in objectives
    )
    moving: dict[int, Change] = {0: flips, 1: partial(affines, settings=settings, mode="nearest")}
    return Augmenter(
        tuple(
            _Step(p, change, np.random.default_rng([seed, i]), moving.get(i))
            for i, (p, change) in enumerate(changes)
            if p
        )
    )


def flips(volumes: Tensor, _: np.random.Generator) -> Tensor:
    """Mirror images along the first axis of the grid (left to right)."""
    return volumes.flip(2)


def affines(
    volumes: Tensor, rng: np.random.Generator, settings: Augmentation, mode: Interpolation = "bilinear"
) -> Tensor:
    """Small rotations, shifts and changes of size about the centre; voxels from outside repeat the border."""
    from monai.transforms.utils import create_rotate, create_scale, create_translate

    angle, matrices = float(np.radians(settings.rotate)), []
    for _ in volumes:
        turned = create_rotate(3, list(rng.uniform(-angle, angle, 3)))
        shifted = create_translate(3, list(rng.uniform(-settings.shift, settings.shift, 3)))
        scaled = create_scale(3, list(1 + rng.uniform(-settings.scale, settings.scale, 3)))
        matrices.append(turned @ shifted @ scaled)
    # A few volumes at a time, since coordinates take three times the memory of the volumes.
    parts = zip(
        volumes.split(_AT_ONCE),
        np.array_split(np.stack(matrices), range(_AT_ONCE, len(volumes), _AT_ONCE)),
        strict=True,
    )
    return torch.cat([resampled(*part, mode=mode) for part in parts])


def resampled(volumes: Tensor, matrices: np.ndarray, mode: Interpolation = "bilinear") -> Tensor:
    """Volumes at transformed voxels, by trilinear interpolation (`bilinear` of torch) or nearest neighbours.

    Args:
        volumes: (n, n_channels, depth, height, width).
        matrices: (n, 4, 4), from voxels of the result to voxels of the given volume, both relative to the centre.
    """
    half = np.array(volumes.shape[2:]) / 2
    linear = matrices[:, :3, :3] * (half[None, :] / half[:, None])
    # The coordinates of `grid_sample` run from -1 to 1, the last axis first.
    theta = np.concatenate([linear, matrices[:, :3, 3:] / half[:, None]], axis=2)[:, ::-1][:, :, [2, 1, 0, 3]]
    at = torch.from_numpy(np.ascontiguousarray(theta, dtype=np.float32)).to(volumes.device)[..., None, None, None]
    depth, height, width = (((2 * torch.arange(n, device=at.device) + 1) / n - 1) for n in volumes.shape[2:])
    places = at[:, :, 0] * width + (at[:, :, 1] * height[:, None] + (at[:, :, 2] * depth[:, None, None] + at[:, :, 3]))
    at_places = places.permute(0, 2, 3, 4, 1)
    return grid_sample(volumes, at_places, mode=mode, padding_mode="border", align_corners=False)


def bias_fields(volumes: Tensor, rng: np.random.Generator) -> Tensor:
    """Multiply by the exponential of a random polynomial of degree 3."""
    degree, largest = _BIAS
    terms = np.indices((degree + 1,) * 3).sum(axis=0) <= degree
    drawn = rng.uniform(0, largest, (len(volumes), *terms.shape)) * terms
    return volumes * polynomials(drawn, volumes.shape[2:]).exp()[:, None].to(volumes)


def polynomials(coefficients: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Products of Legendre polynomials on [-1, 1]^3 with coefficients (n, k, k, k), as (n, *shape) float32."""
    found = coefficients
    for n_voxels in shape:
        basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, n_voxels), coefficients.shape[1] - 1)
        found = np.tensordot(found, basis, axes=(1, 1))  # the new axis comes last
    return torch.from_numpy(found.astype(np.float32))


def gammas(volumes: Tensor, rng: np.random.Generator) -> Tensor:
    """Raise intensities between the minimum and maximum of each volume to a random power."""
    axes = tuple(range(1, volumes.ndim))
    low = volumes.amin(axes, keepdim=True)
    spread = (volumes.amax(axes, keepdim=True) - low).clamp_min(1e-7)
    return ((volumes - low) / spread) ** _column(rng.uniform(*_GAMMA, len(volumes)), volumes) * spread + low


def inversions(volumes: Tensor, _: np.random.Generator) -> Tensor:
    """Invert the intensities of the foreground, the voxels other than 0."""
    axes, inside = tuple(range(1, volumes.ndim)), volumes != 0
    low = torch.where(inside, volumes, torch.inf).amin(axes, keepdim=True)
    high = torch.where(inside, volumes, -torch.inf).amax(axes, keepdim=True)
    return torch.where(inside, low + high - volumes, volumes)


def noises(volumes: Tensor, rng: np.random.Generator) -> Tensor:
    """Add Gaussian noise of a random standard deviation."""
    spread = _column(rng.uniform(0, _NOISE, len(volumes)), volumes)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    return volumes + spread * torch.randn(volumes.shape, generator=generator).to(volumes.device)


def _inside(change: Change) -> Change:
    """The same change where a background of exactly 0 is kept."""
    return lambda volumes, rng: torch.where(volumes == 0, volumes, change(volumes, rng))


def _column(values: np.ndarray, volumes: Tensor) -> Tensor:
    """One value for each volume of a batch, to be broadcast over its voxels."""
    return torch.from_numpy(values.astype(np.float32)).to(volumes.device).reshape(-1, *[1] * (volumes.ndim - 1))
