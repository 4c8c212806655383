"""Corrupt rows of a cohort, to test that fits do not use their test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort


def wrecked(cohort: Cohort, ids: Sequence[str]) -> Cohort:
    """The cohort with all measurements of these subjects replaced by those of another subject or absurd numbers.

    Edges and regional measures are replaced by those of one other subject, so that correlations remain valid; numbers
    remain positive, so that logarithms are defined.
    """
    rows = cohort.positions([i for i in ids if i in set(cohort.ids)])
    if not rows.size:
        return cohort
    covariates = cohort.covariates.copy()
    for column in covariates.columns:
        if pd.api.types.is_numeric_dtype(covariates[column]):
            values = covariates[column].to_numpy(dtype=float).copy()
            values[rows] = 7.0 + 2.5 * np.abs(values[rows])
            covariates[column] = values
    age = np.array(cohort.age, dtype=float)
    age[rows] = 7.0 + 2.5 * np.abs(age[rows])
    others = np.setdiff1d(np.arange(cohort.n_subjects), rows)
    donor = int(others[0]) if others.size else int(rows[0])

    def given(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed[rows] = array[donor]
        return changed

    return replace(
        other_outcomes(cohort, rows),
        covariates=covariates,
        age=age,
        weights=given(cohort.weights),
        node_mask=given(cohort.node_mask),
        region_features=None if cohort.region_features is None else given(cohort.region_features),
    )


def other_outcomes(cohort: Cohort, rows: np.ndarray) -> Cohort:
    """The cohort with other outcomes in these rows (row numbers)."""
    targets, kinds = cohort.targets.copy(), {task.name: task for task in cohort.tasks}
    for column in targets.columns:
        values = targets[column].to_numpy(dtype=float).copy()
        task = kinds.get(str(column))
        if task is not None and task.spec.by_level:
            values[rows] = (values[rows] + 1) % task.n_levels
        elif set(np.unique(values[np.isfinite(values)])) <= {0.0, 1.0}:
            values[rows] = 1.0 - values[rows]
        else:
            values[rows] = -50.0 - values[rows]
        targets[column] = values
    return replace(cohort, targets=targets)
