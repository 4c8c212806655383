"""What any model must beat: prevalence, nuisance only, clinical only, ridge on edges. Same splits, same scalers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.linear import fit_ridge
from connectome_tl.evaluation.baselines.logistic import fit_logistic
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.features.batches import clinical_specs, fit_features
from connectome_tl.features.scaling import CovariateEncoder
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task

COVARIATE_ALPHAS = tuple(float(a) for a in np.logspace(-1, 3, 9))
MIN_PER_CLASS = 2  # fewer training rows of a class than this and a baseline falls back to the prevalence


@dataclass(frozen=True, eq=False)
class Design:
    """Features of one fold: training and test rows, and the ids whatever made them was fitted on."""

    train: np.ndarray
    test: np.ndarray
    fitted_on: tuple[str, ...]


def baseline_predictions(
    study: StudySettings, cohort: Cohort, splits: SplitPlan, tasks: Sequence[Task]
) -> pd.DataFrame:
    """Out-of-fold predictions of the study's baselines, as rows of the prediction table.

    A baseline without anything to work on (no nuisance variable, say) is left out.
    """
    tables = []
    for name in study.baselines:
        for used, sharing in baseline_designs(study, cohort, name, tasks):
            for repeat, number, fold in splits.folds():
                design = used(fold)
                fold.admit(name, design.fitted_on)
                for task in sharing:
                    y = cohort.targets[task.name].to_numpy(float)
                    y_train, y_test = y[cohort.positions(fold.train)], y[cohort.positions(fold.test)]
                    score = predict_baseline(task, design, y_train, edges=name == "ridge")
                    tables.append(
                        prediction_rows(task, name, repeat, number, fold.test, y_test, score, study.threshold)
                    )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def nuisance_table(cohort: Cohort, task: Task) -> tuple[pd.DataFrame, tuple[Covariate, ...]]:
    """Age at scan, site, and the covariates whose role is nuisance (sex, motion, brain volume), as available.

    What the task itself predicts is left out.
    """
    specs = [s for s in cohort.covariate_specs if s.role in ("nuisance", "both") and s.column != task.column]
    table = cohort.covariates[[spec.column for spec in specs]].copy()
    seen = np.isfinite(cohort.age) & cohort.targets[task.name].notna().to_numpy()
    is_age = bool(seen.any()) and np.allclose(cohort.age[seen], cohort.targets[task.name].to_numpy(float)[seen])
    if np.isfinite(cohort.age).any() and not is_age:
        table["age at scan"] = cohort.age
        specs.append(Covariate(column="age at scan", unit=cohort.age_unit, role="nuisance"))
    if len({site for site in cohort.site if site}) > 1:
        table["site"] = pd.array([site or None for site in cohort.site], dtype="str")
        specs.append(Covariate(column="site", type="categorical", role="nuisance"))
    return table, tuple(specs)


def edge_table(study: StudySettings, cohort: Cohort, fold: Fold) -> Design:
    """Upper-triangle edges of all measures, confounds removed where the study says so, absent edges NaN."""
    rows, columns = upper_indices(cohort.n_regions)

    def flat(ids: Sequence[str]) -> np.ndarray:
        found = features.rows(cohort, ids)
        present = found.node_mask[:, rows] * found.node_mask[:, columns]
        edges = np.where(present[:, None] > 0, found.messages[:, :, rows, columns].astype(float), np.nan)
        return edges.reshape(len(ids), -1)

    names = study.confounds.columns if study.confounds is not None else ()
    sites, edges = study.harmonise, study.edges
    features = fit_features(cohort, fold.train, clinical=False, confounds=names, harmonise=sites, edges=edges)
    return Design(flat(fold.train), flat(fold.test), features.ids)


def baseline_designs(
    study: StudySettings, cohort: Cohort, name: str, tasks: Sequence[Task]
) -> list[tuple[Callable[[Fold], Design], Sequence[Task]]]:
    """How to make one baseline's features of a fold, and the tasks that share them; empty where there are none."""
    if name == "prevalence":
        return [(_nothing, tasks)]
    if name == "ridge":
        return [(lambda fold: edge_table(study, cohort, fold), tasks)]
    if name == "clinical_only":
        specs = clinical_specs(cohort.covariate_specs)
        return [(covariate_design(cohort.covariates, specs), tasks)] if specs else []
    made = [(nuisance_table(cohort, task), task) for task in tasks]
    return [(covariate_design(table, specs), [task]) for (table, specs), task in made if specs]


def _nothing(fold: Fold) -> Design:
    return Design(np.zeros((len(fold.train), 0)), np.zeros((len(fold.test), 0)), fold.train)


def covariate_design(table: pd.DataFrame, specs: Sequence[Covariate]) -> Callable[[Fold], Design]:
    """Covariates of a fold, encoded as its training rows say; `table` has a row per subject id."""

    def design(fold: Fold) -> Design:
        train, test = table.loc[list(fold.train)], table.loc[list(fold.test)]
        encoder = CovariateEncoder.fit(train, specs)
        return Design(encoder.apply(train), encoder.apply(test), encoder.ids)

    return design


def predict_baseline(task: Task, design: Design, y_train: np.ndarray, *, edges: bool) -> np.ndarray:
    """Probabilities or values (n_test,) of one task, fitted on the training rows with a known outcome."""
    seen = np.isfinite(y_train)
    if not seen.any():
        raise DataError(
            f"no training row of a fold has outcome {task.name!r}",
            remedy="Leave the task out (target.tasks), or use fewer folds.",
        )
    base = np.full(len(design.test), y_train[seen].mean())
    x_train = design.train
    varies = x_train.shape[1] > 0 and bool((np.nanstd(x_train, axis=0) > 0).any())
    enough = seen.sum() >= 2 * MIN_PER_CLASS and (
        not task.is_binary or min(y_train[seen].sum(), (1 - y_train[seen]).sum()) >= MIN_PER_CLASS
    )
    if not varies or not enough:
        return base
    ids = design.fitted_on
    if edges and task.is_binary:
        fit = fit_ridge(x_train, 2 * y_train - 1, train_ids=ids)
        return fit.predict_probability(design.test)[:, 0]
    if edges:
        return fit_ridge(x_train, y_train, train_ids=ids).predict(design.test)[:, 0]
    if task.is_binary:
        return fit_logistic(x_train, y_train, COVARIATE_ALPHAS, ids).predict_probability(design.test)[:, 0]
    return fit_ridge(x_train, y_train, COVARIATE_ALPHAS, ids).predict(design.test)[:, 0]
