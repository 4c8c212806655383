"""Streamline weights that match fibre density, similar to SIFT2 with another penalty.

The integral of each lobe of an orientation density (a fixel) is the fibre volume in the voxel. The sum of weight times
length of the streamlines along the lobe should equal this volume, so that a weight is a cross-section in mm2. Weights
are estimated by least squares with shrinkage to their common mean (Smith et al. 2015,
doi:10.1016/j.neuroimage.2015.06.092; Pestilli et al. 2014, doi:10.1038/nmeth.3098).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack

from connectome_tl.errors import DataError
from connectome_tl.imaging.track.orientation_field import half_sphere, order_of
from connectome_tl.imaging.track.reconstruction import Orientations, harmonics

_LOBES = 3  # of one voxel
_APART = np.cos(np.radians(35.0))  # smallest angle between separable lobes of order 8
_PENALTY = 0.01  # of a weight that is far from the mean, relative to the data; 0.003 to 0.3 do equally well
_BLOCK = 20_000  # voxels
_AT_ONCE = 10_000  # streamlines


@dataclass(frozen=True, eq=False)
class Fixels:
    """Lobes of the densities.

    Attributes:
        rows: (x, y, z) int32, the row of a voxel, or -1.
        axes: (n_voxels, 3, 3) unit vectors of up to three lobes, 0 where there are fewer.
        volumes: (n_voxels, 3) fibre in mm3, in units of the response's.
    """

    rows: np.ndarray
    axes: np.ndarray
    volumes: np.ndarray


def fixels_of(orientations: Orientations, mask: np.ndarray, cutoff: float) -> Fixels:
    """Up to three lobes of each voxel whose peak reaches the cutoff."""
    inside = orientations.coefficients[mask]
    half = half_sphere()
    basis = harmonics(half, order_of(inside.shape[1])).T.astype(np.float32)
    voxel = float(abs(np.linalg.det(orientations.affine[:3, :3])))
    close = np.abs(half @ half.T)
    axes, volumes = np.zeros((len(inside), _LOBES, 3)), np.zeros((len(inside), _LOBES))
    for start in range(0, len(inside), _BLOCK):
        density = np.maximum(inside[start : start + _BLOCK] @ basis, 0)
        every = np.arange(len(density))
        free, nearness = density.copy(), np.zeros((_LOBES, *density.shape), dtype=np.float32)
        for lobe in range(_LOBES):
            peak = free.argmax(axis=1)
            there = free[every, peak] >= cutoff
            axes[start : start + _BLOCK, lobe][there] = half[peak[there]]
            nearness[lobe] = np.where(there[:, None], close[peak], -1)
            free[close[peak] > _APART] = 0
        nearest = nearness.argmax(axis=0)
        for number in range(_LOBES):
            own = (nearest == number) & (nearness[number] > 0)
            volumes[start : start + _BLOCK, number] = (density * own).sum(axis=1) * (4 * np.pi / len(half)) * voxel
    rows = np.full(mask.shape, -1, dtype=np.int32)
    rows[mask] = np.arange(len(inside))
    return Fixels(rows, axes, volumes)


def streamline_weights(
    streamlines: list[np.ndarray],
    orientations: Orientations,
    mask: np.ndarray,
    cutoff: float,
    *,
    used: np.ndarray | None = None,
    subject: str | None = None,
) -> np.ndarray:
    """Cross-section of each streamline in mm2 of fibre, (n_streamlines,), at least 0.

    Args:
        streamlines: (n_points, 3) arrays in mm, RAS+.
        cutoff: smallest amplitude of a lobe, as in tracking.
        used: (n_streamlines,) bool, streamlines to be weighted; all by default. Streamlines that do not connect two
            regions would take volume from others; their weight is 0.

    Raises:
        DataError: no streamline runs along a fibre.
    """
    chosen = np.arange(len(streamlines)) if used is None else np.flatnonzero(used)
    weights = np.zeros(len(streamlines))
    fixels = fixels_of(orientations, mask, cutoff)
    lengths = _lengths([streamlines[at] for at in chosen], fixels, orientations.affine)
    crossed = np.flatnonzero(np.bincount(lengths.indices, minlength=lengths.shape[1]))
    if not len(crossed):
        raise DataError(
            "no streamline that connects two regions follows a fibre", subject=subject,
            remedy="Check the labels, the mask and the gradient table.",
        )  # fmt: skip
    weights[chosen] = _fitted(lengths[:, crossed], fixels.volumes.ravel()[crossed])
    return weights


def _lengths(streamlines: list[np.ndarray], fixels: Fixels, affine: np.ndarray) -> csr_array:
    """Length in mm of each streamline within each fixel, (n_streamlines, n_fixels).

    Computed for some streamlines at a time, since their steps take several times as much memory as the result.
    """
    parts = [streamlines[at : at + _AT_ONCE] for at in range(0, max(len(streamlines), 1), _AT_ONCE)]
    return vstack([_lengths_of_some(part, fixels, affine) for part in parts], format="csr")


def _lengths_of_some(streamlines: list[np.ndarray], fixels: Fixels, affine: np.ndarray) -> csr_array:
    inverse = np.linalg.inv(affine)
    points = np.concatenate([np.zeros((0, 3)), *streamlines])
    of_point = np.repeat(np.arange(len(streamlines)), [len(line) for line in streamlines])
    same = of_point[1:] == of_point[:-1]
    number, step = of_point[:-1][same], np.diff(points, axis=0)[same]
    voxel = np.rint((points[:-1][same] + step / 2) @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    within = ((voxel >= 0) & (voxel < fixels.rows.shape)).all(axis=1)
    row = np.where(within, fixels.rows[tuple(np.where(within[:, None], voxel, 0).T)], -1)
    number, row, step = number[row >= 0], row[row >= 0], step[row >= 0]
    size = np.linalg.norm(step, axis=1)
    along = np.abs(np.einsum("nlc,nc->nl", fixels.axes[row], step))
    lobe = along.argmax(axis=1)
    aligned = along[np.arange(len(lobe)), lobe] > size * np.cos(np.pi / 4)
    at = (number[aligned], row[aligned].astype(np.int64) * _LOBES + lobe[aligned])
    return csr_array((size[aligned], at), shape=(len(streamlines), fixels.volumes.size))


def _fitted(lengths: csr_array, volumes: np.ndarray) -> np.ndarray:
    """Non-negative weights that match the volumes of the fixels, shrunk to their mean."""
    from scipy.optimize import minimize

    matrix = lengths.T.tocsr()
    total = np.asarray(lengths.sum(axis=0)).ravel()
    mean = float((total * volumes).sum() / (total**2).sum())
    # The penalty is scaled so that twice as many streamlines of half the weight give the same solution.
    penalty = _PENALTY * float((total**2).sum()) / lengths.shape[0]

    def cost(relative: np.ndarray) -> tuple[float, np.ndarray]:
        left = matrix @ relative - volumes / mean
        apart = relative - 1
        gradient = lengths @ left + penalty * apart
        return 0.5 * float(left @ left + penalty * apart @ apart), gradient

    start = np.ones(lengths.shape[0])
    found = minimize(
        cost, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start), options={"maxiter": 200}
    )
    return np.asarray(found.x * mean)
