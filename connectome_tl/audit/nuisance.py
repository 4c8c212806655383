"""Association of each nuisance variable (site, age, head motion) with the outcome."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.baselines.covariates import covariate_design, nuisance_table
from connectome_tl.evaluation.baselines.engines.learners import LOGISTIC, predict_baseline
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.records.results import Score
from connectome_tl.tasks import Task


def nuisance_scores(cohort: Cohort, splits: SplitPlan, tasks: Sequence[Task]) -> list[Score]:
    """AUC or R2, out of fold, of each nuisance variable alone; the model's name is the variable's."""
    tables = []
    for task in tasks:
        table, specs = nuisance_table(cohort, task)
        y = cohort.targets[task.name].to_numpy(float)
        for spec in specs:
            design = covariate_design(table, (spec,))
            for repeat, number, fold in splits.folds():
                train, test = cohort.positions(fold.train), cohort.positions(fold.test)
                score = predict_baseline(task, design(fold), y[train], LOGISTIC)
                tables.append(prediction_rows(task, spec.column, repeat, number, fold.test, y[test], score, 0.5))
    if not tables:
        return []
    primary = {task.name: task.spec.primary for task in tasks}
    return [s for s in scores(pd.concat(tables, ignore_index=True), tasks) if s.metric == primary[s.task]]


def nuisance_findings(
    recorded: Sequence[Score], alone: Sequence[Score], tasks: Sequence[Task], model: str = "full"
) -> list[Finding]:
    """Warn if age at scan, sex, site and motion, together or alone, predict as well as the model.

    Args:
        recorded: scores of the run. alone: result of `nuisance_scores`.
    """
    found = []
    values = {(s.task, s.model, s.metric): s.value for s in recorded}
    for task in tasks:
        metric, record = task.spec.primary, metric_named(task.spec.primary)
        sign, chance = record.sign, record.sign * (record.chance or 0.0)
        full = values.get((task.name, model, metric), float("nan"))
        rivals = {s.model: s.value for s in alone if s.task == task.name}
        rivals["all nuisance variables"] = values.get((task.name, "nuisance_only", metric), float("nan"))
        as_good = [
            f"{value:.2f} from {name}" for name, value in rivals.items() if sign * value >= sign * full > chance + 0.05
        ]
        if as_good:
            found.append(f"{task.name} ({metric} {full:.2f} from the model, {', '.join(as_good)})")
    if not found:
        return [Finding(check="nuisance variables", status="passed", what="none predicts as well as the model")]
    return [
        Finding(
            check="nuisance variables",
            status="warning",
            what=f"age at scan, sex, site or motion predict as well as the model: {'; '.join(found)}",
            remedy="Residualise on them (`confounds` in study.yaml), or report this with the score.",
        )
    ]
