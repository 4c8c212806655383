"""Cells of a pandas table as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from connectome_tl.cohort.tables.spreadsheets import text_of

_DIGITS = 15  # of a number that was typed


def cells_of(table: pd.DataFrame) -> Iterator[list[str]]:
    """Rows of a table as text, empty where missing."""
    columns = [[_text(value) for value in table[name].tolist()] for name in table]
    return map(list, zip(*columns, strict=True))


def _text(value: Any) -> str:
    """Text of a value; of a number in single precision, the digits that were typed (3.2, not 3.200000047683716)."""
    if pd.isna(value):
        return ""
    text = text_of(value)
    is_single = isinstance(value, float) and len(text) > _DIGITS and float(np.float32(value)) == value
    return str(np.float32(value)) if is_single else text
