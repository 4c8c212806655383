"""Edge transforms that need no fitting: log1p for counts, Fisher's z for correlations; the diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.tables import Findings
from connectome_tl.settings.cohort import ConnectomeFiles


def transformed(
    weights: np.ndarray,
    spec: ConnectomeFiles,
    ids: Sequence[str],
    regions: Sequence[str],
    file: str | Path,
    findings: Findings,
) -> None:
    """Transform (n_subjects, n_measures, n_regions, n_regions) in place; impossible values are listed.

    log1p needs weights of 0 and more, Fisher's z (artanh) correlations inside (-1, 1).
    """
    if spec.diagonal == "zero":
        diagonal = np.arange(weights.shape[-1])
        weights[:, :, diagonal, diagonal] = 0.0
    if spec.transform == "none" or weights.size == 0:
        return
    if spec.transform == "log1p":
        wrong = weights < 0
        what, remedy = "log1p of a negative weight", "Correlations take fisher_z; other weights none."
    else:
        wrong = np.abs(weights) >= 1
        what, remedy = "Fisher's z needs correlations inside (-1, 1)", "Counts take log1p; other weights none."
    if wrong.any():
        rows = []
        for i in np.flatnonzero(wrong.any(axis=(1, 2, 3))).tolist():
            m, a, b = np.argwhere(wrong[i])[0]
            rows.append((ids[i], f"{weights[i, m, a, b]:g} between {regions[a]} and {regions[b]}"))
        findings.several(rows, what, file, remedy)
        return
    if spec.transform == "log1p":
        np.log1p(weights, out=weights)
    else:
        np.arctanh(weights, out=weights)
