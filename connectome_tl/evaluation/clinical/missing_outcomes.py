"""Sensitivity to missing outcomes: returners, inverse-probability weights, best and worst case."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.design import Design
from connectome_tl.evaluation.baselines.engines.learners import LOGISTIC, predict_baseline
from connectome_tl.evaluation.baselines.engines.linear import LinearFit
from connectome_tl.evaluation.baselines.engines.logistic import fit_logistic
from connectome_tl.evaluation.intervals.pairs import within_fold_pairs
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold, prediction_rows
from connectome_tl.settings.records.statistics import GroupDifference, MissingOutcomes
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task

_ALPHAS = tuple(float(a) for a in np.logspace(-1, 3, 9))
_LARGEST_WEIGHT = 10.0  # times the mean weight, so that no single subject dominates


def returners_against_lost(
    covariates: pd.DataFrame, observed: np.ndarray, tasks: Sequence[str] = ()
) -> list[GroupDifference]:
    """Means of each numeric covariate, (n_subjects, n_covariates), in subjects with and without the outcome.

    The standardised difference is relative to the pooled standard deviation; a value above 0.1 is usually
    considered an imbalance. Missing values are ignored column by column.

    Args:
        tasks: names of the outcomes that the same subjects lack.
    """
    found = []
    for column in covariates.columns:
        values = covariates[column].to_numpy(dtype=float)
        one, two = (values[group & np.isfinite(values)] for group in (observed, ~observed))
        spread = np.sqrt((one.var(ddof=1) + two.var(ddof=1)) / 2) if min(one.size, two.size) > 1 else np.nan
        means = [float(v.mean()) if v.size else float("nan") for v in (one, two)]
        found.append(
            GroupDifference(
                tasks=tuple(tasks),
                variable=str(column),
                n_returned=one.size,
                n_lost=two.size,
                returned=means[0],
                lost=means[1],
                standardised_difference=float((means[0] - means[1]) / spread) if spread > 0 else float("nan"),
            )
        )
    return found


def observation_probability(covariates: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Probability (n_subjects,) that an outcome is observed, by logistic ridge on complete covariates.

    Fitted on all subjects and used only as weights, never for a prediction. 1 if nothing is missing.

    Raises:
        DataError: covariates with missing values.
    """
    if not np.isfinite(covariates).all():
        raise DataError("covariates must be complete here", remedy="Impute them first, without the outcome.")
    if observed.all():
        return np.ones(observed.size)
    fit: LinearFit = fit_logistic(covariates, observed.astype(float), _ALPHAS)
    return fit.predict_probability(covariates)[:, 0]


def missing_outcomes(
    predictions: pd.DataFrame,
    task: Task,
    model: str,
    probability_observed: Mapping[str, float] | None = None,
    only: Collection[str] | None = None,
    filled: str = "all",
) -> MissingOutcomes:
    """AUC of a binary task: observed, inverse-probability weighted, and with extreme imputations.

    Best and worst case approximate the largest and smallest AUC over all values of the missing outcomes, by a
    greedy search that changes one outcome at a time.

    Args:
        probability_observed: probability of each subject to have the outcome, for the weights.
        only: impute only these subjects (for example, those who died or were untestable); `filled` names them.

    Raises:
        DataError: not a binary task, or the table breaks its contract.
    """
    if not task.is_binary:
        raise DataError("best and worst cases are for binary outcomes", got=f"{task.name} is {task.kind}")
    observed = out_of_fold(predictions, task, model)
    known = dict(zip(observed.subjects, observed.y_true))
    here = (predictions["task"] == task.name) & (predictions["model"] == model)
    everyone = sorted(predictions.loc[here, "subject"].astype(str).unique())
    free = [s for s in everyone if s not in known and (only is None or s in only)]
    weights = probability_observed or {}
    share = len(known) / len(everyone)
    weight = np.array([share / max(weights.get(s, share), 1e-6) for s in observed.subjects])
    return MissingOutcomes(
        task=task.name,
        model=model,
        metric=task.spec.tested,
        filled=filled,
        n_observed=len(known),
        n_missing=len(free),
        complete_cases=within_fold_pairs(observed.y_true, observed.score, observed.fold).auc,
        weighted=weighted_auc(observed, np.minimum(weight / weight.mean(), _LARGEST_WEIGHT)),
        best_case=_extreme_auc(predictions[here], known, free, best=True),
        worst_case=_extreme_auc(predictions[here], known, free, best=False),
        method="within-fold AUC; weights 1 / P(observed | covariates), at most 10 times their mean",
    )


