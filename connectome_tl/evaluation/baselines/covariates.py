"""Baselines without a connectome: prevalence, nuisance variables, clinical covariates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, no_columns
from connectome_tl.evaluation.baselines.engines.learners import LOGISTIC
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.features.scaling import CovariateEncoder
from connectome_tl.settings.cohort import Covariate
from connectome_tl.tasks import Task


def nuisance_table(cohort: Cohort, task: Task) -> tuple[pd.DataFrame, tuple[Covariate, ...]]:
    """Age at scan, site, and the covariates whose role is nuisance (sex, motion, brain volume), as available.

    The variable that the task predicts is excluded.
    """
    specs = [s for s in cohort.covariate_specs if s.role in ("nuisance", "both") and s.column != task.column]
    table = cohort.covariates[[spec.column for spec in specs]].copy()
    if np.isfinite(cohort.age).any() and not cohort.is_age(task.name):
        table["age at scan"] = cohort.age
        specs.append(Covariate(column="age at scan", unit=cohort.age_unit, role="nuisance"))
    if len({site for site in cohort.site if site}) > 1:
        table["site"] = pd.array([site or None for site in cohort.site], dtype="str")
        specs.append(Covariate(column="site", type="categorical", role="nuisance"))
    return table, tuple(specs)


def covariate_design(table: pd.DataFrame, specs: Sequence[Covariate]) -> Callable[[Fold], Design]:
    """Covariates of a fold, encoded with parameters from its training rows; `table` has one row per subject id."""

    def design(fold: Fold) -> Design:
        train, test = table.loc[list(fold.train)], table.loc[list(fold.test)]
        encoder = CovariateEncoder.fit(train, specs)
        return Design(encoder.apply(train), encoder.apply(test), encoder.ids)

    return design


def prevalence(data: BaselineData) -> list[Baseline]:
    """The base rate, or the mean, of the training rows."""
    return [Baseline(lambda fold: no_columns(fold, data.families(fold)), data.tasks, LOGISTIC)]


def nuisance_only(data: BaselineData) -> list[Baseline]:
    """Linear models of the nuisance variables, without tasks for which there are none."""
    made = [(nuisance_table(data.target, task), task) for task in data.tasks]
    return [Baseline(covariate_design(table, specs), (task,), LOGISTIC) for (table, specs), task in made if specs]


def clinical_only(data: BaselineData) -> list[Baseline]:
    """Linear models of the clinical covariates; none for a cohort without them."""
    specs = clinical_specs(data.target.covariate_specs)
    return [Baseline(covariate_design(data.target.covariates, specs), data.tasks, LOGISTIC)] if specs else []
