"""What any model must beat, on the same splits and the same rows of features.

One table says which baselines there are and what each learns from: prevalence, nuisance variables, clinical
covariates, ridge on edges, ridge on everything the model sees, ridge in tangent space, and the five controls of an
image study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan, kinship_groups
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.gram import gram_ridge
from connectome_tl.evaluation.baselines.images import TABLES, gaussian_process, image_table, rows_of
from connectome_tl.evaluation.baselines.linear import fit_ridge
from connectome_tl.evaluation.baselines.logistic import fit_logistic
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.features.scaling import CovariateEncoder
from connectome_tl.features.steps import Features, fit_steps
from connectome_tl.features.tangent import holds_correlations
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.features import EdgeSettings, FeatureSettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tangent import CORRELATIONS
from connectome_tl.tasks import Task
from connectome_tl.training.core import blocks_of
from connectome_tl.training.outputs import level_probabilities

COVARIATE_ALPHAS = tuple(float(a) for a in np.logspace(-1, 3, 9))
MIN_PER_CLASS = 2  # fewer training rows of a class than this and a baseline falls back to the prevalence
Learner = Literal["logistic", "ridge", "gram", "gaussian process"]


@dataclass(frozen=True, eq=False)
class Design:
    """Features of one fold: training and test rows, and the ids whatever made them was fitted on.

    Attributes:
        families: (n_train,) codes; relatives are left out together where a penalty is chosen.
    """

    train: np.ndarray
    test: np.ndarray
    fitted_on: tuple[str, ...]
    families: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))


@dataclass(frozen=True)
class Baseline:
    """Which features a baseline sees, which tasks share them, and what learns from them."""

    design: Callable[[Fold], Design]
    tasks: tuple[Task, ...]
    learner: Learner


Maker = Callable[[StudySettings, Cohort, Sequence[Task]], list[Baseline]]


def baseline_predictions(
    study: StudySettings, cohort: Cohort, splits: SplitPlan, tasks: Sequence[Task]
) -> pd.DataFrame:
    """Out-of-fold predictions of the study's baselines, as rows of the prediction table.

    A baseline without anything to work on (no nuisance variable, say) is left out.
    """
    tables = []
    for name, found_baselines in baselines_of(study, cohort, tasks).items():
        for baseline in found_baselines:
            for repeat, number, fold in splits.folds():
                design = baseline.design(fold)
                fold.admit(name, design.fitted_on)
                for task in baseline.tasks:
                    y = cohort.targets[task.name].to_numpy(float)
                    y_train, y_test = y[cohort.positions(fold.train)], y[cohort.positions(fold.test)]
                    found = predict_baseline(task, design, y_train, baseline.learner)
                    tables.append(
                        prediction_rows(task, name, repeat, number, fold.test, y_test, found, study.threshold)
                    )
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def predict_baseline(task: Task, design: Design, y_train: np.ndarray, learner: Learner) -> np.ndarray:
    """(n_test, n_columns) probabilities or values of one task, fitted on the training rows with a known outcome.

    An ordinal task is a chain of "above level k", a multiclass one each class against the rest.

    Raises:
        DataError: no training row has the outcome.
    """
    seen = np.isfinite(y_train)
    if not seen.any():
        raise DataError(
            f"no training row of a fold has outcome {task.name!r}",
            remedy="Leave the task out (target.tasks), or use fewer folds.",
        )
    if task.kind in ("binary", "regression"):
        return _predict(design, y_train, task.is_binary, learner)[:, None]
    codes = np.arange(task.n_levels)
    labels = [y_train > k for k in codes[:-1]] if task.spec.ordered else [y_train == k for k in codes]
    each = [_predict(design, np.where(seen, label, np.nan), True, learner) for label in labels]
    risks = np.stack(each, axis=1)
    return level_probabilities(risks) if task.spec.ordered else risks / risks.sum(axis=1, keepdims=True)


def _predict(design: Design, y_train: np.ndarray, binary: bool, learner: Learner) -> np.ndarray:
    """(n_test,) probability of class 1, or value."""
    seen = np.isfinite(y_train)
    base = np.full(len(design.test), y_train[seen].mean())
    x_train = design.train
    varies = x_train.shape[1] > 0 and bool((np.nanstd(x_train[~np.isnan(x_train).all(axis=1)], axis=0) > 0).any())
    enough = seen.sum() >= 2 * MIN_PER_CLASS and (
        not binary or min(y_train[seen].sum(), (1 - y_train[seen]).sum()) >= MIN_PER_CLASS
    )
    if not varies or not enough:
        return base
    ids = design.fitted_on
    if learner == "gaussian process":
        return gaussian_process(x_train, design.test, y_train, binary=binary)
    if learner == "gram":
        return gram_ridge(x_train, design.test, y_train, design.families, binary=binary)
    if learner == "ridge" and binary:
        return fit_ridge(x_train, 2 * y_train - 1, train_ids=ids).predict_probability(design.test)[:, 0]
    if learner == "ridge":
        return fit_ridge(x_train, y_train, train_ids=ids).predict(design.test)[:, 0]
    if binary:
        return fit_logistic(x_train, y_train, COVARIATE_ALPHAS, ids).predict_probability(design.test)[:, 0]
    return fit_ridge(x_train, y_train, COVARIATE_ALPHAS, ids).predict(design.test)[:, 0]


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


def covariate_design(table: pd.DataFrame, specs: Sequence[Covariate]) -> Callable[[Fold], Design]:
    """Covariates of a fold, encoded as its training rows say; `table` has a row per subject id."""

    def design(fold: Fold) -> Design:
        train, test = table.loc[list(fold.train)], table.loc[list(fold.test)]
        encoder = CovariateEncoder.fit(train, specs)
        return Design(encoder.apply(train), encoder.apply(test), encoder.ids)

    return design


def _prevalence(study: StudySettings, cohort: Cohort, tasks: Sequence[Task]) -> list[Baseline]:
    del study, cohort

    def design(fold: Fold) -> Design:
        return Design(np.zeros((len(fold.train), 0)), np.zeros((len(fold.test), 0)), fold.train)

    return [Baseline(design, tuple(tasks), "logistic")]


def _nuisance(study: StudySettings, cohort: Cohort, tasks: Sequence[Task]) -> list[Baseline]:
    del study
    made = [(nuisance_table(cohort, task), task) for task in tasks]
    return [Baseline(covariate_design(table, specs), (task,), "logistic") for (table, specs), task in made if specs]


def _clinical(study: StudySettings, cohort: Cohort, tasks: Sequence[Task]) -> list[Baseline]:
    del study
    specs = clinical_specs(cohort.covariate_specs)
    return [Baseline(covariate_design(cohort.covariates, specs), tuple(tasks), "logistic")] if specs else []


def edge_rows(features: Features, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
    """(n_subjects, n_measures * n_edges) edges as the model has them but not scaled, absent ones NaN."""
    found = features.rows(cohort, ids).arrays["connectome"]
    edges = found.rows["edges"].astype(float) * found.constants["scale"] + found.constants["mean"]
    mask = found.rows["node_mask"] > 0
    rows, columns = upper_indices(edges.shape[-1])
    present = (mask[:, rows] & mask[:, columns])[:, None]
    return np.where(present, edges[:, :, rows, columns], np.nan).reshape(len(ids), -1)


def edge_table(study: StudySettings, cohort: Cohort, fold: Fold) -> Design:
    """Upper-triangle edges of all measures after the study's feature steps, absent ones NaN."""
    features = fit_steps(cohort, fold.train, study.features, ("connectome",))
    return Design(edge_rows(features, cohort, fold.train), edge_rows(features, cohort, fold.test), features.ids)


