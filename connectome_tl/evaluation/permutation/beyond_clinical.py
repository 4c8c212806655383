"""Run the test of value beyond clinical covariates on a study's target cohort and folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.errors import ConnectomeTLError, DataError
from connectome_tl.evaluation.permutation.added_value import FoldEdges, ResidualEdges, added_value_statistics
from connectome_tl.evaluation.permutation.covariate_effects import CovariateEffects, covariate_effects
from connectome_tl.evaluation.permutation.tests import (
    exchangeable_permutations,
    families_and_sites,
    permutation_results,
)
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.features.steps import fit_steps
from connectome_tl.plurals import counted
from connectome_tl.settings.records.results import PermutationResult
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.core_stage import CONNECTOME_PRESENCE, blocks_of

QUESTION = "Does the connectome add to clinical covariates?"


@dataclass(frozen=True)
class BeyondClinical:
    """Results per outcome, and reasons for requested tests without a result."""

    results: tuple[PermutationResult, ...] = ()
    notes: tuple[str, ...] = ()


def beyond_clinical(study: StudySettings, cohort: Cohort, splits: SplitPlan, tasks: Sequence[Task]) -> BeyondClinical:
    """Test the value of the connectome beyond the covariates, with its residuals permuted between subjects.

    Edges and regional measures are those of the models: site effects, confounds and edge selection are fitted on
    the training rows of each fold. Covariate effects are linear, nonlinear and interactions with age
    (`covariate_effects`). Permutations are restricted by families and sites. Only subjects with all clinical
    covariates and, if ages are known, the age at scan are included (nothing is imputed), on the folds of the first
    repeat.

    The result is empty if no permutations are requested, or without covariates or connectomes.
    """
    specs = clinical_specs(cohort.covariate_specs)
    if not study.permutations or not specs or not cohort.regions:
        return BeyondClinical()
    complete = cohort.covariates[[spec.column for spec in specs]].notna().all(axis=1).to_numpy()
    aged = np.isfinite(np.asarray(cohort.age, dtype=float))
    complete = complete & (aged | ~aged.any())
    ids = tuple(subject for subject, whole in zip(cohort.ids, complete, strict=True) if whole)
    some = cohort.take(ids)
    able, notes = _able(some, splits, tasks)
    try:
        if not able:
            return BeyondClinical(notes=notes)
        effects = covariate_effects(some, specs)
        return BeyondClinical(_tested(study, cohort, some, splits, able, effects), notes)
    except ConnectomeTLError as error:
        return BeyondClinical(notes=(*notes, f"Value beyond clinical covariates was not tested: {error}"))


def _tested(
    study: StudySettings,
    cohort: Cohort,
    some: Cohort,
    splits: SplitPlan,
    tasks: Sequence[Task],
    effects: CovariateEffects,
) -> tuple[PermutationResult, ...]:
    alone = np.array([not name or (some.family == name).sum() == 1 for name in some.family])
    folds = []
    for fold in splits.repeats[0]:
        train, test = _positions(some, fold)
        if len(train) and len(test):
            edges = _rows(study, cohort, fold, some)
            folds.append(FoldEdges(train, test, ResidualEdges.of(edges, effects.columns, alone)))
    if not folds:
        raise DataError("no fold has training and test subjects with every clinical covariate")
    kept = [some.ids[i] for i in folds[0].split.kept]
    families, sites = families_and_sites(some)
    moves = exchangeable_permutations(kept, study.permutations, study.seed, families, sites)
    targets = some.targets[[task.name for task in tasks]].to_numpy(float)
    statistics = added_value_statistics(folds, effects.columns, targets, tasks, moves)
    method = (
        "ridge on the models' own edges; residuals of each edge on the covariates (Theil's) permuted among "
        f"subjects{' of a site' if sites else ''}, everything refitted; removed: {effects.words}; first repeat, "
        f"{counted(len(some.ids), 'subject')} with all covariates"
        + (" and age at scan" if np.isfinite(np.asarray(some.age, dtype=float)).all() else "")
    )
    return tuple(permutation_results(statistics, tasks, "ridge", QUESTION, method))


def _rows(study: StudySettings, cohort: Cohort, fold: Fold, some: Cohort) -> np.ndarray:
    """Edges and regional measures of all subjects, (n_subjects, n_columns), after steps fitted on the training rows.

    Missing values are replaced by the training mean, and there is no indicator of missing connectomes, since the
    test is about the information in connectomes. Subjects with missing covariates are used to fit the steps.
    """
    features = fit_steps(cohort, fold.train, study.features, ("connectome",))
    fold.admit("value beyond clinical covariates", features.ids)
    blocks = blocks_of(features, None, some, some.ids)
    return np.concatenate([block.values for block in blocks if block.name != CONNECTOME_PRESENCE], axis=1)


def _able(cohort: Cohort, splits: SplitPlan, tasks: Sequence[Task]) -> tuple[list[Task], tuple[str, ...]]:
    """Outcomes that can be fitted in every fold, and a note for each other one."""
    able, notes = [], []
    for task in tasks:
        y = cohort.targets[task.name].to_numpy(float)
        known = [y[_positions(cohort, fold)[0]] for fold in splits.repeats[0]]
        levels = [np.unique(one[np.isfinite(one)]).size for one in known]
        if min(levels, default=0) >= 2:
            able.append(task)
        else:
            notes.append(
                f"{task.name}: value beyond clinical covariates was not tested (a fold has no two different outcomes "
                "among its training subjects with every covariate)."
            )
    return able, tuple(notes)


def _positions(cohort: Cohort, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    place = {subject: i for i, subject in enumerate(cohort.ids)}
    train, test = (np.array([place[i] for i in part if i in place], dtype=int) for part in (fold.train, fold.test))
    return train, test
