"""Other readings of the columns of a cohort: properties of a number besides its value, and combined columns.

A leak need not be monotone: impaired infants may be those whose record number is odd, whose value was typed with one
more decimal, who are far from the median on either side, or whose two columns add up to the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort

SUM = "together"  # how a linear combination is named
_MOST_DECIMALS, _FEW_DECIMALS = 8, 3
_STEPS = (5, 10, 50, 100)
_MOST_PAIRED = 40  # columns of which all pairs are looked at
_ROWS_PER_COLUMN = 3
_ROWS_PER_VALUE = 8  # subjects per value of a column whose values are taken as codes


def readings(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Further readings (n_subjects,) of numeric columns: distance from the median, decimals, parity, rounding."""
    found: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        known = np.isfinite(values)
        if np.unique(values[known]).size < 3:
            continue
        found[f"{name}: distance from the median"] = np.abs(values - np.median(values[known]))
        if (values[known] == np.round(values[known])).all():
            found[f"{name}: odd or even"] = np.mod(values, 2.0)
            found[f"{name}: step"] = _steps(values)
        else:
            found[f"{name}: decimals"] = _decimals(values)
    return found


def _decimals(values: np.ndarray) -> np.ndarray:
    """Number of decimals with which each value was written; NaN where it is missing."""
    found = np.full(values.shape, np.nan)
    for decimals in range(_MOST_DECIMALS, -1, -1):
        found = np.where(np.isclose(values, np.round(values, decimals), rtol=0, atol=1e-9), float(decimals), found)
    return np.where(np.isfinite(values) & np.isnan(found), float(_MOST_DECIMALS + 1), found)


def _steps(values: np.ndarray) -> np.ndarray:
    """How coarsely integers were rounded: how many of 5, 10, 50 and 100 divide each value; NaN where it is missing."""
    found = sum((np.mod(values, step) == 0).astype(float) for step in _STEPS)
    return np.where(np.isfinite(values), found, np.nan)


def last_digits(cohort: Cohort) -> Iterator[tuple[str, pd.Series]]:
    """The last digit of each value of numeric covariates of many values, as written with up to `_FEW_DECIMALS`."""
    for spec in cohort.covariate_specs:
        column = cohort.covariates[spec.column]
        if spec.type != "numeric" or column.nunique(dropna=True) <= len("0123456789"):
            continue
        decimals = np.nanmax(_decimals(column.to_numpy(dtype=float)))
        if decimals <= _FEW_DECIMALS:
            scale = 10.0**decimals
            yield (
                f"{spec.column}: last digit",
                column.map(lambda v, k=scale: None if pd.isna(v) else f"{round(abs(v) * k) % 10}"),
            )


def few_valued(cohort: Cohort, most: int) -> Iterator[tuple[str, pd.Series]]:
    """Numeric covariates of three or more, but few values, which may be codes without an order."""
    for spec in cohort.covariate_specs:
        column = cohort.covariates[spec.column]
        if spec.type == "numeric" and 3 <= column.nunique(dropna=True) <= most:
            yield spec.column, column.map(lambda value: None if pd.isna(value) else f"{value:g}")


def gap_patterns(gaps: Mapping[str, np.ndarray]) -> pd.Series:
    """Which values each subject lacks, as one text."""
    varying = [values for values in gaps.values() if np.unique(values).size > 1]
    if len(varying) < 2:
        return pd.Series([], dtype=object)
    return pd.Series(["".join(str(int(bool(v))) for v in row) for row in np.column_stack(varying)], dtype=object)


def taken_together(columns: Mapping[str, np.ndarray], outcome: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions of each subject from two columns, or from all, by a model that was fitted without it.

    Two columns are taken as a sum, a product, a quotient and a distance (0 if both are equal), and as cells of a table:
    of their few values, of what is above the median, and of odd and even numbers, which finds an exclusive or.

    Args:
        columns: (n_subjects,) each, NaN where missing (the median is taken instead).
        outcome: (n_subjects,) without NaN.
    """
    filled = {name: _standardised(values) for name, values in columns.items()}
    names = [name for name, values in filled.items() if values.any()]
    found: dict[str, np.ndarray] = {}
    if len(names) <= _MOST_PAIRED:
        codes = {name: list(_codes(columns[name])) for name in names}
        for one, two in combinations(names, 2):
            a, b = filled[one], filled[two]
            found[f"{one} and {two} {SUM}"] = _left_out(np.column_stack([a, b]), outcome)
            found[f"{one} times {two}"] = _left_out(np.column_stack([a, b, a * b]), outcome)
            found[f"{one} minus {two}"] = _left_out(_distance(columns[one], columns[two]), outcome)
            if (ratio := _quotient(columns[one], columns[two])) is not None:
                found[f"{one} over {two}"] = _left_out(ratio, outcome)
            for k, (first, second) in enumerate(zip(codes[one], codes[two], strict=False)):
                how = "in cells" if k == 0 else "odd or even"
                found[f"{one} and {two} {how}"] = _left_out_of_cells(first, second, outcome)
    if len(names) > 2 and outcome.size >= _ROWS_PER_COLUMN * (len(names) + 1):
        found[f"all columns {SUM}"] = _left_out(np.column_stack([filled[name] for name in names]), outcome)
    return found


def _codes(values: np.ndarray) -> Iterator[np.ndarray]:
    """A column as few codes: its own values or which half of the column, and if these are integers, their parity."""
    known = np.isfinite(values)
    distinct = np.unique(values[known])
    few = distinct.size <= max(2, values.size // _ROWS_PER_VALUE)
    coded = values if few else (values > np.median(values[known])).astype(float)
    yield np.where(known, coded, np.nan)
    if not few and (distinct == np.round(distinct)).all():
        yield np.where(known, np.mod(values, 2.0), np.nan)
    else:
        yield np.where(known, coded, np.nan)


def _distance(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(n_subjects, 1) distance of two columns of one unit, standardised."""
    return _standardised(np.abs(one - two))[:, None]


def _quotient(one: np.ndarray, two: np.ndarray) -> np.ndarray | None:
    """(n_subjects, 3) logarithms of two positive columns, and their quotient, standardised; None of other columns."""
    known = np.isfinite(one) & np.isfinite(two)
    if not ((one[known] > 0) & (two[known] > 0)).all() or min(np.unique(v[known]).size for v in (one, two)) < 3:
        return None
    one, two = np.where(known, one, np.nan), np.where(known, two, np.nan)
    return np.column_stack([_standardised(values) for values in (np.log(one), np.log(two), one / two)])


def _left_out_of_cells(first: np.ndarray, second: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean outcome of the others with the same two codes; of all others where there are none."""
    codes = np.column_stack([np.nan_to_num(values, nan=np.inf) for values in (first, second)])
    cell = np.unique(codes, axis=0, return_inverse=True)[1].ravel()
    others = np.bincount(cell)[cell] - 1
    total = np.bincount(cell, weights=y)[cell] - y
    return np.asarray(np.where(others > 0, total / np.maximum(others, 1), (y.sum() - y) / (y.size - 1)))


def _standardised(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(values.shape)
    filled = np.where(known, values, np.median(values[known]))
    spread = float(filled.std())
    return (filled - filled.mean()) / spread if spread > 0 else np.zeros(values.shape)


def _left_out(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Leave-one-out predictions of least squares with an intercept."""
    design = np.column_stack([np.ones(len(x)), x])
    q, _ = np.linalg.qr(design)
    leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-6)
    residual = y - q @ (q.T @ y)
    return np.asarray(y - residual / (1 - leverage))
