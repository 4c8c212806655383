"""Interpolate fibre orientation densities between voxels and directions.

A density of even order L on the sphere is a homogeneous polynomial of degree L in the three components of the
direction. In this form it can be evaluated in any direction with a few multiplications and without a sampled sphere.
Memory is that of the coefficients inside the mask and does not depend on the size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.imaging.track.reconstruction import harmonics

_BLOCK = 20_000  # voxels converted at a time


@dataclass(frozen=True, eq=False)
class GridValues:
    """Values of some voxels of a grid: trilinear in between, 0 in all other voxels and outside.

    Attributes:
        table: (2 + n_voxels, n_columns) float32; the first two rows are 0, for voxels outside and empty ones.
        rows: (x + 2, y + 2, z + 2) int32, the row of each voxel in `table`; one voxel of padding on each side.
        to_voxels: (4, 4) from mm to padded voxel indices.
    """

    table: np.ndarray
    rows: np.ndarray
    to_voxels: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Interpolated values at (n, 3) points in mm, (n, n_columns) float32."""
        voxels = self._voxels(points)
        base = np.minimum(voxels.astype(np.int64), np.array(self.rows.shape) - 2)
        upper = (voxels - base).astype(np.float32)
        parts = np.stack([1 - upper, upper], axis=1)  # (n, 2, 3)
        weights = parts[:, :, None, None, 0] * parts[:, None, :, None, 1] * parts[:, None, None, :, 2]
        _, ny, nz = self.rows.shape
        corners = (np.array([0, ny * nz])[:, None, None] + np.array([0, nz])[:, None] + np.array([0, 1])).ravel()
        flat = (base[:, 0] * ny + base[:, 1]) * nz + base[:, 2]
        rows = self.rows.ravel()[flat[:, None] + corners]
        return np.asarray((weights.reshape(-1, 1, 8) @ self.table[rows])[:, 0])

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Whether the voxel nearest to each of (n, 3) points in mm has a row, (n,) bool."""
        return np.asarray(self.rows[tuple(np.rint(self._voxels(points)).astype(np.int64).T)] > 0)

    def _voxels(self, points: np.ndarray) -> np.ndarray:
        voxels = points @ self.to_voxels[:3, :3].T + self.to_voxels[:3, 3]
        return np.clip(voxels, 0.0, np.array(self.rows.shape) - 1.0)


def grid_values(
    values: np.ndarray, mask: np.ndarray, affine: np.ndarray, *, empty: np.ndarray | None = None
) -> GridValues:
    """Keep `values`, (n_voxels, n_columns) in the order of `np.nonzero(mask)`, for interpolation.

    Args:
        empty: (x, y, z) bool, voxels with value 0 that count as `inside`; they share one row.
    """
    rows = np.zeros(np.add(mask.shape, 2), dtype=np.int32)
    within = rows[1:-1, 1:-1, 1:-1]
    if empty is not None:
        within[empty] = 1
    within[mask] = np.arange(2, 2 + len(values))
    nothing = np.zeros((2, values.shape[1]), dtype=np.float32)
    to_voxels = np.linalg.inv(affine)
    to_voxels[:3, 3] += 1
    return GridValues(np.concatenate([nothing, values.astype(np.float32, copy=False)]), rows, to_voxels)


def order_of(n_coefficients: int) -> int:
    """Even order with this number of real harmonics."""
    return next(order for order in range(0, 30, 2) if (order + 1) * (order + 2) // 2 == n_coefficients)


def polynomials(coefficients: np.ndarray) -> np.ndarray:
    """Polynomial coefficients of densities, (n, n_coefficients) float32, from those of MRtrix3's harmonics.

    Columns are x^i y^j z^k with i + j + k = order, in the order that `amplitudes` reads.
    """
    from dipy.data import get_sphere

    order = order_of(coefficients.shape[1])
    vertices = get_sphere(name="repulsion724").vertices
    monomials = np.stack(
        [vertices[:, 0] ** (order - k - j) * vertices[:, 1] ** j * vertices[:, 2] ** k for k, j in _powers(order)], 1
    )
    change = np.linalg.lstsq(monomials, harmonics(vertices, order), rcond=None)[0].T
    out = np.empty(coefficients.shape, dtype=np.float32)
    for start in range(0, len(coefficients), _BLOCK):
        out[start : start + _BLOCK] = coefficients[start : start + _BLOCK].astype(float) @ change
    return out


def amplitudes(polynomial: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Densities, (n, n_directions), of n polynomials in (n, n_directions, 3) unit directions; by Horner's scheme."""
    order = order_of(polynomial.shape[1])
    x, y, z = (np.ascontiguousarray(directions[..., axis], dtype=polynomial.dtype) for axis in range(3))
    x_power = [np.ones_like(x)]
    for _ in range(order):
        x_power.append(x_power[-1] * x)
    columns = iter(polynomial.T)
    total = np.zeros_like(x)
    part, term = np.empty_like(x), np.empty_like(x)
    for k in range(order, -1, -1):
        part[...] = 0
        for j in range(order - k, -1, -1):
            part *= y
            part += np.multiply(x_power[order - k - j], next(columns)[:, None], out=term)
        total *= z
        total += part
    return total


def _powers(order: int) -> list[tuple[int, int]]:
    """Powers of z and of y, highest first."""
    return [(k, j) for k in range(order, -1, -1) for j in range(order - k, -1, -1)]


def half_sphere() -> np.ndarray:
    """362 axes spread evenly, (362, 3)."""
    from dipy.data import get_sphere

    vertices = get_sphere(name="repulsion724").vertices
    return np.asarray(vertices[vertices @ (0.1, 0.2, 0.97) > 0])


def peak_amplitudes(coefficients: np.ndarray) -> np.ndarray:
    """Largest density over 362 axes, (n,) float32."""
    basis = harmonics(half_sphere(), order_of(coefficients.shape[1])).T.astype(np.float32)
    out = np.zeros(len(coefficients), dtype=np.float32)
    for start in range(0, len(coefficients), _BLOCK):
        out[start : start + _BLOCK] = (coefficients[start : start + _BLOCK] @ basis).max(axis=1)
    return out
