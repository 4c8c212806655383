"""A list of values fits a triangle without and one with diagonal; a constant diagonal or a note decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.formats.table import read_matrix
from connectome_tl.connectome.matrix_file import Layout, MatrixFile
from connectome_tl.connectome.names.naming import RowNames, lined_up
from connectome_tl.connectome.names.rows import Rows

N = 12
NUMBERED = RowNames(count_only=True)
CORRELATIONS = np.corrcoef(np.random.default_rng(0).normal(size=(N, 40))).round(6)


def read(folder: Path, values: np.ndarray, layout: Layout) -> tuple[Connectome, Rows]:
    np.save(folder / "x.npy", values)
    return lined_up(read_matrix(folder / "x.npy"), NUMBERED, measures=("r",), layout=layout)


@pytest.mark.parametrize("diagonal", [1.0, 1 / np.sqrt(2), np.inf])  # Pearson, nilearn's vectors, Fisher's z
@pytest.mark.parametrize("layout", ["lower", "upper"])
def test_a_constant_diagonal_is_recognised(tmp_path: Path, layout: Layout, diagonal: float) -> None:
    matrix = CORRELATIONS.copy()
    np.fill_diagonal(matrix, diagonal)
    at = np.tril_indices(N) if layout == "lower" else np.triu_indices(N)
    found, rows = read(tmp_path, matrix[at], layout)
    off = ~np.eye(N, dtype=bool)
    np.testing.assert_array_equal(found.weights[0][off], matrix[off])
    assert "with diagonal, of 12 regions; without it, they are those of 13" in " ".join(rows.notes)


@pytest.mark.parametrize("layout", ["lower", "upper"])
def test_other_values_are_a_triangle_without_diagonal_and_that_is_said(tmp_path: Path, layout: Layout) -> None:
    at = np.tril_indices(N, -1) if layout == "lower" else np.triu_indices(N, 1)
    found, rows = read(tmp_path, CORRELATIONS[at], layout)
    off = ~np.eye(N, dtype=bool)
    np.testing.assert_array_equal(found.weights[0][off], CORRELATIONS[off])
    assert "without diagonal, of 12 regions; with it, they are those of 11" in " ".join(rows.notes)


def test_values_that_are_all_equal_and_few_values_show_no_diagonal() -> None:
    assert MatrixFile(np.ones((1, 78))).row_counts == (13, 12)
    assert MatrixFile(np.array([[1.0, 5, 1]])).row_counts == (3, 2)
    assert MatrixFile(np.zeros((1, 78))).row_counts == (13, 12)
