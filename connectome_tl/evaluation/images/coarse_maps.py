"""Voxel maps as a table: means over the cells of the grid, with their stability over folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from connectome_tl.evaluation.explain.cells import Cells
from connectome_tl.evaluation.intervals.wilson import wilson_interval

TOP = 5  # cells that count as the strongest


def coarse_table(folds: Sequence[np.ndarray], cells: Cells) -> pd.DataFrame:
    """One row per cell: place, number of voxels, mean over folds, share of folds in which it is among the largest.

    Args:
        folds: (x, y, z) mean map of each fold.
    """
    inside = cells.voxels >= 0
    which = cells.voxels[inside]
    n_voxels = np.bincount(which, minlength=len(cells))
    values = np.array([np.bincount(which, one[inside], len(cells)) / n_voxels for one in folds])
    top = min(TOP, max(len(cells) // 2, 1))
    strongest = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :top]
    share = np.bincount(strongest.ravel(), minlength=len(cells)) / len(folds)
    low, high = wilson_interval(share, len(folds))
    return pd.DataFrame(
        {
            "cell": cells.names,
            "region": cells.regions,
            **dict(zip("xyz", cells.coordinates.T, strict=True)),
            "n_voxels": n_voxels,
            "value": values.mean(axis=0),
            "stability": share,
            "stability_low": low,
            "stability_high": high,
        }
    )
