"""Collect and run all fits of a study, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.baselines.design import VolumeFit
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.clinical.missing_outcomes import missingness_predictions
from connectome_tl.evaluation.clinical.recalibration import RecalibratedStudy, recalibrate_study
from connectome_tl.evaluation.clinical.site_only import site_predictions
from connectome_tl.evaluation.cost import PERMUTED, RESAMPLED
from connectome_tl.evaluation.images.age_gaps import AgeGaps, age_gaps
from connectome_tl.evaluation.instability import study_instability
from connectome_tl.evaluation.learning_curve import learning_curve
from connectome_tl.evaluation.nested_cv import CrossValidation, cross_validate
from connectome_tl.evaluation.permutation.baselines import baseline_statistics
from connectome_tl.evaluation.permutation.beyond_clinical import BeyondClinical, beyond_clinical
from connectome_tl.evaluation.permutation.labels import core_statistics, network_statistics
from connectome_tl.evaluation.permutation.tests import (
    FEWEST_ARRANGEMENTS,
    can_be_permuted,
    exchangeable_permutations,
    families_and_sites,
    n_arrangements,
)
from connectome_tl.plurals import counted as plural
from connectome_tl.settings.records.results import LearningPoint
from connectome_tl.settings.records.statistics import Instability
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.progress import Steps


@dataclass(frozen=True, eq=False)
class Found:
    """All fits and predictions of a study.

    Attributes:
        predictions: out-of-fold predictions of all models. validation: their fits.
        permuted: statistics under permutations by model, (1 + n_permutations, n_tasks), the observed first.
        beyond_clinical: tests of value beyond the covariates, or reasons for missing tests.
        recalibrated: recalibrated predictions and their calibrators; None without inner folds.
        instability: instability of risks over bootstrap refits.
        missingness: predictions of a model of missingness indicators.
        permuted_baselines: by baseline, its tasks and their statistics.
        curve: scores at smaller numbers of labelled subjects.
        gaps: brain-age gaps, or None. volume_fits: fits of the baselines on volumes.
    """

    predictions: pd.DataFrame
    validation: CrossValidation
    permuted: dict[str, np.ndarray]
    beyond_clinical: BeyondClinical
    recalibrated: RecalibratedStudy | None
    instability: Sequence[Instability]
    missingness: pd.DataFrame
    permuted_baselines: dict[str, tuple[tuple[Task, ...], np.ndarray]]
    curve: Sequence[LearningPoint]
    gaps: AgeGaps | None = None
    volume_fits: Sequence[VolumeFit] = ()


def fit_study(
    folder: Path,
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    steps: Steps,
    *,
    store_of: Callable[[Path], FitStore] = FitStore,
    validation: CrossValidation | None = None,
) -> Found:
    """Make all fits that the results of a study need.

    Args:
        store_of: creates the store of fits in a folder.
        validation: existing predictions and fits of the outer folds.
    """
    target, models = cohorts.target, folder / "models"
    if validation is None:
        with steps.counted("fitting models") as progress:
            validation = cross_validate(settings, cohorts, splits, store=store_of(models), progress=progress)
    with steps.step("baselines"):
        volume_fits: list[VolumeFit] = []
        tables = [validation.predictions, baseline_predictions(settings, cohorts, splits, tasks, volume_fits)]
        tables.append(site_predictions(settings, target, splits, tasks))
        predictions = pd.concat([table for table in tables if len(table)], ignore_index=True)
        missingness = missingness_predictions(settings, target, splits, tasks)
    recalibrated = None
    if settings.splits.inner:
        with steps.step("recalibration"):
            recalibrated = recalibrate_study(settings, cohorts, splits, predictions, validation)
    with steps.counted("bootstrap refits") as progress:
        refits = replace(store_of(models / RESAMPLED), below=store_of(models))
        refitted = study_instability(settings, cohorts, splits, tasks, store=refits, progress=progress)
    permuted = _permute(settings, cohorts, splits, tasks, models, steps.counted, store_of)
    curve: list[LearningPoint] = []
    if settings.learning_curve:
        with steps.counted("learning curve") as progress:
            curve = learning_curve(settings, cohorts, splits, tasks, store=store_of(models), progress=progress)
    baselines = _permute_baselines(settings, cohorts, splits, tasks, steps.counted)
    with steps.step("value beyond clinical covariates"):
        beyond = beyond_clinical(settings, target, splits, tasks)
    gaps = age_gaps(settings, target, validation, volume_fits)
    return Found(
        predictions,
        validation,
        permuted,
        beyond,
        recalibrated,
        refitted,
        missingness,
        baselines,
        curve,
        gaps,
        volume_fits,
    )


def _permute(
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    models: Path,
    counted: Callable[[str], AbstractContextManager[Progress]],
    store_of: Callable[[Path], FitStore],
) -> dict[str, np.ndarray]:
    """Statistics of observed and permuted outcomes by model; empty without permutations or exchangeable subjects."""
    found: dict[str, np.ndarray] = {}
    if not can_be_permuted(cohorts.target):
        return found
    asked = {
        "core": (settings.permutations, core_statistics),
        "full": (settings.network_permutations, network_statistics),
    }
    for model, (n_permutations, statistics) in asked.items():
        if n_permutations:
            moves = label_moves(settings, cohorts.target, n_permutations)
            with counted(f"permutations of the {model} model") as progress:
                store = store_of(models)
                if model == "full":
                    store = replace(store_of(models / PERMUTED), below=store)
                found[model] = statistics(settings, cohorts, splits, tasks, moves, store=store, progress=progress)
    return found


def _permute_baselines(
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    counted: Callable[[str], AbstractContextManager[Progress]],
) -> dict[str, tuple[tuple[Task, ...], np.ndarray]]:
    if not settings.baseline_permutations or not can_be_permuted(cohorts.target):
        return {}
    moves = label_moves(settings, cohorts.target, settings.baseline_permutations)
    with counted("permutations of the baselines") as progress:
        return baseline_statistics(settings, cohorts, splits, tasks, moves, progress=progress)


def label_moves(settings: StudySettings, target: Cohort, n_permutations: int) -> np.ndarray:
    """Permutations of outcome rows within families and sites, (n_permutations, n_subjects)."""
    return exchangeable_permutations(target.ids, n_permutations, settings.seed, *families_and_sites(target))


def permutation_notes(settings: StudySettings, target: Cohort, tasks: Sequence[Task]) -> tuple[str, ...]:
    """Requested permutation tests that are left out, or that are too coarse to reach p = 0.05 for a single outcome."""
    names = ("permutations", "baseline_permutations", "network_permutations")
    asked = {name: getattr(settings, name) for name in names if getattr(settings, name)}
    if not asked:
        return ()
    possible = n_arrangements(target.ids, *families_and_sites(target))
    among = "families of equal size" + (" in the same site" if any(target.site) else "")
    if possible < FEWEST_ARRANGEMENTS:
        drop = ", or drop `site:` from cohort.yaml" if any(target.site) else ""
        return (
            f"No permutation tests: outcomes are exchanged between {among}, which leaves "
            f"{plural(possible, 'arrangement')}; {FEWEST_ARRANGEMENTS} are needed. Set `{next(iter(asked))}: 0`{drop}.",
        )
    needed = FEWEST_ARRANGEMENTS * len(tasks)
    over = f", corrected over {plural(len(tasks), 'outcome')}" if len(tasks) > 1 else ""
    notes = [
        f"{name}: {n} cannot give p = 0.05 for one outcome{over}; {needed - 1} or more can."
        for name, n in asked.items()
        if n + 1 < needed
    ]
    if possible < needed:
        notes.append(f"{possible} arrangements of the outcomes between {among} cannot give p = 0.05{over}.")
    return tuple(notes)
