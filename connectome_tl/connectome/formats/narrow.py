"""Matrices whose number type was too small: counts that wrapped, and infinite numbers in half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError

_NEAR = 0.9  # share of the largest number of a type that values of another origin hardly reach
_HALF = 0.5  # the same for values with negative ones among them, which counts that wrapped have
_NARROW = 2  # bytes


def refuse_narrow(values: np.ndarray, path: str | Path) -> None:
    """Refuse integers of one or two bytes up to the limit of their type, and infinite numbers of two bytes.

    The diagonal of square matrices is not used, and not looked at.

    Args:
        values: (..., n_regions, n_regions) or (..., n_values), as stored.
    """
    if values.dtype.itemsize > _NARROW or values.dtype.kind not in "iuf" or not values.size:
        return
    if values.ndim > 1 and values.shape[-1] == values.shape[-2]:
        values = values[..., ~np.eye(values.shape[-1], dtype=bool)]
    low, high = values.min(initial=0), values.max(initial=0)
    is_integer = values.dtype.kind in "iu"
    largest = np.iinfo(values.dtype).max if is_integer else np.finfo(values.dtype).max
    if is_integer and max(-int(low), int(high)) >= (_HALF if low < 0 else _NEAR) * largest:
        raise DataError(
            f"the numbers are stored as {values.dtype.name} and reach its limits, so that larger ones may have wrapped",
            file=path,
            expected=f"numbers well within {np.iinfo(values.dtype).min} to {largest}",
            got=f"{low} to {high}",
            remedy="Save the matrix again from the program that computed it, as int32 or float32. If no number was "
            "larger, convert it to int32.",
        )
    if not is_integer and (np.isinf(low) or np.isinf(high)):
        raise DataError(
            f"infinite numbers, stored as {values.dtype.name}, whose largest is {largest:g}",
            file=path,
            remedy="Save the matrix again as float32.",
        )
