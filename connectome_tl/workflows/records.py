"""Fits and predictions as the plain records that the report shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.evaluation.clinical.results import ClinicalResults, clinical_results
from connectome_tl.evaluation.nested_cv import CrossValidation
from connectome_tl.settings.results import Prediction, TrainingCurve
from connectome_tl.tasks import Task

_STAGE_ORDER = ("pretrain", "adapt", "finetune")


def training_curves(validation: CrossValidation) -> tuple[TrainingCurve, ...]:
    """Loss of each stage of each model over its fits: median and quartiles per epoch."""
    curves: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for item in validation.planned:
        for plan in item.plans:
            for member in plan.lineage():
                found = curves.setdefault((member.stage, item.model), {})
                found[member.key] = validation.results[member.key].curve
    records = []
    for (stage, model), by_key in sorted(curves.items(), key=lambda c: _STAGE_ORDER.index(c[0][0])):
        stacked = np.array(list(by_key.values()))
        if not stacked.size:
            continue
        low, median, high = np.quantile(stacked, [0.25, 0.5, 0.75], axis=0)
        step = tuple(range(1, stacked.shape[1] + 1))
        records.append(
            TrainingCurve(
                stage=stage,
                model=model,
                n_fits=len(stacked),
                step=step,
                median=tuple(median),
                low=tuple(low),
                high=tuple(high),
            )
        )
    return tuple(records)


def prediction_records(table: pd.DataFrame) -> tuple[Prediction, ...]:
    levels = [name for name in table.columns if name.startswith("p_")]
    rows = table.drop(columns=levels).to_dict("records")
    found = table[levels].to_numpy(dtype=float)
    return tuple(
        Prediction.model_validate(row | {"probabilities": tuple(p[np.isfinite(p)].tolist())})
        for row, p in zip(rows, found, strict=True)
    )


def clinical_record(cohort: Cohort, predictions: pd.DataFrame, tasks: Sequence[Task]) -> ClinicalResults:
    """Calibration, decision curves, subgroups by sex, site and gestational age, sample sizes, missing outcomes."""
    families = {i: str(name) for i, name in zip(cohort.ids, cohort.family, strict=True) if name}
    numeric = [spec.column for spec in cohort.covariate_specs if spec.type == "numeric"]
    groups: dict[str, dict[str, str]] = {}
    for spec in cohort.covariate_specs:
        if spec.type == "categorical":
            groups[spec.column] = _texts(cohort, cohort.covariates[spec.column])
    if len({site for site in cohort.site if site}) > 1:
        groups["site"] = dict(zip(cohort.ids, map(str, cohort.site), strict=True))
    if "gestational_age" in numeric:
        bands = pd.cut(
            cohort.covariates["gestational_age"].astype(float),
            [0, 28, 32, 37, 50],
            right=False,
            labels=["under 28 weeks", "28 to 31 weeks", "32 to 36 weeks", "37 weeks and more"],
        )
        groups["gestational age"] = _texts(cohort, bands)
    return clinical_results(predictions, tasks, families, cohort.covariates[numeric], groups, cohort.status)


def _texts(cohort: Cohort, column: pd.Series) -> dict[str, str]:
    return {i: "" if pd.isna(value) else str(value) for i, value in zip(cohort.ids, column, strict=True)}
