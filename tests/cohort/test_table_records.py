"""Rows of tables as dictionaries."""

from __future__ import annotations

import numpy as np
import pandas as pd

from connectome_tl.cohort.tables.records import records_of


def test_a_table_without_columns_has_an_empty_record_per_row() -> None:
    # pandas 3.0 returns no records here, pandas 3.1 two
    assert records_of(pd.DataFrame(index=["a", "b"])) == [{}, {}]


def test_columns_keep_their_names_and_values() -> None:
    table = pd.DataFrame({"sex": ["f", "m"], 3: [1.5, np.nan]})
    first, second = records_of(table)
    assert first == {"sex": "f", "3": 1.5}
    assert second["sex"] == "m"
    assert np.isnan(second["3"])


def test_a_table_without_rows_has_no_record() -> None:
    assert records_of(pd.DataFrame({"sex": []})) == []
