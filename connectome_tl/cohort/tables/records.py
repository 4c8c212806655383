"""Rows of a table as dictionaries."""

from __future__ import annotations

from typing import Any

import pandas as pd


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One dictionary per row, column name to value; empty ones for a table without columns.

    (`DataFrame.to_dict("records")` of pandas 3.0 returns no rows for a table without columns.)
    """
    if not len(table.columns):
        return [{} for _ in table.index]
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
