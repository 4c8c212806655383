"""Compute all clinical results from a table of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from connectome_tl.evaluation.clinical.adequacy import riley_binary, riley_continuous
from connectome_tl.evaluation.clinical.calibration import calibration_curve
from connectome_tl.evaluation.clinical.missing_outcomes import (
    missing_outcomes,
    observation_probability,
    returners_against_lost,
)
from connectome_tl.evaluation.clinical.net_benefit import decision_curve, subgroup_scores
from connectome_tl.evaluation.intervals.conformal import conformal_check
from connectome_tl.evaluation.power import auc_power
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold
from connectome_tl.settings.records.statistics import (
    CalibrationCurve,
    ConformalCheck,
    DecisionCurve,
    GroupDifference,
    MissingOutcomes,
    Power,
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
    power: tuple[Power, ...]
    returners: tuple[GroupDifference, ...]
    missing_outcomes: tuple[MissingOutcomes, ...]


def clinical_results(
    predictions: pd.DataFrame,
    tasks: Sequence[Task],
    clusters: Mapping[str, str],
    covariates: pd.DataFrame,
    groups: Mapping[str, Mapping[str, str]],
    status: pd.DataFrame | None = None,
    model: str = "full",
) -> ClinicalResults:
    """Calibration and decision curves, subgroups, conformal coverage, sample sizes, power, missing outcomes.

    Args:
        predictions: the prediction table; rows without y_true have a missing outcome.
        clusters: family of each subject.
        covariates: numeric columns known at the scan, indexed by subject. They are used to compare subjects with and
            without outcome and, with missing values replaced by the median, to weight them, not as predictors.
        groups: group of each subject, by variable (sex, site, GA band).
        status: observed, lost, died or untestable; one column per task, indexed by subject.
        model: name of the main model; results of its baselines are included for comparison.
    """
    complete = covariates.astype(float)
    complete = complete.fillna(complete.median()).dropna(axis=1)
    curves: list[CalibrationCurve] = []
    decisions: list[DecisionCurve] = []
    subgroups: list[SubgroupScore] = []
    conformal: list[ConformalCheck] = []
    sizes: list[SampleSize] = []
    power: list[Power] = []
    lost: dict[bytes, tuple[np.ndarray, list[str]]] = {}  # by the subjects with a known outcome
    missing: list[MissingOutcomes] = []
    for task in tasks:
        known = predictions[(predictions["task"] == task.name) & predictions["y_true"].notna()]
        models = [name for name in (model, *RIVALS) if name in set(known["model"])]
        if model not in models:
            continue
        rows = {name: out_of_fold(predictions, task, name, clusters) for name in models}
        for variable, group in groups.items():
            for name, one in rows.items():
                subgroups += subgroup_scores(one, group, variable, task, name)
        if not task.spec.by_level:
            conformal += [conformal_check(one, task.name, name, task.is_binary) for name, one in rows.items()]
        sizes += _sizes(rows[model], task, complete.shape[1])
        observed = complete.index.astype(str).isin(rows[model].subjects)
        if not observed.all():
            lost.setdefault(observed.tobytes(), (observed, []))[1].append(task.name)
        if not task.is_binary:
            continue
        curves += [calibration_curve(one, task.name, name) for name, one in rows.items()]
        decisions += [decision_curve(one, task.name, name) for name, one in rows.items()]
        power += _power(rows[model], task)
        for name in models:
            missing += _missing(predictions, task, name, complete, observed, status)
    known_values = covariates[complete.columns]
    returners = [one for known, names in lost.values() for one in returners_against_lost(known_values, known, names)]
    return ClinicalResults(
        tuple(curves), tuple(decisions), tuple(subgroups), tuple(conformal), tuple(sizes), tuple(power),
        tuple(returners), tuple(missing),
    )  # fmt: skip


def _power(rows: OutOfFold, task: Task) -> list[Power]:
    n_positive = int(rows.y_true.sum())
    n_folds = max(2, np.unique(rows.fold[0][rows.fold[0] >= 0]).size)
    found = auc_power(task.name, n_positive, rows.y_true.size - n_positive, n_folds=n_folds)
    return [] if found is None else [found]


def _sizes(rows: OutOfFold, task: Task, n_covariates: int) -> list[SampleSize]:
    """Sample sizes required for a model of the covariates only; a model of thousands of edges requires more.

    The criteria exist for binary outcomes and regressions, not for more classes.
    """
    n, prevalence = rows.y_true.size, float(rows.y_true.mean())
    if not n_covariates or task.spec.by_level or (task.is_binary and not 0 < prevalence < 1):
        return []
    made = riley_binary(n_covariates, prevalence, n) if task.is_binary else riley_continuous(n_covariates, n)
    return [made.model_copy(update={"task": task.name})]


def _missing(
    predictions: pd.DataFrame,
    task: Task,
    model: str,
    complete: pd.DataFrame,
    observed: np.ndarray,
    status: pd.DataFrame | None,
) -> list[MissingOutcomes]:
    """Impute all missing outcomes and, if there are any, only those of subjects who died or were untestable."""
    everyone = predictions.loc[(predictions["task"] == task.name) & (predictions["model"] == model)]
    if everyone["y_true"].notna().all():
        return []
    probability = None
    if complete.shape[1] and not observed.all():
        chance = observation_probability(complete.to_numpy(dtype=float), observed)
        probability = dict(zip(complete.index.astype(str), chance.tolist()))
    found = [missing_outcomes(predictions, task, model, probability)]
    lost = set(everyone.loc[everyone["y_true"].isna(), "subject"].astype(str))
    unseen = set() if status is None else set(status.index[status[task.name].isin(("died", "untestable"))]) & lost
    if unseen and unseen != lost:
        found.append(missing_outcomes(predictions, task, model, probability, unseen, "died or untestable"))
    return found
