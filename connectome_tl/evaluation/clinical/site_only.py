"""Predict the outcome from the site alone, on the same folds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.baselines.covariates import covariate_design
from connectome_tl.evaluation.baselines.engines.learners import LOGISTIC, predict_baseline
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task

SITE_ONLY = "site_only"


def site_predictions(study: StudySettings, cohort: Cohort, splits: SplitPlan, tasks: Sequence[Task]) -> pd.DataFrame:
    """Out-of-fold predictions from the site alone, as rows of the prediction table.

    Empty if fewer than two sites are declared, or if sites are held out, since the site of a test row is then
    unknown in training.
    """
    sites = {site for site in cohort.site if site}
    if len(sites) < 2 or study.splits.scheme == "site_out":
        return pd.DataFrame()
    table = pd.DataFrame({"site": pd.array([s or None for s in cohort.site], dtype="str")}, index=list(cohort.ids))
    design_of = covariate_design(table, (Covariate(column="site", type="categorical", role="nuisance"),))
    tables = []
    for repeat, number, fold in splits.folds():
        design = design_of(fold)
        fold.admit(SITE_ONLY, design.fitted_on)
        for task in tasks:
            y = cohort.targets[task.name].to_numpy(float)
            y_train, y_test = y[cohort.positions(fold.train)], y[cohort.positions(fold.test)]
            score = predict_baseline(task, design, y_train, LOGISTIC)
            tables.append(prediction_rows(task, SITE_ONLY, repeat, number, fold.test, y_test, score, study.threshold))
    return pd.concat(tables, ignore_index=True)
