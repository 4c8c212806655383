"""Checks of regional measures: regions without a column, zeros of failed surfaces, subjects in another unit."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from connectome_tl.cohort.findings import listed
from connectome_tl.plurals import counted

# Measures that are never 0 for a region that exists, unless they are of something that may be absent or of a change.
_SIZES = re.compile(r"thick|area|vol|surf|(?:^|[_\W])(?:ct|sa|gm|gmv|cv)(?:$|[_\W])", re.IGNORECASE)
_MAY_BE_ABSENT = re.compile(
    r"lesion|injur|infarct|stroke|bleed|ha?em[ao]|cyst|tumou?r|hyperint|wmh|dehsi|edema|oedema|calcif|plaque"
    r"|change|difference|delta|gap|asym|resid|score|dev|rate|load|count|lost|loss",
    re.IGNORECASE,
)
_FACTOR = 5.0  # between the medians of subject and cohort; within a cohort sizes differ by less
_SHOWN = 6


def checked_measures(
    values: np.ndarray, ids: Sequence[str], regions: Sequence[str], names: Sequence[str], where: str, notes: list[str]
) -> np.ndarray:
    """Measures (n_subjects, n_regions, n_features) without the zeros of sizes, which become NaN; adds notes."""
    values = values.copy()
    for k, name in enumerate(names):
        one = values[:, :, k]
        zero = one == 0
        if zero.any() and not (one < 0).any() and _SIZES.search(name) and not _MAY_BE_ABSENT.search(name):
            one[zero] = np.nan
            at = [f"{ids[i]} {regions[r]}" for i, r in np.argwhere(zero)]
            notes.append(f"{where}: {name} of 0 was read as missing: {listed(at, _SHOWN)}")
        known = ~np.isnan(one)
        absent = [region for region, any_ in zip(regions, known.any(axis=0), strict=True) if not any_]
        if absent and known.any():
            notes.append(f"{where}: {name} of {listed(absent, _SHOWN)} is unknown in every subject")
        if not known.any() or (one[known] < 0).any():
            continue
        middle = np.array([np.median(row[there]) if there.any() else np.nan for row, there in zip(one, known)])
        usual = float(np.nanmedian(middle))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = middle / usual
        far = np.flatnonzero((ratio > _FACTOR) | (ratio < 1 / _FACTOR)).tolist()
        if far:
            at = [f"{ids[i]} {middle[i]:.3g}" for i in far]
            notes.append(
                f"{where}: {name} of {counted(len(far), 'subject')} may have another unit: "
                f"median {listed(at, _SHOWN)}, and {usual:.3g} in the cohort"
            )
    return values
