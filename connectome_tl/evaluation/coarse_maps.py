"""Voxel maps as a table: means over coarse cells of the grid, with their stability over folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

CELLS, TOP = 6, 10  # cells along the longest axis; cells that count as the strongest


def coarse_table(folds: Sequence[np.ndarray], inside: np.ndarray, affine: np.ndarray) -> pd.DataFrame:
    """One row per cell: centre, number of voxels, mean over folds, share of folds in which it is among the largest.

    Args:
        folds: (depth, height, width) mean map of each fold. inside: voxels of the head. affine: (4, 4) to mm.
    """
    size = -(-max(inside.shape) // CELLS)
    at = np.argwhere(inside)
    cells, which = np.unique(at // size, axis=0, return_inverse=True)
    which = which.reshape(-1)
    n_voxels = np.bincount(which, minlength=len(cells))
    values = np.array([np.bincount(which, one[inside], len(cells)) / n_voxels for one in folds])
    top = min(TOP, max(len(cells) // 2, 1))
    strongest = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :top]
    centres = np.stack([np.bincount(which, axis, len(cells)) / n_voxels for axis in at.T], axis=1)
    placed = centres @ affine[:3, :3].T + affine[:3, 3]
    return pd.DataFrame(
        {
            **dict(zip("xyz", placed.T, strict=True)),
            "n_voxels": n_voxels,
            "value": values.mean(axis=0),
            "stability": np.bincount(strongest.ravel(), minlength=len(cells)) / len(folds),
        }
    )
