"""Voxel maps as tables of coarse cells."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.evaluation.coarse_maps import TOP, coarse_table


def test_cells_have_the_mean_of_their_voxels_their_place_and_their_stability() -> None:
    rng = np.random.default_rng(0)
    folds, inside = [rng.random((12, 12, 12)) for _ in range(3)], np.zeros((12, 12, 12), dtype=bool)
    inside[2:10, 2:10, 2:10] = True
    folds[0][4:6, 4:6, 4:6] = folds[1][4:6, 4:6, 4:6] = 9.0
    folds[2][4:6, 4:6, 4:6] = 0.0
    table = coarse_table(folds, inside, np.diag([2.0, 3.0, 4.0, 1.0]))
    assert len(table) == 4**3
    assert table["n_voxels"].tolist() == [8] * 64
    one = table.iloc[int(table["value"].argmax())]
    assert one[["x", "y", "z"]].tolist() == [9.0, 13.5, 18.0]
    assert one["value"] == pytest.approx(6.0)
    assert one["stability"] == pytest.approx(2 / 3)
    assert table["stability"].sum() == pytest.approx(TOP)
    inner = np.mean([fold[inside].mean() for fold in folds])
    assert np.average(table["value"], weights=table["n_voxels"]) == pytest.approx(inner)
