"""A row of totals below a matrix is no region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl import read_connectome
from connectome_tl.errors import DataError


@pytest.mark.parametrize("name", ["Total", "SUM", "Mittelwert", "strength"])
def test_a_last_row_and_column_of_sums_is_refused(tmp_path: Path, name: str) -> None:
    matrix = np.random.default_rng(0).random((5, 5))
    matrix += matrix.T
    regions = ["a", "b", "c", "d", "e"]
    table = pd.DataFrame(matrix, index=regions, columns=regions)
    table.to_csv(tmp_path / "m.csv")
    assert read_connectome(tmp_path / "m.csv").regions == tuple(regions)
    table[name] = table.sum(axis=1)
    table.loc[name] = table.sum(axis=0)
    table.to_csv(tmp_path / "m.csv")
    with pytest.raises(DataError, match=f"the last row is a summary, '{name}'.*Delete this row and column"):
        read_connectome(tmp_path / "m.csv")
