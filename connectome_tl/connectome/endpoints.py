"""Find the region at a streamline's end by end voxel or radial search, as in MRtrix3.

Radial search selects the nearest labelled voxel centre within the radius of the end point (Smith et al. 2015,
doi:10.1016/j.neuroimage.2014.09.034, with 2 mm; the tool's default is 4 mm). An end inside a labelled voxel
needs no search. For the others, the neighbours of each voxel are tried in order of distance up to the first
labelled one; this distance limits the number of neighbours that each point of the voxel is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume

_POINTS = 1 << 14  # per block, so that temporaries stay in cache
_CELLS = 1 << 17  # of a temporary table of points and neighbours
_MAX_STEPS = 1 << 23  # neighbours of a voxel; a radius of 50 mm in voxels of 0.5 mm has as many
_COLUMNS = 16  # neighbours tried per block, nearest first


def voxel_labels(points: np.ndarray, labels: Volume) -> np.ndarray:
    """Label of the voxel that contains each point, (n,) int32; 0 outside the image.

    Args:
        points: (n, 3) mm.
    """
    inverse = np.linalg.inv(labels.affine)
    found = np.zeros(len(points), dtype=np.int32)
    for start in range(0, len(points), _POINTS):
        voxels = np.floor(points[start : start + _POINTS] @ inverse[:3, :3].T + inverse[:3, 3] + 0.5)
        rows = np.flatnonzero(((voxels >= 0) & (voxels < labels.shape)).all(axis=1))
        index = voxels[rows].astype(np.int64)
        found[start + rows] = labels.data[index[:, 0], index[:, 1], index[:, 2]]
    return found


def radial_labels(points: np.ndarray, labels: Volume, radius_mm: float) -> np.ndarray:
    """Label of the nearest labelled voxel of each point, (n,) int32; 0 where none is within the radius.

    Args:
        points: (n, 3) mm.
        radius_mm: voxel centres at this distance or beyond do not count.

    Raises:
        DataError: millions of voxels within the radius, so that the affine is not in mm.
    """
    if _reach(labels.affine, radius_mm)[0].prod() > _MAX_STEPS:
        raise DataError(
            "voxels are too small for the search radius",
            expected="an affine in mm",
            got=f"voxels of {', '.join(f'{zoom:.3g}' for zoom in labels.zooms)} mm, a radius of {radius_mm:g} mm",
            subject=labels.subject,
            file=labels.file,
        )
    ball = _ball(labels.affine, radius_mm)
    margin = np.abs(ball.steps).max(axis=0)
    # The image is padded with background: a step beyond the end of one row reaches the padding of another row.
    padded = np.pad(labels.data, [(int(m), int(m) + (int(m) + 1) * (axis == 0)) for axis, m in enumerate(margin)])
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    flat = padded.astype(np.uint16 if labels.data.max() < 1 << 16 else np.int32).ravel()
    inverse = np.linalg.inv(labels.affine)

    found = np.zeros(len(points), dtype=np.int32)
    open_rows, open_index, open_shift = [], [], []
    for start in range(0, len(points), _POINTS):
        exact = points[start : start + _POINTS] @ inverse[:3, :3].T + inverse[:3, 3]
        nearest = np.floor(exact + 0.5)
        rows = np.flatnonzero(((nearest >= -margin) & (nearest < np.array(labels.shape) + margin)).all(axis=1))
        index = (nearest[rows] + margin).astype(np.int64) @ strides
        shift = (exact[rows] - nearest[rows]) @ labels.affine[:3, :3].T
        own = flat[index]  # the nearest centre is that of its own voxel
        close = np.einsum("ij,ij->i", shift, shift) < radius_mm**2
        found[start + rows] = np.where(close, own, 0)
        rest = np.flatnonzero(own == 0)
        open_rows.append(start + rows[rest])
        open_index.append(index[rest])
        open_shift.append(shift[rest])
    if open_rows:
        rest = np.concatenate(open_rows)
        found[rest] = _search(flat, np.concatenate(open_index), np.concatenate(open_shift), ball, strides, radius_mm)
    return found


@dataclass(frozen=True)
class _Ball:
    """Neighbours of a voxel, nearest first: steps in voxels, the same in mm, their distances, half a diagonal."""

    steps: np.ndarray
    mm: np.ndarray
    distance: np.ndarray
    half: float


def _ball(affine: np.ndarray, radius_mm: float) -> _Ball:
    axes = affine[:3, :3]
    width, half = _reach(affine, radius_mm)
    reach = width.astype(int) // 2
    grids = np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij")
    steps = np.stack([g.ravel() for g in grids], axis=1)
    mm = steps @ axes.T
    distance = np.linalg.norm(mm, axis=1)
    keep = np.flatnonzero(distance < radius_mm + half)
    keep = keep[np.argsort(distance[keep], kind="stable")]
    return _Ball(steps[keep], mm[keep], distance[keep], half)


def _reach(affine: np.ndarray, radius_mm: float) -> tuple[np.ndarray, float]:
    """Radius in voxels along each axis, also for oblique grids, and half a voxel's diagonal in mm."""
    axes = affine[:3, :3]
    corners = np.array([(i, j, k) for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])
    half = float(np.linalg.norm(corners @ axes.T, axis=1).max())
    return 2 * np.ceil((radius_mm + half) * np.linalg.norm(np.linalg.inv(axes), axis=1)) + 1, half


