"""The test of value beyond clinical covariates, for a study's target cohort and folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.errors import DataError
from connectome_tl.evaluation.permutation.added_value import ResidualEdges, added_value_statistics
from connectome_tl.evaluation.permutation.tests import exchangeable_permutations, permutation_results
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.results import PermutationResult
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task

QUESTION = "Does the connectome add to clinical covariates?"


def beyond_clinical(
    study: StudySettings, cohort: Cohort, splits: SplitPlan, tasks: Sequence[Task]
) -> list[PermutationResult]:
    """Ridge on what the connectome holds beyond the covariates, that rest permuted between subjects.

    Subjects with every clinical covariate take part (nothing is imputed), on the first repeat's folds.
    Empty where no permutation is asked for, there are no covariates, no connectomes, or too few subjects to tell.
    A multiclass outcome is left out: the test adds to one score, and it has one per class.
    """
    specs = clinical_specs(cohort.covariate_specs)
    tasks = [task for task in tasks if task.kind != "multiclass"]
    if not study.permutations or not specs or not tasks or not cohort.regions:
        return []
    complete = cohort.covariates[[spec.column for spec in specs]].notna().all(axis=1).to_numpy()
    ids = tuple(subject for subject, whole in zip(cohort.ids, complete, strict=True) if whole)
    some = cohort.take(ids)
    place = {subject: i for i, subject in enumerate(ids)}
    folds = []
    for fold in splits.repeats[0]:
        train, test = (np.array([place[i] for i in part if i in place], dtype=int) for part in (fold.train, fold.test))
        if len(train) and len(test):
            folds.append((train, test))
    families = dict(zip(ids, (str(name) for name in some.family), strict=True))
    numbers = _numbers(some.covariates, specs)
    alone = np.array([not name or (some.family == name).sum() == 1 for name in some.family])
    try:
        split = ResidualEdges.of(_edges(some), numbers, alone)
        moves = exchangeable_permutations([ids[i] for i in split.kept], study.permutations, study.seed, families)
        statistics = added_value_statistics(folds, split, numbers, _targets(some, tasks), tasks, moves)
    except DataError:
        return []  # too few subjects for the covariates, or of an outcome in a fold: nothing can be said
    method = (
        f"ridge; what the covariates leave of each edge (Theil's residuals) moved between subjects, everything "
        f"refitted; first repeat, {len(ids)} subjects with all covariates"
    )
    return permutation_results(statistics, tasks, "ridge", QUESTION, method)


def _targets(cohort: Cohort, tasks: Sequence[Task]) -> np.ndarray:
    return cohort.targets[[task.name for task in tasks]].to_numpy(float)


def _edges(cohort: Cohort) -> np.ndarray:
    """(n_subjects, n_edges) of all measures, NaN where a region is missing."""
    rows, columns = upper_indices(cohort.n_regions)
    present = (cohort.node_mask[:, rows] & cohort.node_mask[:, columns])[:, None]
    edges = np.where(present, cohort.weights[:, :, rows, columns].astype(float), np.nan)
    return edges.reshape(cohort.n_subjects, -1)


def _numbers(table: pd.DataFrame, specs: Sequence[Covariate]) -> np.ndarray:
    """(n_subjects, n_columns): numeric columns as they are, categories as 0 and 1; nothing is fitted."""
    columns = []
    for spec in specs:
        if spec.type == "numeric":
            columns.append(table[spec.column].to_numpy(dtype=float))
        else:
            text = table[spec.column].astype("string")
            columns += [(text == level).to_numpy(dtype=float) for level in sorted(text.unique())[1:]]
    return np.column_stack(columns)
