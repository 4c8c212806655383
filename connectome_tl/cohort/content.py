"""Connectomes without information: empty, constant, or the same in all subjects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.matrices import Matrices
from connectome_tl.cohort.tables import Findings
from connectome_tl.connectome.formats.stacks import released
from connectome_tl.connectome.labels import listed
from connectome_tl.errors import Problem

_OFTEN = 100  # subjects after which the memory of a cohort that lies on disk is given back
_LEAST = 3  # regions from which a constant matrix is no chance


def check_content(matrices: Matrices, measures: Sequence[str], file: str | Path, findings: Findings) -> None:
    """Name subjects whose matrix holds nothing; refuse a cohort in which no matrix, or no difference, is left.

    Weights are looked at before any transform, off the diagonal, between regions that are there.
    """
    weights, ids = matrices.weights, matrices.ids
    empty: list[list[str]] = [[] for _ in measures]
    constant: list[list[str]] = [[] for _ in measures]
    alike = np.ones(len(measures), dtype=bool)
    first = np.array(weights[0]) if len(ids) else None
    for i, subject in enumerate(ids):
        if i % _OFTEN == 0:
            released(weights)
        there = np.flatnonzero(matrices.node_mask[i])
        pairs = ~np.eye(len(there), dtype=bool)
        for m in range(len(measures)):
            edges = weights[i, m][np.ix_(there, there)][pairs]
            if not edges.any():
                empty[m].append(subject)
            elif len(there) >= _LEAST and np.ptp(edges) == 0:
                constant[m].append(subject)
            alike[m] &= first is not None and np.array_equal(weights[i, m], first[m])
    for m, measure in enumerate(measures):
        of = f" of {measure!r}" if len(measures) > 1 else ""
        _report(empty[m], len(ids), f"a connectome{of} without a single edge", file, findings)
        _report(constant[m], len(ids), f"a connectome{of} in which all edges are equal", file, findings)
    if len(ids) > 1 and alike.all() and not findings.problems:
        what = f"all {len(ids)} subjects have the same connectome"
        findings.problems.append(Problem(what, file=file, remedy="Were the files copied? Nothing can be learned."))


def _report(subjects: list[str], n_subjects: int, what: str, file: str | Path, findings: Findings) -> None:
    if not subjects:
        return
    if len(subjects) == n_subjects:
        findings.problems.append(Problem(f"every subject has {what}", file=file, got=f"{n_subjects} subjects"))
    else:
        findings.notes.append(f"WARNING: {len(subjects)} of {n_subjects} subjects have {what}: {listed(subjects)}")
