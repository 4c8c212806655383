"""Everything clinical that a table of predictions gives, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from connectome_tl.evaluation.adequacy import riley_binary, riley_continuous
from connectome_tl.evaluation.calibration import calibration_curve
from connectome_tl.evaluation.clinical import decision_curve, subgroup_scores
from connectome_tl.evaluation.conformal import conformal_check
from connectome_tl.evaluation.metrics import BASE_MODEL, regression_base
from connectome_tl.evaluation.missing_outcomes import (
    missing_outcomes,
    observation_probability,
    returners_against_lost,
)
from connectome_tl.evaluation.predictions import OutOfFold, out_of_fold
from connectome_tl.settings.statistics import (
    CalibrationCurve,
    ConformalCheck,
    DecisionCurve,
    GroupDifference,
    MissingOutcomes,
    SampleSize,
    SubgroupScore,
)
from connectome_tl.tasks import Task

RIVALS: tuple[str, ...] = ("clinical_only", "nuisance_only")


@dataclass(frozen=True)
class ClinicalResults:
    """The fields of `RunRecord` of the same names."""

    calibration_curves: tuple[CalibrationCurve, ...]
    decision_curves: tuple[DecisionCurve, ...]
    subgroups: tuple[SubgroupScore, ...]
    conformal: tuple[ConformalCheck, ...]
    sample_sizes: tuple[SampleSize, ...]
    returners: tuple[GroupDifference, ...]
    missing_outcomes: tuple[MissingOutcomes, ...]


def clinical_results(
    predictions: pd.DataFrame,
    tasks: Sequence[Task],
    clusters: Mapping[str, str],
    covariates: pd.DataFrame,
    groups: Mapping[str, Mapping[str, str]],
    model: str = "full",
) -> ClinicalResults:
    """Calibration and decision curves, subgroups, conformal coverage, sample sizes, missing outcomes.

    Args:
        predictions: the prediction table; rows without y_true are the missing outcomes.
        clusters: family of each subject.
        covariates: index subjects, numeric columns known at the scan; gaps take the column's median.
            They describe who is missing and weight those who are not; they are no predictors here.
        groups: per variable (sex, site, GA band), the group of each subject.
        model: whose predictions; its rivals' calibration and decision curves stand beside it.
    """
    complete = covariates.astype(float)
    complete = complete.fillna(complete.median()).dropna(axis=1)
    curves: list[CalibrationCurve] = []
    decisions: list[DecisionCurve] = []
    subgroups: list[SubgroupScore] = []
    conformal: list[ConformalCheck] = []
    sizes: list[SampleSize] = []
    returners: list[GroupDifference] = []
    missing: list[MissingOutcomes] = []
    for task in tasks:
        known = predictions[(predictions["task"] == task.name) & predictions["y_true"].notna()]
        if model not in set(known["model"]):
            continue
        rows = out_of_fold(predictions, task.name, model, clusters)
        base = None if task.is_binary else regression_base(predictions, rows, task.name)
        for variable, group in groups.items():
            found = subgroup_scores(rows, group, variable, task.name, model, base)
            subgroups += [one.model_copy(update={"task": task.name, "model": model}) for one in found]
        conformal.append(conformal_check(rows, task.name, model, task.is_binary))
        sizes += _sizes(rows, task, complete.shape[1])
        observed = complete.index.astype(str).isin(rows.subjects)
        if not observed.all() and complete.shape[1] and not returners:
            returners += returners_against_lost(complete, observed)
        if not task.is_binary:
            continue
        for name in (model, *RIVALS):
            if name in set(known["model"]) and name != BASE_MODEL:
                one = out_of_fold(predictions, task.name, name, clusters)
                curves.append(calibration_curve(one, task.name, name))
                decisions.append(decision_curve(one, task.name, name))
        missing += _missing(predictions, task, model, complete, observed)
    return ClinicalResults(
        tuple(curves), tuple(decisions), tuple(subgroups), tuple(conformal), tuple(sizes), tuple(returners),
        tuple(missing),
    )  # fmt: skip


def _sizes(rows: OutOfFold, task: Task, n_covariates: int) -> list[SampleSize]:
    """What a model of the covariates alone would need; one of thousands of edges needs far more."""
    n, prevalence = rows.y_true.size, float(rows.y_true.mean())
    if not n_covariates or (task.is_binary and not 0 < prevalence < 1):
        return []
    made = riley_binary(n_covariates, prevalence, n) if task.is_binary else riley_continuous(n_covariates, n)
    return [made.model_copy(update={"method": f"{task.name}, {n_covariates} clinical covariates; {made.method}"})]


def _missing(
    predictions: pd.DataFrame, task: Task, model: str, complete: pd.DataFrame, observed: np.ndarray
) -> list[MissingOutcomes]:
    everyone = predictions.loc[(predictions["task"] == task.name) & (predictions["model"] == model)]
    if everyone["y_true"].notna().all():
        return []
    probability = None
    if complete.shape[1] and not observed.all():
        chance = observation_probability(complete.to_numpy(dtype=float), observed)
        probability = dict(zip(complete.index.astype(str), chance.tolist()))
    return [missing_outcomes(predictions, task, model, probability)]
