"""Edge transforms that need no fitting: log1p for counts, Fisher's z for correlations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.findings import Findings, listed
from connectome_tl.connectome.formats.stacks import released
from connectome_tl.plurals import counted
from connectome_tl.settings.cohort import ConnectomeFiles

_OFTEN = 100  # subjects
_APPLY = {"log1p": np.log1p, "fisher_z": np.arctanh}
# Measures that are never negative.
_SIZES = re.compile(
    r"(?:^|[\W_])(?:n?counts?|streamlines?|nos|sift2?|fbc|length|len|distance|fa|md|ad|rd|(?:inv)?node_?vol(?:ume)?|density)"
    r"(?:$|[\W_])",
    re.IGNORECASE,
)
_FEW = 0.1  # of the weights that are not 0
_WRONG = {
    "none": (
        "a negative weight of a measure that is never negative",
        "If it is a code for a missing value, write n/a throughout the row and column of the region; if the values are "
        "of another measure, name it in `measure`.",
    ),
    "log1p": ("log1p of a negative weight", "For correlations, use fisher_z; for other weights, none."),
    "fisher_z": ("Fisher's z needs correlations inside (-1, 1)", "Counts take log1p; other weights none."),
}


def transformed(
    weights: np.ndarray,
    spec: ConnectomeFiles,
    ids: Sequence[str],
    regions: Sequence[str],
    file: str | Path,
    findings: Findings,
) -> None:
    """Transform (n_subjects, n_measures, n_regions, n_regions) in place; impossible values are listed.

    log1p requires non-negative weights, and Fisher's z (artanh) correlations within (-1, 1). Counts, lengths and the
    like are not negative without a transform, either; few negative whole numbers of other measures are noted.
    """
    named = tuple(zip(spec.transforms, spec.measures, strict=True))
    odd: list[str] = []
    diagonal = np.arange(weights.shape[-1])
    wrong: dict[str, list[tuple[str, str]]] = {}
    for i, matrices in enumerate(weights):  # one subject at a time, since the array may be memory-mapped
        if i % _OFTEN == 0:
            released(weights)
        if spec.diagonal == "zero":
            matrices[:, diagonal, diagonal] = 0.0
        for m, (kind, measure) in enumerate(named):
            outside = np.abs(matrices[m]) >= 1 if kind == "fisher_z" else matrices[m] < 0
            if kind == "none" and not _SIZES.search(measure):
                if outside.any() and _like_codes(matrices[m]):
                    odd.append(ids[i])
            elif outside.any():
                a, b = np.argwhere(outside)[0].tolist()
                text = f"{matrices[m, a, b]:g} between {regions[a]} and {regions[b]}"
                wrong.setdefault(kind, []).append((ids[i], text))
            elif kind != "none":
                _APPLY[kind](matrices[m], out=matrices[m])
    for name, rows in wrong.items():
        what, remedy = _WRONG[name]
        findings.several(rows, what, file, remedy)
    if odd:
        findings.notes.append(
            f"few negative weights among whole numbers, in {counted(len(odd), 'subject')} ({listed(odd, 4)}): if they "
            "are codes for missing values, correct them"
        )


def _like_codes(matrix: np.ndarray) -> bool:
    """Whether few of the weights are negative and all are whole numbers."""
    known = matrix[np.isfinite(matrix) & (matrix != 0)]
    return bool((known < 0).mean() <= _FEW and (known % 1 == 0).all())
