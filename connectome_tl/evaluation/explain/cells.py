"""Cells of the volumes of a study: blocks of the coarse grid, with their place in mm and, where possible, a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from connectome_tl.atlas import Atlas, find_image, load_atlas
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import ConnectomeTLError
from connectome_tl.features.volumes import coarse_blocks, read_volumes
from connectome_tl.imaging.read.images import Volume, read_labels
from connectome_tl.settings.images.volumes import ImageSettings

PER_CELL = 3  # coarse voxels of a cell along each axis: 4 x 4 x 4 cells, as the patches of occlusion maps
_APART = 0.01  # mm by which grids of one space may differ
_WITHIN = 0.95  # share of the regions that lie in the heads, if the atlas is in the space of the volumes
_WORDS = (("left", "middle", "right"), ("posterior", "middle", "anterior"), ("inferior", "middle", "superior"))


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells with a voxel of at least one head.

    Attributes:
        blocks: (n_coarse,) cell of each column of `coarse_voxels`, -1 for none.
        voxels: (x, y, z) cell of each voxel of the grid, -1 for none.
        coordinates: (n_cells, 3) centre in mm: of the template if `is_one_space`, else relative to the head's centre.
        names: place and coordinates. regions: most frequent region of the atlas, "" where there is none.
    """

    blocks: np.ndarray
    voxels: np.ndarray
    coordinates: np.ndarray
    names: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    is_one_space: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def means(self, columns: np.ndarray) -> np.ndarray:
        """(n_rows, n_cells) means over the columns (n_rows, n_coarse) of each cell."""
        members = self.blocks == np.arange(len(self))[:, None]
        return np.asarray(columns @ (members / members.sum(axis=1, keepdims=True)).T)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(n_rows, n_cells) sums over the voxels of values (n_rows, n_channels, x, y, z)."""
        flat, at = values.sum(axis=1).reshape(len(values), -1), self.voxels.ravel()
        return np.stack([np.bincount(at[at >= 0], row[at >= 0], len(self)) for row in flat])


def no_cells() -> Cells:
    """For studies without volumes."""
    return Cells(np.zeros(0, int), np.zeros((0, 0, 0), int), np.zeros((0, 3)))


def cells_of(cohort: Cohort, settings: ImageSettings) -> Cells:
    """The cells of the grids of a cohort."""
    reader, _, present = read_volumes(cohort, cohort.ids, settings)
    head = np.zeros(reader.shape, dtype=bool)
    for row in np.flatnonzero(present):
        head |= reader.read([row])[0, 0] != 0
    affines = np.reshape([grid.affine for grid in reader.grids if grid is not None], (-1, 4, 4))
    return cells_in(head, affines, cohort.atlas)


def cells_in(head: np.ndarray, affines: np.ndarray, atlas: str) -> Cells:
    """The cells of grids.

    Args:
        head: (x, y, z) bool, voxels of any head. affines: (n, 4, 4) from voxels to mm of each volume.
        atlas: name of the cohort's atlas. Its regions are used if the grids share one space and the regions lie in the
            heads.
    """
    blocks, n_blocks = coarse_blocks(head.shape)
    shape = tuple(-(-n // PER_CELL) for n in n_blocks)
    every = np.ravel_multi_index(tuple(axis // PER_CELL for axis in np.indices(n_blocks)), shape).ravel()
    kept = np.unique(every[blocks[head]])
    number = np.full(int(np.prod(shape)), -1)
    number[kept] = np.arange(len(kept))
    of_block = number[every]
    voxels = of_block[blocks]
    affine = mean_affine(affines, head.shape)
    inside = np.argwhere(head)
    of_voxel = voxels[head]
    n_voxels = np.maximum(np.bincount(of_voxel, minlength=len(kept)), 1)
    centres = np.stack([np.bincount(of_voxel, axis, len(kept)) / n_voxels for axis in inside.T], axis=1)
    placed = centres @ affine[:3, :3].T + affine[:3, 3]
    low, high = (inside.min(axis=0), inside.max(axis=0)) if len(inside) else (np.zeros(3), np.ones(3))
    third = np.clip(3 * (centres - low) / np.maximum(high - low, 1), 0, 2.999).astype(int)
    names = tuple(
        f"({x:.0f}, {y:.0f}, {z:.0f}) {_place(which)}" for (x, y, z), which in zip(placed, third, strict=True)
    )
    shared = is_one_space(affines)
    regions = _regions(atlas, head, voxels, affine, len(kept)) if shared else ("",) * len(kept)
    return Cells(of_block, voxels, placed, names, regions, shared)


def is_one_space(affines: np.ndarray) -> bool:
    """Whether grids (n, 4, 4), at least two, have the same place in the spaces of their volumes."""
    return len(affines) > 1 and bool(np.abs(affines - affines[0]).max() < _APART)


def mean_affine(affines: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(4, 4) that of all grids, or one around the origin with their mean voxel size."""
    if len(affines) == 1 or is_one_space(affines):
        first: np.ndarray = affines[0]
        return first
    spacing = np.linalg.norm(affines[:, :3, :3], axis=1).mean(axis=0) if len(affines) else np.ones(3)
    found = np.diag([*spacing, 1.0])
    found[:3, 3] = -spacing * (np.array(shape) - 1) / 2
    return found