def _ridge(study: StudySettings, cohort: Cohort, tasks: Sequence[Task]) -> list[Baseline]:
    return [Baseline(partial(edge_table, study, cohort), tuple(tasks), "ridge")] if cohort.regions else []


def _linear_all(study: StudySettings, cohort: Cohort, tasks: Sequence[Task]) -> list[Baseline]:
    """Every standardised column that the model sees, side by side."""
    has = {
        "connectome": bool(cohort.regions),
        "clinical": bool(clinical_specs(cohort.covariate_specs)),
        "image": any(cohort.volumes),
    }
    known = tuple(name for name, there in has.items() if there and name in study.model.branches)

    def design(fold: Fold) -> Design:
        features = fit_steps(cohort, fold.train, study.features, known)
        train, test = (
            np.concatenate([block.values for block in blocks_of(features, None, cohort, ids)], axis=1)
            for ids in (fold.train, fold.test)
        )
        return Design(train, test, features.ids, _families(cohort, fold))

    return [Baseline(design, tuple(tasks), "gram")] if known else []


def _tangent(study: StudySettings, cohort: Cohort, tasks: Sequence[Task]) -> list[Baseline]:
    """The tangent block of the closed-form core; only where the edges are correlations."""
    asked = study.features.edges.tangent
    if not cohort.regions or (asked is None and not holds_correlations(cohort, cohort.ids)):
        return []
    settings = FeatureSettings(edges=EdgeSettings(tangent=asked or CORRELATIONS))

    def design(fold: Fold) -> Design:
        features = fit_steps(cohort, fold.train, settings, ("connectome",))
        train, test = (blocks_of(features, features, cohort, ids)[-1].values for ids in (fold.train, fold.test))
        return Design(train, test, features.ids, _families(cohort, fold))

    return [Baseline(design, tuple(tasks), "gram")]


def _families(cohort: Cohort, fold: Fold) -> np.ndarray:
    return kinship_groups(cohort.family[cohort.positions(fold.train)])


def _image(name: str, learner: Learner) -> Maker:
    """A control of an image study: a table that no row of another subject enters, and what learns from it."""

    def make(study: StudySettings, cohort: Cohort, tasks: Sequence[Task]) -> list[Baseline]:
        table = image_table(study, cohort, TABLES[name])
        if table is None:
            return []

        def design(fold: Fold) -> Design:
            return Design(*rows_of(table, cohort, fold), fold.train, _families(cohort, fold))

        return [Baseline(design, tuple(tasks), learner)]

    return make


BASELINES: dict[str, Maker] = {
    "prevalence": _prevalence,
    "nuisance_only": _nuisance,
    "clinical_only": _clinical,
    "ridge": _ridge,
    "linear_all": _linear_all,
    "tangent_ridge": _tangent,
    "random_encoder": _image("random_encoder", "ridge"),
    "volumes": _image("volumes", "logistic"),
    "quantiles": _image("quantiles", "logistic"),
    "volumes_quantiles": _image("volumes_quantiles", "logistic"),
    "pca_gpr": _image("pca_gpr", "gaussian process"),
}


def baselines_of(study: StudySettings, cohort: Cohort, tasks: Sequence[Task]) -> Mapping[str, list[Baseline]]:
    """The study's baselines that have something to learn from."""
    made = {name: BASELINES[name](study, cohort, tasks) for name in study.baselines}
    return {name: found for name, found in made.items() if found}
