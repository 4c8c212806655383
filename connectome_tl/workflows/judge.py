"""From predictions to what the report says: scores, comparisons, tests, verdicts, warnings, methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.describing import describe
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.clinical.missing_outcomes import missingness_predictions
from connectome_tl.evaluation.clinical.recalibration import RecalibratedStudy, recalibration_results
from connectome_tl.evaluation.nested_cv import CrossValidation, tasks_of
from connectome_tl.evaluation.permutation.beyond_clinical import beyond_clinical
from connectome_tl.evaluation.permutation.tests import permutation_results
from connectome_tl.evaluation.scores.compare import comparisons
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.provenance import content_hash, versions
from connectome_tl.report.verdict import task_verdicts
from connectome_tl.settings.results import PermutationResult, RunRecord, Score
from connectome_tl.settings.statistics import Instability
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.stages import StudyCohorts
from connectome_tl.workflows.methods import methods_paragraph
from connectome_tl.workflows.records import clinical_record, prediction_records, training_curves


@dataclass(frozen=True, eq=False)
class Judgement:
    """Everything the report shows, and the provenance beside it."""

    record: RunRecord
    provenance: dict[str, Any]


def judge(
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    predictions: pd.DataFrame,
    permuted: np.ndarray | None,
    validation: CrossValidation,
    mended: RecalibratedStudy | None = None,
    refitted: Sequence[Instability] = (),
) -> Judgement:
    """Scores with intervals, paired differences, permutation tests and the verdicts by the fixed rule.

    Args:
        permuted: (1 + n_permutations, n_tasks) statistics, or None where none were asked for.
        mended: recalibrated predictions and what made them; None without inner folds.
        refitted: how risks move under bootstrap refits.
    """
    target = cohorts.target
    tasks = tasks_of(settings, cohorts)
    families = {i: str(name) for i, name in zip(target.ids, target.family, strict=True) if name}
    few = settings.splits.n_labelled
    found = scores(predictions, tasks, families, n_labelled=few)
    kfold = settings.splits.scheme == "kfold"
    differences = comparisons(predictions, tasks, families, kfold=kfold, n_labelled=few)
    tests = [*_tests(permuted, tasks), *beyond_clinical(settings, target, splits, tasks)]
    hashes = {name: cohort.rows_hash(cohort.ids) for name, cohort in cohorts.by_name().items()}
    provenance = {
        "settings": content_hash(settings.decisive),
        "configuration": content_hash(settings.nameless, hashes),
        "infants": content_hash(sorted(target.ids)),
        "split_plan": splits.hash,
        **{f"cohort {name}": value for name, value in hashes.items()},
    }
    roles = (("target", target), ("pool", cohorts.pool), ("source", cohorts.source))
    record = RunRecord(
        title=settings.title,
        tasks=tasks,
        cohorts=tuple(describe(cohort, role) for role, cohort in roles if cohort is not None),  # type: ignore[arg-type]
        verdicts=tuple(task_verdicts(tasks, found, differences, tests)),
        scores=tuple(found),
        comparisons=tuple(differences),
        permutations=tuple(tests),
        **vars(clinical_record(target, predictions, tasks)),
        recalibrated=()
        if mended is None
        else recalibration_results(predictions, mended, tasks, families, settings.recalibration),
        instability=tuple(refitted),
        missingness=_missingness(settings, target, splits, tasks, families),
        curves=training_curves(validation),
        predictions=prediction_records(predictions),
        methods=methods_paragraph(settings, cohorts, tasks),
        warnings=_warnings(settings, cohorts, tasks),
        transductive=settings.stages.adapt is not None and settings.stages.adapt.transductive,
        simulated=any(cohort.simulated for cohort in cohorts.by_name().values()),
        exploratory=any(cohort.exploratory for cohort in cohorts.by_name().values()),
        split_hash=splits.hash,
        provenance=provenance,
        versions=versions(),
    )
    sources = {name: cohort.sources for name, cohort in cohorts.by_name().items()}
    return Judgement(record, {**provenance, "inputs": sources, "seed": settings.seed, "versions": versions()})


def _missingness(
    settings: StudySettings, target: Cohort, splits: SplitPlan, tasks: Sequence[Task], families: dict[str, str]
) -> tuple[Score, ...]:
    """The leading score of a model that knows only which values are missing; empty where none is."""
    predictions = missingness_predictions(settings, target, splits, tasks)
    found = scores(predictions, tasks, families) if len(predictions) else []
    primary = {task.name: task.spec.primary for task in tasks}
    return tuple(score for score in found if score.metric == primary[score.task])


def _tests(permuted: np.ndarray | None, tasks: Sequence[Task]) -> list[PermutationResult]:
    if permuted is None:
        return []
    return permutation_results(
        permuted,
        tasks,
        "full",
        "Does the model predict better than chance?",
        "whole outcome rows moved between exchangeable blocks, the fine-tuning refitted each time, first repeat",
    )


def _warnings(settings: StudySettings, cohorts: StudyCohorts, tasks: Sequence[Task]) -> tuple[str, ...]:
    target = cohorts.target
    found = [f"{cohort.name}: {note}" for cohort in cohorts.by_name().values() for note in cohort.notes]
    for task in tasks:
        values = target.targets[task.name]
        if task.is_binary:
            smaller = int(min((values == 1).sum(), (values == 0).sum()))
            if smaller < 10:
                found.append(f"{task.name}: only {smaller} infants in the smaller class; every interval is wide.")
    if settings.stages.adapt is not None and settings.stages.adapt.transductive:
        found.append("Transductive: stage 2 saw the images of test infants (not their outcomes).")
    if not any(name for name in target.family):
        found.append("No family column: twins and siblings, if there are any, may stand on both sides of a fold.")
    if settings.splits.repeats == 1:
        found.append("One repeat only: scores also depend on how the folds happened to fall.")
    return tuple(found)