def _place(third: np.ndarray) -> str:
    words = [_WORDS[axis][k] for axis, k in enumerate(third) if k != 1]
    return " ".join(words) or "centre"


def _regions(atlas: str, head: np.ndarray, voxels: np.ndarray, affine: np.ndarray, n_cells: int) -> tuple[str, ...]:
    """Most frequent region among the labelled voxels of each cell, or, without a label image, the nearest centroid."""
    nowhere = ("",) * n_cells
    try:
        known = load_atlas(atlas)
        image = find_image(atlas)
        labels = None if image is None else read_labels(image)
    except ConnectomeTLError:
        return nowhere
    found = _labelled(known, labels, voxels, affine, n_cells) if labels else _nearest(known, head, voxels, affine)
    return nowhere if found is None else found


def _labelled(
    atlas: Atlas, labels: Volume, voxels: np.ndarray, affine: np.ndarray, n_cells: int
) -> tuple[str, ...] | None:
    names = {region.index: region.name for region in atlas.regions}
    at = np.argwhere(np.isin(labels.data, list(names)))
    cell = _cell_at(at @ labels.affine[:3, :3].T + labels.affine[:3, 3], voxels, affine)
    if len(at) == 0 or (cell >= 0).mean() < _WITHIN:
        return None
    own = labels.data[tuple(at.T)]
    return tuple(names[int(np.bincount(own[cell == c]).argmax())] if (cell == c).any() else "" for c in range(n_cells))


def _nearest(atlas: Atlas, head: np.ndarray, voxels: np.ndarray, affine: np.ndarray) -> tuple[str, ...] | None:
    points = np.array([(r.x, r.y, r.z) for r in atlas.regions])
    if not np.isfinite(points).all() or (_cell_at(points, np.where(head, voxels, -1), affine) >= 0).mean() < _WITHIN:
        return None
    inside = np.argwhere(head) @ affine[:3, :3].T + affine[:3, 3]
    nearest = np.asarray(KDTree(points).query(inside)[1])
    of_voxel = voxels[head]
    return tuple(
        atlas.regions[int(np.bincount(nearest[of_voxel == c]).argmax())].name for c in range(int(of_voxel.max()) + 1)
    )


def _cell_at(places: np.ndarray, voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(n,) cell at each place in mm, -1 outside."""
    at = np.rint((places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    inside = ((at >= 0) & (at < voxels.shape)).all(axis=1)
    found = np.full(len(places), -1)
    found[inside] = voxels[tuple(at[inside].T)]
    return found
