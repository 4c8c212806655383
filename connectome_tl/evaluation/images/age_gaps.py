"""Brain-age gap of a study, corrected on the training rows of each fold and compared between groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.ages import in_unit
from connectome_tl.cohort.columns.plausible import DAYS
from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import DataError, UsageError
from connectome_tl.evaluation.baselines.design import VolumeFit
from connectome_tl.evaluation.nested_cv import CrossValidation
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.settings.images.age_gap import BrainAge
from connectome_tl.settings.model_table import CORE, FULL
from connectome_tl.settings.records.statistics import AgeGapScore
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.images.age_gap import LEAST_SLOPE, classify_by_gap, fit_age_bias, gap_table
from connectome_tl.training.networks.outputs import columns_of

MODELS = (FULL, CORE, "network")
TWO_STAGE = "two_stage"
NOT_AGE = "the predicted age does not follow age, so that the gap is not a measure of brain age"
UNITS = ("years", "months", "weeks", "days")


@dataclass(frozen=True, eq=False)
class AgeGaps:
    """Tables and measures of the gap.

    Attributes:
        table: columns subject, model, repeat, fold, age, predicted, gap, corrected_gap, and `case` if cases are set.
        scores: one record per model.
    """

    table: pd.DataFrame
    scores: tuple[AgeGapScore, ...]


def check_brain_age(
    study: StudySettings, target: Cohort, tasks: tuple[Task, ...], source: Cohort | None = None
) -> None:
    """Check, before any fit, that a brain-age gap can be computed.

    Args:
        source: the cohort of stage 1; its ages of the same name must have the same origin.

    Raises:
        UsageError: the study has no such regression or binary outcome, the outcome is not an age, or the origin of
            an age in weeks is not stated.
        DataError: the outcome is not the cohort's age at scan, or the ages of source and target have different
            origins.
    """
    asked = study.brain_age
    if asked is None:
        return
    regressions = [task for task in tasks if task.form == "value"]
    task = next((task for task in regressions if task.name == asked.task), None)
    if task is None:
        raise UsageError(
            f"brain_age.task: the study has no regression {asked.task!r}",
            expected=", ".join(one.name for one in regressions) or "a regression of age among target.tasks",
        )
    if task.unit not in UNITS:
        raise UsageError(
            f"brain_age.task: {asked.task!r} has no unit of age",
            expected=", ".join(UNITS),
            got=repr(task.unit),
            remedy="Give its `unit` in cohort.yaml.",
        )
    _check_reckoning(task, target)
    if source is not None and any(one.name == task.name for one in source.tasks):
        _check_source(task, target, source)
    if asked.case is not None and asked.case not in {one.name for one in target.tasks if one.is_binary}:
        raise UsageError(
            f"brain_age.case: cohort {target.name!r} has no binary outcome {asked.case!r}",
            expected=", ".join(one.name for one in target.tasks if one.is_binary) or "one in its cohort.yaml",
        )


def _check_source(task: Task, target: Cohort, source: Cohort) -> None:
    """Refuse ages of stage 1 with another unit or origin."""
    own = source.task(task.name)
    if own.unit != task.unit:
        raise DataError(
            f"brain_age.task: {task.name!r} has different units in cohorts {target.name!r} and {source.name!r}",
            expected=task.unit,
            got=own.unit or "none",
            remedy="Give the outcome in one unit in both.",
        )
    _check_reckoning(own, source)
    both = (source.age_reference, target.age_reference)
    if both[0] != both[1] and "postmenstrual" in both:
        raise DataError(
            f"brain_age.task: cohorts {source.name!r} and {target.name!r} count {task.name!r} from different days",
            expected="one reference in both",
            got=f"{both[0]} and {both[1]}",
            remedy="Set age.to in one cohort.yaml, and give the outcome with the same reference.",
        )


def _check_reckoning(task: Task, cohort: Cohort) -> None:
    """Refuse an age whose origin is unknown or differs from that of the cohort's ages.

    Weeks since birth, conception and term differ by months, and the values alone do not identify the origin.
    """
    truth = cohort.targets[task.name].to_numpy(dtype=float)
    both = np.isfinite(truth) & np.isfinite(cohort.age)
    if not both.any():
        if task.unit == "weeks":
            raise UsageError(
                f"brain_age.task: {task.name!r} of cohort {cohort.name!r} is in weeks: weeks from what?",
                remedy="Give the cohort's `age` (column, unit: weeks, reference: birth, postmenstrual or corrected).",
            )
        return
    own = in_unit(cohort.age, cohort.age_unit, task.unit)  # type: ignore[arg-type]
    off = float(np.median((truth - own)[both]))
    # At worst, ages are rounded to the coarser of the two units.
    if abs(off) > max(1.0, DAYS[cohort.age_unit] / DAYS[task.unit]):
        raise DataError(
            f"brain_age.task: {task.name!r} is not the age at scan of cohort {cohort.name!r}",
            expected=f"its age in {task.unit} ({cohort.age_reference})",
            got=f"{off:+.1f} {task.unit} in the median",
            remedy="Use the same reference for both: correct `age.reference`, set age.to, or name another column.",
        )


@dataclass(frozen=True, eq=False)
class _Fold:
    """Ages predicted in one fold: of test rows, and out of fold of training rows."""

    model: str
    repeat: int
    number: int
    fold: Fold
    predicted: Mapping[str, float]
    held_out: Mapping[str, float]


def age_gaps(
    study: StudySettings, target: Cohort, validation: CrossValidation, fits: Sequence[VolumeFit] = ()
) -> AgeGaps | None:
    """Brain-age gap of every tested subject for the full model, the core, the network and the baseline `two_stage`.

    The linear correction is fitted on out-of-fold predictions of the training rows. None if not requested.

    Args:
        fits: of the baselines on volumes.
    """
    asked = study.brain_age
    if asked is None:
        return None
    tables, failed = [], dict[str, AgeGapScore]()
    task = target.task(asked.task)
    for item in (*_folds(validation, asked.task), *_baseline_folds(validation, asked.task, fits)):
        try:
            found = _corrected(item, task, target, asked)
        except DataError as error:  # the predictions of one model may not follow age; keep the others
            note = str(error).splitlines()[0]
            failed[item.model] = AgeGapScore(
                task=task.name, model=item.model, unit=task.unit, correction=asked.correction, n=0, note=note
            )
            continue
        if len(found):  # a fold may test no subject of known age
            tables.append(found.assign(model=item.model, repeat=item.repeat))
    tables = [one for one in tables if one["model"].iloc[0] not in failed]
    if not tables:
        return AgeGaps(pd.DataFrame(columns=["subject", "model"]), tuple(failed.values()))
    table = pd.concat(tables, ignore_index=True)
    columns = ["subject", "model", "repeat", "fold", "age", "predicted", "gap", "corrected_gap"]
    if asked.case is not None:
        case = target.targets[asked.case]
        table = table.assign(case=case.to_numpy(dtype=float)[target.positions(table["subject"])])
        columns.append("case")
    table = table[columns]
    found_scores = [
        _score(part, str(model), task, asked, target.families) for model, part in table.groupby("model", sort=False)
    ]
    return AgeGaps(table, (*found_scores, *failed.values()))


def _folds(validation: CrossValidation, name: str) -> Iterator[_Fold]:
    """Folds of the full model, the core and the network, averaged over seeds."""
    for item in validation.planned:
        if item.model not in MODELS or name not in {task.name for task in item.tasks}:
            continue
        place = columns_of(item.tasks)[name]
        results = [validation.results[plan.key] for plan in item.plans]

        def mean(tables: Sequence[Mapping[str, np.ndarray]], place: int | slice = place) -> dict[str, float]:
            shared = set(tables[0]).intersection(*tables)
            return {i: float(np.mean([table[i][place] for table in tables])) for i in tables[0] if i in shared}

        predicted, held_out = mean([r.predictions for r in results]), mean([r.held_out for r in results])
        yield _Fold(item.model, item.repeat, item.fold_number, item.fold, predicted, held_out)


def _baseline_folds(validation: CrossValidation, name: str, fits: Sequence[VolumeFit]) -> Iterator[_Fold]:
    """Folds of the age network in two stages, which has out-of-fold estimates of its training rows."""
    made = {fit.test: fit for fit in fits if fit.model == TWO_STAGE and fit.task == name}
    for item in validation.planned:
        if item.model == FULL and (fit := made.get(item.fold.test)) is not None:
            yield _Fold(TWO_STAGE, item.repeat, item.fold_number, item.fold, fit.predicted, fit.held_out)


def _corrected(item: _Fold, task: Task, target: Cohort, asked: BrainAge) -> pd.DataFrame:
    """Gaps of the tested subjects of one fold.

    Raises:
        DataError: there are no out-of-fold predictions of training rows, or the correction cannot be fitted.
    """
    ages = dict(zip(target.ids, target.targets[task.name].to_numpy(dtype=float), strict=True))
    train = [i for i in item.fold.train if np.isfinite(ages[i]) and np.isfinite(item.held_out.get(i, np.nan))]
    if not train and asked.correction != "none":
        raise DataError("no out-of-fold predictions of training rows for the correction of the gap")
    held, known = np.array([item.held_out[i] for i in train]), np.array([ages[i] for i in train])
    bias = fit_age_bias(train, held, known, asked.correction)
    item.fold.admit("the correction of the age bias", bias.ids)
    test = [i for i in item.fold.test if np.isfinite(ages[i]) and i in item.predicted]
    predicted, age = np.array([item.predicted[i] for i in test]), np.array([ages[i] for i in test])
    return gap_table(test, np.full(len(test), item.number), age, predicted, bias.corrected(predicted, age))


def _score(table: pd.DataFrame, model: str, task: Task, asked: BrainAge, families: dict[str, str]) -> AgeGapScore:
    slope = _slope(table["age"], table["gap"])
    found = AgeGapScore(
        task=task.name,
        model=model,
        unit=task.unit,
        correction=asked.correction,
        n=table["subject"].nunique(),
        mae=float(table["gap"].abs().mean()),
        slope=slope,
        corrected_slope=_slope(table["age"], table["corrected_gap"]),
        note=NOT_AGE if 1 + slope < LEAST_SLOPE else "",
    )
    if asked.case is None:
        return found
    by_subject = table.groupby("subject")[["corrected_gap", "case"]].mean()
    found = found.model_copy(update={"case": asked.case, "n_cases": int((by_subject["case"] == 1).sum())})
    # Relatives of one class count as one observation: their gaps are correlated, which would narrow the interval.
    by_subject["family"] = [families.get(str(subject), f"\x00{subject}") for subject in by_subject.index]
    by_family = by_subject.groupby(["family", "case"], as_index=False)["corrected_gap"].mean()
    cases, controls = (by_family.loc[by_family["case"] == value, "corrected_gap"].to_numpy() for value in (1, 0))
    if min(len(cases), len(controls)) < 2:
        return found.model_copy(update={"note": "fewer than two cases or two controls of different families"})
    if not max(np.ptp(cases), np.ptp(controls)) > 0:
        return found.model_copy(update={"note": "the corrected gaps do not differ within cases and controls"})
    welch = stats.ttest_ind(cases, controls, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    difference = {"difference": float(cases.mean() - controls.mean()), "low": float(low), "high": float(high)}
    return found.model_copy(update=difference | _auc(table[table["case"].notna()], asked.case, families))


def _auc(table: pd.DataFrame, case: str, families: dict[str, str]) -> dict[str, float | str]:
    """AUC of a support vector machine on the gap alone, trained on the other folds of each repeat."""
    parts = []
    try:
        for repeat, part in table.groupby("repeat"):
            parts.append(classify_by_gap(part, part["case"].to_numpy()).assign(repeat=repeat))
    except DataError as error:
        return {"note": str(error).splitlines()[0]}
    predictions = pd.concat(parts, ignore_index=True).assign(task=case, model="network")
    predictions["y_score"] = expit(predictions["y_score"])
    made = scores(predictions, [Task(name=case, kind="binary", column=case)], families)
    auc = next(score for score in made if score.metric == "auc")
    return {"auc": auc.value, "auc_low": auc.low, "auc_high": auc.high}


def _slope(age: pd.Series, gap: pd.Series) -> float:
    return float(np.polyfit(age, gap, 1)[0]) if len(age) > 1 and np.ptp(age) > 0 else float("nan")