def missingness_predictions(
    study: StudySettings, cohort: Cohort, splits: SplitPlan, tasks: Sequence[Task]
) -> pd.DataFrame:
    """Out-of-fold predictions by a model of missingness indicators only, as rows of the prediction table.

    The features are one indicator per covariate with missing values, one for the age, and the share of missing
    regions. If they predict the outcome, missingness is informative, and imputed values may be, too. Empty
    without missing values.
    """
    gaps = cohort.covariates.isna().astype(float)
    gaps["age"] = (~np.isfinite(cohort.age)).astype(float)
    if cohort.regions:
        gaps["regions"] = (~cohort.node_mask).mean(axis=1)
    gaps = gaps.loc[:, gaps.nunique() > 1]
    if gaps.shape[1] == 0:
        return pd.DataFrame()
    values, tables = gaps.to_numpy(dtype=float), []
    for repeat, number, fold in splits.folds():
        train, test = cohort.positions(fold.train), cohort.positions(fold.test)
        design = Design(values[train], values[test], fold.train)
        for task in tasks:
            y = cohort.targets[task.name].to_numpy(float)
            score = predict_baseline(task, design, y[train], LOGISTIC)
            tables.append(
                prediction_rows(task, "missingness_only", repeat, number, fold.test, y[test], score, study.threshold)
            )
    return pd.concat(tables, ignore_index=True)


def weighted_auc(rows: OutOfFold, weight: np.ndarray) -> float:
    """Within-fold AUC with pairs weighted by the product of the weights (n_subjects,) of both subjects."""
    pairs = within_fold_pairs(rows.y_true, rows.score, rows.fold)
    both = weight[pairs.positive][:, None] * weight[pairs.negative][None, :]
    total = (both * pairs.met).sum()
    return float((both * pairs.won).sum() / total) if total else float("nan")


def _extreme_auc(rows: pd.DataFrame, known: Mapping[str, float], free: Sequence[str], *, best: bool) -> float:
    """Within-fold AUC with the free outcomes chosen to maximise (or minimise) it.

    Initially, outcomes are positive above (or below) the median risk of the known outcomes. Then the outcome
    with the largest gain is changed until none gains.
    """
    taken = [*known, *free]
    where = {subject: i for i, subject in enumerate(taken)}
    rows = rows[rows["subject"].isin(where)]
    repeats = [
        (of["subject"].map(where).to_numpy(int), of["y_score"].to_numpy(float), of["fold"].to_numpy(int))
        for _, of in rows.groupby("repeat")
    ]

    def aucs(labellings: np.ndarray) -> np.ndarray:
        parts = [
            within_fold_counts(labellings[at], np.tile(s[:, None], labellings.shape[1]), f) for at, s, f in repeats
        ]
        won, met = np.sum(parts, axis=0)
        with np.errstate(invalid="ignore"):
            return np.where(met > 0, won / met, np.nan)

    risk = rows.groupby("subject")["y_score"].mean()
    likely = (risk.reindex(list(free)) >= np.median(risk.reindex(list(known)))).to_numpy() == best
    y = np.r_[np.array(list(known.values()), dtype=float), likely.astype(float)]
    found = float(aucs(y[:, None])[0])
    places = np.arange(len(known), len(taken))
    for _ in places:
        turned = np.tile(y[:, None], len(free))
        turned[places, np.arange(len(free))] = 1.0 - y[places]
        values = np.nan_to_num(aucs(turned) if best else -aucs(turned), nan=-np.inf)
        if not values.max() > (found if best else -found):
            break
        y, found = turned[:, values.argmax()], float(values.max() if best else -values.max())
    return found
