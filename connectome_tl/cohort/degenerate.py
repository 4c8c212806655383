"""What cannot teach a model anything: connectomes that are constant or all the same, outcomes of a single class."""

from __future__ import annotations

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.findings import listed
from connectome_tl.errors import Problem
from connectome_tl.settings.results import QualityFinding


def nothing_to_learn(cohort: Cohort) -> list[Problem]:
    """Problems where no connectome is left that differs from another, or that has edges that differ.

    A cohort of a single subject may be one to predict for; its connectome must not be constant.
    """
    if not cohort.n_regions or not cohort.n_subjects:
        return []
    if all(_is_constant(cohort, i) for i in range(cohort.n_subjects)):
        empty = not any(cohort.weights[i].any() for i in range(cohort.n_subjects))
        what = "no connectome has a single edge" if empty else "in every connectome all edges are the same"
        return [Problem(what, got=f"{cohort.n_subjects} subjects", remedy="Look at the matrices and their measure.")]
    if cohort.n_subjects > 1 and all(
        np.array_equal(cohort.weights[0], cohort.weights[i]) for i in range(1, cohort.n_subjects)
    ):
        return [
            Problem(
                "all connectomes are the same",
                got=f"{cohort.n_subjects} subjects",
                remedy="Was one matrix copied to all of them?",
            )
        ]
    return []


def degenerate(cohort: Cohort) -> list[QualityFinding]:
    """What a model cannot learn from: errors first for connectomes, then for outcomes and covariates."""
    found: list[QualityFinding] = []
    if cohort.n_regions:
        flat = [subject for i, subject in enumerate(cohort.ids) if _is_constant(cohort, i)]
        if flat:
            text = f"{len(flat)} connectomes are empty or constant: {listed(flat, 6)}"
            found.append(QualityFinding(level="error", check="constant", message=text))
    for task in cohort.tasks:
        values = cohort.targets[task.name].to_numpy(dtype=float)
        kinds = np.unique(values[~np.isnan(values)])
        if kinds.size < 2:
            text = "no value is known" if not kinds.size else f"{_value(kinds[0], task.is_binary)} in every subject"
            message = f"outcome {task.label}: {text}; it cannot be learned or tested"
            found.append(QualityFinding(level="error", check="one class", message=message))
    for spec in cohort.covariate_specs:
        column = cohort.covariates[spec.column].dropna()
        if column.nunique() < 2:
            text = "no value is known" if column.empty else "the same in every subject"
            message = f"covariate {spec.column}: {text}"
            found.append(QualityFinding(level="warning", check="constant", message=message))
    return found


def _value(value: float, is_binary: bool) -> str:
    return ("positive" if value else "negative") if is_binary else f"{value:g}"


def _is_constant(cohort: Cohort, row: int) -> bool:
    """No two edges of this subject differ, in any measure, over the regions it has."""
    there = cohort.node_mask[row]
    edges = cohort.weights[row][:, there][:, :, there]
    edges = edges[:, ~np.eye(edges.shape[1], dtype=bool)]
    return edges.size == 0 or bool((edges == edges[:, :1]).all())
