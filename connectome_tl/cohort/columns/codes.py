"""Codes for a missing value among numbers, such as -9 and 999."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import Marks, fold, whole
from connectome_tl.plurals import counted

_WHOLE_CODES = (
    *(7, 8, 9, 66, 77, 88, 555, 666, 777, 888, 6666, 7777, 8888),
    *(10**k - i for k in (2, 3, 4, 5, 6) for i in range(1, 6)),
)  # 95 to 99, 995 to 999, ...
CODES = (
    *(f"-{code}" for code in _WHOLE_CODES),
    *(str(code) for code in _WHOLE_CODES if code > 99 or code in (77, 88, 99)),
    *("-9.9", "-99.9", "-999.9", "99.9", "999.9"),
)
_CODE_VALUES = np.array([float(code) for code in CODES])
_SMALL_CODES = (8.0, 9.0)  # codes only where the others are at most 6
_FEW, _FAR = 3, 10.0  # number of other values, and distance in their range, from which on a value is far
_IF_MISSING = "if it means missing, set missing: [{code}] for this column"
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?")


def note_removed_values(cells: Sequence[str], values: np.ndarray, name: str, marks: Marks, findings: Findings) -> None:
    """Note codes of all tables that may be values of this column: numbers within the range of the others."""
    codes = {whole(fold(code)) for code in marks.missing} - {whole(fold(code)) for code in marks.of_column}
    known = values[np.isfinite(values)]
    removed = Counter(code for cell in cells if cell and (code := whole(fold(cell))) in codes)
    for code, n in removed.items():
        if known.size and _NUMBER.fullmatch(code) and known.min() < float(code) < known.max():
            findings.notes.append(
                f"{name}: {code} in {counted(n, 'row')} was read as missing, as in all tables, and is between other "
                f"values; if it is a value here, set missing: [{code}] for the columns where it is a code, not for the "
                "cohort"
            )


def without_codes(values: np.ndarray, name: str, findings: Findings) -> np.ndarray:
    """Replace -9, 999 and similar codes by NaN if they are far from all other values."""
    is_code = np.isin(values, _CODE_VALUES)
    rest = values[~is_code & ~np.isnan(values)]
    small = np.isin(values, _SMALL_CODES)
    others = values[~small & ~is_code & ~np.isnan(values)]
    if small.any() and others.size and others.min() >= 0 and others.max() <= 6 and (others % 1 == 0).all():
        said = ", ".join(f"{value:g}" for value in np.unique(values[small]))
        findings.notes.append(f"{name}: {said} above values up to {others.max():g}; {_IF_MISSING.format(code=said)}")
    below = np.isin(values, [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0])
    if below.any() and (values[~below & ~is_code & ~np.isnan(values)] >= 0).all():
        lowest = ", ".join(f"{value:g}" for value in np.unique(values[below]))
        findings.notes.append(f"{name}: {lowest} below values that are 0 or more; {_IF_MISSING.format(code=lowest)}")
    for value in {rest.min(), rest.max()} if rest.size else set():
        others = rest[rest != value]
        if others.size >= _FEW and np.abs(others - value).min() > _FAR * np.ptp(others) > 0:
            declared = _IF_MISSING.format(code=f"{value:.15g}")
            findings.notes.append(f"{name}: {value:g} is far from all other values; {declared}, or correct it")
    if not is_code.any() or rest.size == 0:
        return values
    low, high = float(rest.min()), float(rest.max())
    usual = abs(float(np.median(rest)))
    for code in np.unique(values[is_code]):
        # 77 or 99 may be values if the others are of similar size; 999 rarely is.
        reach = max(high - low, 1e-12, usual / 2 if 0 < code < 100 else 0.0)
        outside = (code < 0 <= low) or code < low - 2 * reach or code > high + 2 * reach
        hits = values == code
        if outside:
            findings.notes.append(f"{name}: {code:g} in {counted(int(hits.sum()), 'row')} was read as missing")
            values = np.where(hits, np.nan, values)
        elif code >= 555:
            findings.notes.append(
                f"{name}: {code:g} in {counted(int(hits.sum()), 'row')} was read as a value; "
                f"{_IF_MISSING.format(code=f'{code:g}')}"
            )
    return values
