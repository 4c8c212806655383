"""External validation: score the predictions of a bundle on another cohort."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from connectome_tl.bundle.bundle import Bundle
from connectome_tl.bundle.evidence import released_scores
from connectome_tl.bundle.individual import prediction_table
from connectome_tl.bundle.limits import shifts
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.findings import is_benign
from connectome_tl.cohort.people import people_of
from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.evaluation.clinical.calibration import calibration_curve, logit
from connectome_tl.evaluation.clinical.net_benefit import decision_curve
from connectome_tl.evaluation.scores.metrics import task_scores
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold
from connectome_tl.provenance import content_hash, versions
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.records.bundles import (
    SMALLEST_COUNT,
    BundledTask,
    PassedTask,
    ShiftRow,
    ValidatedTask,
    Validation,
    ValidationRecord,
    count_text,
)
from connectome_tl.settings.records.scores import Score
from connectome_tl.tasks import Task

_LARGEST_SHIFT = 20.0
_DEFINITION = ("kind", "unit", "operator", "cutoff", "levels", "edition")


def validate_bundle(bundle: Bundle, cohort: Cohort) -> ValidationRecord:
    """Scores with intervals, recalibration in the large, decision curves, and the cohort compared with the limits.

    Args:
        cohort: cohort with outcomes, aligned to the bundle (`limits.fitted_to`).

    Raises:
        DataError: the cohort has no outcome of the bundle, another definition of one, too few subjects, or is the
            training cohort.
    """
    tasks = known_outcomes(bundle, cohort)
    table = prediction_table(bundle, cohort)
    found = tuple(_task(bundle, one, table, cohort.families) for one in tasks)
    left_out = [one.task.label for one in bundle.facts.tasks if one not in tasks]
    absent = [f"The cohort does not have: {', '.join(left_out)}."] if left_out else []
    return ValidationRecord(
        title=bundle.facts.title,
        cohort=cohort.name,
        bundle=bundle.hash,
        n_subjects=cohort.n_subjects,
        noun=people_of(cohort).noun,
        tasks=found,
        shifts=shifts(bundle.facts, cohort),
        warnings=(*absent, *(note for note in cohort.notes if not is_benign(note))),
        notes=tuple(note for note in cohort.notes if is_benign(note)),
        simulated=cohort.simulated or bundle.facts.simulated,
        exploratory=cohort.exploratory or bundle.facts.exploratory,
        versions=versions(),
    )


def known_outcomes(bundle: Bundle, cohort: Cohort) -> list[BundledTask]:
    """The outcomes that the cohort has, each defined as in the study.

    Raises:
        DataError: there is none, or an outcome of the same name has another definition.
    """
    own = {task.name: task for task in cohort.tasks}
    problems, found = [], []
    for one in bundle.facts.tasks:
        task = own.get(one.task.name)
        if task is None:
            continue
        differ = [name for name in _DEFINITION if getattr(task, name) != getattr(one.task, name)]
        if differ:
            problems.append(
                Problem(
                    f"outcome {task.name!r} is defined differently in the bundle",
                    expected=_said(one.task, differ),
                    got=_said(task, differ),
                    remedy="Define it as in the bundle (see its model card), or give it another name.",
                )
            )
        elif int(cohort.targets[task.name].notna().sum()) < SMALLEST_COUNT:
            problems.append(
                Problem(
                    f"outcome {task.name!r} is known for too few subjects for a validation",
                    expected=f"{SMALLEST_COUNT} or more",
                    got=str(int(cohort.targets[task.name].notna().sum())),
                )
            )
        else:
            found.append(one)
    raise_all("the bundle cannot be validated on this cohort", problems)
    if not found:
        raise DataError(
            f"cohort {cohort.name!r} has no outcome of the bundle",
            expected=f"one of {', '.join(one.task.label for one in bundle.facts.tasks)}",
            got=", ".join(own) or "none",
            remedy="Give it in `outcomes` of cohort.yaml, under the same name.",
        )
    return found


def _said(task: Task, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {getattr(task, name)}" for name in names)


def _task(bundle: Bundle, one: BundledTask, table: pd.DataFrame, families: dict[str, str]) -> ValidatedTask:
    task, model = one.task, bundle.facts.model
    rows = out_of_fold(table, task, model, families)
    scores = _scores(rows, task, model)
    shift: float | None = None
    recalibrated: tuple[Score, ...] = ()
    if task.is_binary:
        intercept = next(s.value for s in scores if s.metric == "calibration_intercept")
        if np.isfinite(intercept) and abs(intercept) < _LARGEST_SHIFT:
            shift = float(intercept)
            moved = 1.0 / (1.0 + np.exp(-(logit(rows.score) + shift)))
            again = OutOfFold(rows.subjects, rows.y_true, moved, (moved >= 0.5).astype(float), rows.fold, rows.cluster)
            recalibrated = _scores(again, task, model)
    primary = next(s for s in scores if s.metric == task.spec.primary)
    return ValidatedTask(
        task=task,
        n=str(rows.y_true.size),
        n_positive=str(int(rows.y_true.sum())) if task.is_binary else "",
        scores=scores,
        expected=one.expected,
        shift=shift,
        recalibrated=recalibrated,
        curve=calibration_curve(rows, task.name, model) if task.is_binary else None,
        decision=decision_curve(rows, task.name, model) if task.is_binary else None,
        above_chance=METRICS[primary.metric].beyond_chance(primary.low, primary.high) > 0,
    )


def _scores(rows: OutOfFold, task: Task, model: str) -> tuple[Score, ...]:
    """Scores of a fixed model; R2 refers to the mean of this cohort."""
    return tuple(
        score.model_copy(update={"method": _method(score.metric, rows.y_true.size)})
        for score in task_scores(rows, task, model, estimand="fitted")
    )


def _method(metric: str, n: int) -> str:
    record = METRICS[metric]
    wide = record.widening.get("fitted")
    why = "(as for fitted models in cross-validation, conservative here)"
    widened = "" if wide is None else f"variance x {wide.at(n):.2g} {why}; "
    return (
        f"one prediction of each subject by a fixed model; {record.interval or 'interval by the extension'}; {widened}"
        "95 % for this model on new subjects of this kind"
    )


def passed(record: ValidationRecord) -> Validation:
    """Results that are added to the bundle: no counts under ten, scores to two decimals, no name of the cohort."""
    found = Validation(
        format="connectome-tl validation",
        bundle=record.bundle,
        n_subjects=count_text(record.n_subjects),
        tasks=tuple(
            PassedTask(
                task=one.task.name,
                n=count_text(int(one.n), record.n_subjects),
                n_positive=count_text(int(one.n_positive), int(one.n)) if one.n_positive else "",
                scores=released_scores(one.scores, int(one.n), int(one.n_positive) if one.n_positive else None),
                above_chance=one.above_chance,
            )
            for one in record.tasks
        ),
        shifts=tuple(_passed_shift(row, record.n_subjects) for row in record.shifts),
        simulated=record.simulated,
        versions={"connectome-tl": record.versions.get("connectome-tl", "")},
    )
    return found.model_copy(update={"content": content_hash(found)})


def _passed_shift(row: ShiftRow, n_subjects: int) -> ShiftRow:
    """Remove values of the cohort, and counts that would reveal a small number of subjects within the limit."""
    outside = count_text(int(row.outside), n_subjects) if row.outside.isdigit() and row.outside != "0" else row.outside
    return row.model_copy(update={"here": "", "outside": outside})
