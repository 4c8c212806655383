"""Edge transforms that need no fitting: log1p for counts, Fisher's z for correlations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.tables.saved import Findings
from connectome_tl.connectome.formats.stacks import released
from connectome_tl.settings.cohort import ConnectomeFiles

_OFTEN = 100  # subjects
_APPLY = {"log1p": np.log1p, "fisher_z": np.arctanh}
_WRONG = {
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

    log1p requires non-negative weights, and Fisher's z (artanh) correlations within (-1, 1).
    """
    used = [(m, kind) for m, kind in enumerate(spec.transforms) if kind != "none"]
    diagonal = np.arange(weights.shape[-1])
    wrong: dict[str, list[tuple[str, str]]] = {}
    for i, matrices in enumerate(weights):  # one subject at a time, since the array may be memory-mapped
        if i % _OFTEN == 0:
            released(weights)
        if spec.diagonal == "zero":
            matrices[:, diagonal, diagonal] = 0.0
        for m, kind in used:
            outside = matrices[m] < 0 if kind == "log1p" else np.abs(matrices[m]) >= 1
            if outside.any():
                a, b = np.argwhere(outside)[0].tolist()
                text = f"{matrices[m, a, b]:g} between {regions[a]} and {regions[b]}"
                wrong.setdefault(kind, []).append((ids[i], text))
            else:
                _APPLY[kind](matrices[m], out=matrices[m])
    for name, rows in wrong.items():
        what, remedy = _WRONG[name]
        findings.several(rows, what, file, remedy)
