"""Edge transforms that need no fitting: log1p for counts, Fisher's z for correlations; the diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.tables import Findings
from connectome_tl.connectome.formats.stacks import released
from connectome_tl.settings.cohort import ConnectomeFiles

_OFTEN = 100  # subjects


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
    positive = spec.transform == "log1p"
    what = "log1p of a negative weight" if positive else "Fisher's z needs correlations inside (-1, 1)"
    remedy = f"{'Correlations take fisher_z' if positive else 'Counts take log1p'}; other weights none."
    diagonal = np.arange(weights.shape[-1])
    rows: list[tuple[str, str]] = []
    for i, matrices in enumerate(weights):  # one subject at a time: a large cohort may lie on disk
        if i % _OFTEN == 0:
            released(weights)
        if spec.diagonal == "zero":
            matrices[:, diagonal, diagonal] = 0.0
        if spec.transform == "none":
            continue
        wrong = matrices < 0 if positive else np.abs(matrices) >= 1
        if wrong.any():
            m, a, b = np.argwhere(wrong)[0].tolist()
            rows.append((ids[i], f"{matrices[m, a, b]:g} between {regions[a]} and {regions[b]}"))
        elif positive:
            np.log1p(matrices, out=matrices)
        else:
            np.arctanh(matrices, out=matrices)
    findings.several(rows, what, file, remedy)
