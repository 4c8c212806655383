"""Map points between images, and resample images and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from connectome_tl.imaging.read.images import Volume


@dataclass(frozen=True, eq=False)
class Warp:
    """Map from points of the fixed image to points of the moving image.

    Attributes:
        affine: (4, 4) fixed mm to moving mm.
        places: (x, y, z, 3) moving mm of every voxel of `grid`, NaN where unknown; None when all is affine.
        grid: (4, 4) voxel indices of `places` to fixed mm.
        before: (4, 4) transform that is applied first.
    """

    affine: np.ndarray
    places: np.ndarray | None = None
    grid: np.ndarray | None = None
    before: np.ndarray | None = None


def carry_labels(warp: Warp, labels: Volume, target: Volume) -> Volume:
    """Resample labels of the moving space to the grid of `target` by nearest neighbour."""
    voxels = _moving_voxels(warp, target, labels.affine)
    index = np.floor(voxels + 0.5).astype(np.int64)
    inside = ((index >= 0) & (index < labels.shape)).all(axis=1)
    out = np.zeros(len(index), dtype=labels.data.dtype)
    out[inside] = labels.data[tuple(index[inside].T)]
    return Volume(out.reshape(target.shape[:3]), target.affine, target.subject, labels.file)


def carry_image(warp: Warp, image: Volume, target: Volume) -> Volume:
    """Resample an image of the moving space to the grid of `target`, trilinear, 0 outside."""
    from scipy.ndimage import map_coordinates

    voxels = _moving_voxels(warp, target, image.affine)
    out = map_coordinates(image.data, voxels.T, order=1, mode="constant", cval=0.0, output=np.float32)
    return Volume(out.reshape(target.shape[:3]), target.affine, target.subject, image.file)


def compose(first: Warp, then: Warp) -> Warp:
    """Compose a map from fixed to middle (affine only) with one from middle to moving."""
    if first.places is not None:
        raise ValueError("the first map must be affine")
    if then.places is None and then.before is None:
        return Warp(then.affine @ first.affine)
    return replace(then, before=first.affine if then.before is None else then.before @ first.affine)


def both_ways(here: str, there: str, warp: Warp) -> dict[str, Warp]:
    """An affine map of points of `here` to points of `there`, and its inverse, named `from-A_to-B` as BIDS does: by the
    images that they resample."""
    back = Warp(np.linalg.inv(warp.affine))
    return {f"from-{there}_to-{here}": Warp(warp.affine), f"from-{here}_to-{there}": back}


def _moving_voxels(warp: Warp, target: Volume, moving_affine: np.ndarray) -> np.ndarray:
    """Voxel coordinates in the moving image of every voxel of the target, (n_voxels, 3)."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in target.shape[:3]), indexing="ij"), axis=-1).reshape(-1, 3)
    points = grid @ target.affine[:3, :3].T + target.affine[:3, 3]
    moved = points_of_warp(warp, points)
    inverse = np.linalg.inv(moving_affine)
    return np.asarray(moved @ inverse[:3, :3].T + inverse[:3, 3])


def points_of_warp(warp: Warp, points: np.ndarray) -> np.ndarray:
    """Positions in the moving image of points of the fixed image, (n, 3) in mm."""
    if warp.before is not None:
        points = points @ warp.before[:3, :3].T + warp.before[:3, 3]
    moved = np.asarray(points @ warp.affine[:3, :3].T + warp.affine[:3, 3])
    if warp.places is not None and warp.grid is not None:
        there = _interpolated(warp.places, warp.grid, points)
        known = np.isfinite(there).all(axis=1)
        moved[known] = there[known]
    return moved


def _interpolated(field: np.ndarray, grid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A vector field at points in mm, (n, 3); NaN outside it."""
    from scipy.ndimage import map_coordinates

    inverse = np.linalg.inv(grid)
    voxels = (points @ inverse[:3, :3].T + inverse[:3, 3]).T
    return np.stack(
        [map_coordinates(field[..., axis], voxels, order=1, mode="constant", cval=np.nan) for axis in range(3)], axis=1
    )
