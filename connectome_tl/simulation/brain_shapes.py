"""Anatomy of simulated brains: head, fluid, cortex, white matter, deep grey matter, ventricles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

LABELS = {"skull": 1, "csf": 2, "cortex": 3, "white": 4, "deep": 5, "ventricles": 6}


@dataclass(frozen=True)
class Shape:
    """Sizes of one brain in units of half the field of view; `phase` and `warp` are individual deviations."""

    axes: np.ndarray  # (3,) half-axes of the brain
    fluid: float  # width of the fluid around it
    cortex: float  # thickness
    folds: float  # depth of the folds
    ventricles: float  # scale
    phase: np.ndarray  # (4,)
    warp: np.ndarray  # (3, 3, 2) waves that bend space


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One brain on the grid.

    Attributes:
        points: (3, size, size, size) coordinates of the voxels in the brain's own frame, -1 to 1 over the field
            of view: to the right, the front, the top.
        shares: soft membership (0 to 1) of each part, in the order of painting.
        labels: uint8.
        depth_to_rim, to_the_front: location of each voxel, 0 to 1.
        ventricle_rim: bool, the shell around the ventricles.
    """

    points: np.ndarray
    shares: Mapping[str, np.ndarray]
    labels: np.ndarray
    depth_to_rim: np.ndarray
    to_the_front: np.ndarray
    ventricle_rim: np.ndarray
    half: float  # mm of half the field of view

    def ball(self, where: Literal["deep", "elsewhere"], radius: float, rng: np.random.Generator) -> np.ndarray:
        """A ball of this radius (mm) around a random voxel of deep grey matter or far away from it."""
        if where == "deep":
            allowed = self.labels == LABELS["deep"]
        else:
            x, y, z = self.points
            away = (np.abs(x) > 0.33) | (np.abs(y) > 0.36) | (z > 0.33)
            allowed = away & (self.labels == LABELS["white"])
        voxels = np.flatnonzero(allowed)
        if not len(voxels):  # a coarse grid may lose the smallest part
            voxels = np.flatnonzero(self.labels == LABELS["white"])
        centre = self.points.reshape(3, -1)[:, rng.choice(voxels)]
        distance = np.sqrt(((self.points - centre[:, None, None, None]) ** 2).sum(axis=0)) * self.half
        return (distance < radius) & (self.labels > LABELS["csf"])


def draw_shape(rng: np.random.Generator, maturity: float) -> Shape:
    """Sizes of a brain of this maturity (months) and of one individual.

    Growth is fast at first, then slow; ventricles and fluid spaces are wide at birth and from the age of fifty, when
    the cortex becomes thinner.
    """
    months = max(maturity, 0.0)
    grown = 0.70 + 0.24 * (1 - np.exp(-months / 8.0)) + 0.06 * (1 - np.exp(-months / 60.0))
    old = np.clip((months / 12 - 50) / 40, 0, 1)
    size = grown * np.exp(0.045 * rng.normal()) * (1 - 0.04 * old)
    axes = np.array([0.66, 0.82, 0.62]) * size * np.exp(0.025 * rng.normal(size=3))
    fluid = (0.045 + 0.02 * np.exp(-months / 6) + 0.03 * old) * np.exp(0.15 * rng.normal())
    return Shape(
        axes,
        float(fluid),
        float(0.115 * (1 - 0.2 * old) * np.exp(0.08 * rng.normal())),
        float(0.05 * (0.4 + 0.6 * (1 - np.exp(-months / 5))) * np.exp(0.1 * rng.normal())),
        float((0.85 + 0.25 * np.exp(-months / 4) + 0.6 * old) * np.exp(0.14 * rng.normal())),
        rng.uniform(0, 2 * np.pi, 4),
        np.stack([0.022 * rng.normal(size=(3, 3)), rng.uniform(0, 2 * np.pi, (3, 3))], axis=-1),
    )


@dataclass(frozen=True)
class Grid:
    """A cube of `size` voxels along each axis over `field` mm."""

    size: int
    field: float

    @cached_property
    def points(self) -> np.ndarray:
        """(3, size, size, size) from -1 to 1, voxel centres."""
        axis = (np.arange(self.size) - (self.size - 1) / 2) / (self.size / 2)
        return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))

    def anatomy(self, shape: Shape, rng: np.random.Generator, pose: float, *, skull: bool) -> Anatomy:
        """This brain on this grid, rotated and shifted at random by `pose`."""
        points = self._posed(rng, pose)
        voxel = 2 / self.size
        bent = points.copy()
        for i in range(3):
            for j in range(3):
                bent[i] += shape.warp[i, j, 0] * np.sin(np.pi * points[j] + shape.warp[i, j, 1])
        x, y, z = bent
        radius = np.sqrt((x / shape.axes[0]) ** 2 + (y / shape.axes[1]) ** 2 + (z / shape.axes[2]) ** 2)
        unit = float(shape.axes.mean())

        def inside(distance: np.ndarray) -> np.ndarray:
            """Soft membership from a signed distance, one voxel wide."""
            return np.clip(0.5 + distance / voxel, 0.0, 1.0)

        a, b, c, d = shape.phase
        folds = np.sin(9 * x + a) * np.sin(8 * y + b) + np.sin(10 * z + c) * np.sin(7 * y + d)
        cortex = (1 - radius) * unit
        white = cortex - shape.cortex - shape.folds * folds
        v = shape.ventricles
        side = np.abs(x)
        horns = 0.12 * v - np.sqrt((side - 0.11) ** 2 + (0.38 * (y - 0.02)) ** 2 + (0.9 * (z - 0.10)) ** 2)
        deep = 0.135 - np.sqrt((side - 0.21) ** 2 + (0.75 * (y - 0.04)) ** 2 + (z + 0.10) ** 2)
        shares = {
            "csf": inside(cortex + shape.fluid),
            "cortex": inside(cortex),
            "white": inside(white),
            "deep": inside(np.minimum(deep, cortex - shape.cortex)),
            "ventricles": inside(np.minimum(horns, cortex - shape.cortex)),
        }
        if skull:
            shares = {"skull": inside(cortex + shape.fluid + 0.10) * (1 - 0.85 * shares["csf"]), **shares}
        labels = np.zeros(radius.shape, dtype=np.uint8)
        for name, share in shares.items():
            labels[share > 0.5] = LABELS[name]
        return Anatomy(
            bent,
            shares,
            labels,
            np.clip(radius, 0, 1),
            np.clip(0.5 + 0.5 * y / shape.axes[1], 0, 1),
            (horns > -0.11) & (horns <= 0) & (radius < 1),
            self.field / 2,
        )

    def _posed(self, rng: np.random.Generator, pose: float) -> np.ndarray:
        if pose == 0:
            return self.points
        turn = Rotation.from_euler("xyz", 10 * pose * rng.normal(size=3), degrees=True).as_matrix()
        shift = 4 * pose * rng.normal(size=3) / (self.field / 2)
        return np.einsum("ij,jabc->iabc", turn, self.points - shift[:, None, None, None])


def paint(anatomy: Anatomy, levels: Mapping[str, float | np.ndarray]) -> np.ndarray:
    """Intensities of an anatomy; later parts cover earlier ones; fluid fills the ventricles, the skull is bright."""
    volume = np.zeros(anatomy.labels.shape)
    for name, share in anatomy.shares.items():
        level = 0.85 if name == "skull" else levels["csf" if name == "ventricles" else name]
        volume = volume * (1 - share) + level * share
    return volume
