"""Find data that cannot be learned from: constant or identical connectomes, outcomes of a single class."""

from __future__ import annotations

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.findings import listed
from connectome_tl.cohort.learnable import constant_words, is_constant
from connectome_tl.errors import Problem
from connectome_tl.plurals import counted
from connectome_tl.settings.records.results import QualityFinding


def nothing_to_learn(cohort: Cohort) -> list[Problem]:
    """Problems if all connectomes are identical or constant.

    A single subject is allowed (for prediction) if its connectome is not constant.
    """
    if not cohort.n_regions or not cohort.n_subjects:
        return []
    rows = _with_connectome(cohort)
    if all(_is_constant(cohort, i) for i in rows):
        empty = not any(cohort.weights[i].any() for i in rows)
        what = "no connectome has a single edge" if empty else "in every connectome all edges are the same"
        n = len(rows) or cohort.n_subjects
        return [Problem(what, got=counted(n, "subject"), remedy="Look at the matrices and their measure.")]
    if len(rows) > 1 and all(np.array_equal(cohort.weights[rows[0]], cohort.weights[i]) for i in rows[1:]):
        return [
            Problem(
                "all connectomes are the same",
                got=counted(len(rows), "subject"),
                remedy="Was one matrix copied to all of them?",
            )
        ]
    return []


def degenerate(cohort: Cohort) -> list[QualityFinding]:
    """Findings on degenerate data: connectomes first, then outcomes and covariates."""
    found: list[QualityFinding] = []
    if cohort.n_regions:
        flat = [cohort.ids[i] for i in _with_connectome(cohort) if _is_constant(cohort, i)]
        if flat:
            text = f"{counted(len(flat), 'connectome is', 'connectomes are')} empty or constant: {listed(flat, 6)}"
            found.append(QualityFinding(level="error", check="constant", message=text))
        bare = [cohort.ids[i] for i in np.flatnonzero(~cohort.node_mask.any(axis=1))]
        if bare:
            text = f"{counted(len(bare), 'subject has', 'subjects have')} no connectome: {listed(bare, 6)}"
            found.append(QualityFinding(level="warning", check="no connectome", message=text))
    for task in cohort.tasks:
        values = cohort.targets[task.name].to_numpy(dtype=float)
        if is_constant(values):
            message = f"outcome {task.label}: {constant_words(task, values)}; it cannot be learned or tested"
            found.append(QualityFinding(level="error", check="one class", message=message))
    for spec in cohort.covariate_specs:
        column = cohort.covariates[spec.column].dropna()
        if column.nunique() < 2:
            text = "no value is known" if column.empty else "the same in every subject"
            message = f"covariate {spec.column}: {text}"
            found.append(QualityFinding(level="warning", check="constant", message=message))
    return found


def _with_connectome(cohort: Cohort) -> list[int]:
    """Rows of subjects with at least one region."""
    return [int(i) for i in np.flatnonzero(cohort.node_mask.any(axis=1))]


def _is_constant(cohort: Cohort, row: int) -> bool:
    """Whether all edges of a subject are equal, in every measure, over its existing regions."""
    there = cohort.node_mask[row]
    edges = cohort.weights[row][:, there][:, :, there]
    edges = edges[:, ~np.eye(edges.shape[1], dtype=bool)]
    return edges.size == 0 or bool((edges == edges[:, :1]).all())