def _search(
    flat: np.ndarray, index: np.ndarray, shift: np.ndarray, ball: _Ball, strides: np.ndarray, radius_mm: float
) -> np.ndarray:
    """Labels of points in unlabelled voxels, given as position in `flat` and shift within the voxel (mm)."""
    jumps = ball.steps @ strides
    used = np.zeros(len(flat), dtype=bool)
    used[index] = True
    voxels = np.flatnonzero(used)
    rank = np.empty(len(flat), dtype=np.int32)
    rank[voxels] = np.arange(len(voxels), dtype=np.int32)
    first = _first_labelled(flat, voxels, jumps)[rank[index]]

    rows = np.flatnonzero(first >= 0)
    shift, index = shift[rows], index[rows]
    inner = np.sqrt(np.einsum("ij,ij->i", shift, shift))
    away = shift - ball.mm[first[rows]]
    bound = np.minimum(np.sqrt(np.einsum("ij,ij->i", away, away)), radius_mm) + inner
    n_needed = np.searchsorted(ball.distance, bound + 1e-6)
    order = np.argsort(n_needed.astype(np.uint16) if len(jumps) < 1 << 16 else n_needed, kind="stable")
    found = np.zeros(len(first), dtype=np.int32)
    start = 0
    while start < len(order):
        # Points are sorted by their number of neighbours, which keeps each block's table narrow.
        narrow = max(int(n_needed[order[start]]), 1)
        chunk = order[start : start + max(_CELLS // narrow, 1)]
        chunk = chunk[n_needed[chunk] <= 1.25 * narrow + 8]
        width = max(int(n_needed[chunk[-1]]), 1)
        found[rows[chunk]] = _nearest(flat, index[chunk], shift[chunk], jumps[:width], ball, radius_mm)
        start += len(chunk)
    return found


def _first_labelled(flat: np.ndarray, voxels: np.ndarray, jumps: np.ndarray) -> np.ndarray:
    """Index of the first labelled neighbour of each voxel, (n_voxels,); -1 for none."""
    first = np.full(len(voxels), -1, dtype=np.int64)
    active = np.arange(len(voxels))
    for start in range(0, len(jumps), _COLUMNS):
        going_on = []
        for rows in np.array_split(active, 1 + len(active) * _COLUMNS // _CELLS):
            hit = flat[voxels[rows][:, None] + jumps[start : start + _COLUMNS]] > 0
            column = hit.argmax(axis=1)
            some = hit[np.arange(len(rows)), column]
            first[rows[some]] = start + column[some]
            going_on.append(rows[~some])
        active = np.concatenate(going_on)
        if active.size == 0:
            break
    return first


def _nearest(
    flat: np.ndarray, index: np.ndarray, shift: np.ndarray, jumps: np.ndarray, ball: _Ball, radius_mm: float
) -> np.ndarray:
    """Label of each point's nearest labelled neighbour among `jumps`."""
    near = flat[index[:, None] + jumps]
    # |shift - step|^2 without |shift|^2, which is equal for all neighbours.
    score = ball.distance[: len(jumps)] ** 2 - (2 * shift) @ ball.mm[: len(jumps)].T
    score[near == 0] = np.inf
    best = score.argmin(axis=1)
    rows = np.arange(len(index))
    squared = score[rows, best] + np.einsum("ij,ij->i", shift, shift)
    return np.where(squared < radius_mm**2, near[rows, best], 0).astype(np.int32)
