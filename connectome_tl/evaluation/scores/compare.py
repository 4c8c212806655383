"""Paired differences between models on the same subjects and splits, and the rule that words them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals.out_of_fold import (
    Z95,
    Widening,
    auc_variance,
    clustered_half_width,
    design_effect,
    within_fold_pairs,
)
from connectome_tl.evaluation.intervals.resampled import corrected_resampled_t
from connectome_tl.evaluation.scores.metrics import regression_base
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold
from connectome_tl.settings.results import Comparison, VerdictWord
from connectome_tl.tasks import Task

# Half-width of "no difference that matters", per metric; MAE's is this share of the outcome's SD.
MARGINS: dict[str, float] = {"auc": 0.05, "r2": 0.05, "brier": 0.01, "mae": 0.05}
SIGNS: dict[str, int] = {"auc": 1, "r2": 1, "brier": -1, "mae": -1}
# Asked for by benchmarks/comparisons.py, as intervals.WIDENING by benchmarks/coverage.py.
DIFFERENCE_WIDENING: dict[str, Widening] = {
    "auc": Widening(2.4, growth=0.4),
    "r2": Widening(3.5, 1.5),
    "brier": Widening(3.5, 2.5),
    "mae": Widening(3.0, 0.5),
}
QUESTIONS: dict[str, str] = {
    "scratch": "Does transfer help (both earlier stages together)?",
    "no_pretrain": "Does pretraining on the older subjects help?",
    "no_adapt": "Does adaptation on unlabelled infants help?",
    "single_task": "Does learning the outcomes jointly help?",
    "no_clinical": "Do clinical covariates add to the connectome?",
    "clinical_only": "Is it better than clinical covariates alone?",
    "nuisance_only": "Is it better than nuisance variables alone (age at scan, sex, site, motion)?",
    "ridge": "Is it better than ridge on the same edges?",
    "prevalence": "Is it better than knowing the prevalence alone?",
}


@dataclass(frozen=True)
class Difference:
    """`model - control` with its 95 % interval."""

    value: float
    low: float
    high: float


def comparisons(
    predictions: pd.DataFrame,
    tasks: Sequence[Task],
    clusters: Mapping[str, str] | None = None,
    model: str = "full",
    controls: Sequence[str] = tuple(QUESTIONS),
    *,
    kfold: bool = False,
) -> list[Comparison]:
    """`model` against every control in the table: AUC for binary tasks, R2 for regressions.

    Args:
        kfold: the splits are those of k-fold cross-validation, where the corrected resampled t test has a meaning.
    """
    found = []
    for task in tasks:
        here = set(predictions.loc[predictions["task"] == task.name, "model"].unique())
        if model in here and (task.is_binary or task.kind == "regression"):
            metric = "auc" if task.is_binary else "r2"
            found += [
                compare(predictions, task, model, control, metric, clusters, kfold=kfold)
                for control in controls
                if control in here and control != model
            ]
    return found


def compare(
    predictions: pd.DataFrame,
    task: Task,
    model: str,
    control: str,
    metric: str,
    clusters: Mapping[str, str] | None = None,
    *,
    kfold: bool = False,
) -> Comparison:
    """One paired difference, its interval over subjects (families) and its verdict.

    Raises:
        DataError: the two models were not tested on the same subjects in the same folds.
    """
    rows, other = (out_of_fold(predictions, task.name, name, clusters) for name in (model, control))
    same = rows.fold.shape == other.fold.shape and (rows.subjects == other.subjects).all()
    if not same or (rows.fold != other.fold).any():
        raise DataError(
            f"task {task.name}: {model} and {control} cannot be compared",
            expected="the same subjects, repeats and folds",
            remedy="Predict both with the same split plan.",
        )
    margin = MARGINS[metric]
    if metric == "auc":
        difference = auc_difference(rows, other)
    elif metric == "r2":
        difference = r2_difference(rows, other, regression_base(predictions, rows, task.name))
    else:
        difference = loss_difference(rows, other, metric)
    if metric == "mae":
        margin *= float(rows.y_true.std())
    return Comparison(
        task=task.name,
        metric=metric,
        model=model,
        control=control,
        question=QUESTIONS.get(control, f"Is {model} better than {control}?"),
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        sign=SIGNS[metric],
        verdict=verdict(difference, SIGNS[metric], margin),
        n=rows.y_true.size,
        n_positive=int(rows.y_true.sum()) if task.is_binary else None,
        margin=margin,
        resampled_p=_resampled_p(rows, other) if kfold else float("nan"),
        method=(
            f"paired over subjects, families together; variance x "
            f"{DIFFERENCE_WIDENING[metric].at(rows.y_true.size):.2g} for training sets; 95 % for these procedures "
            f"on a new cohort of this size; no benefit: within +-{margin:.3g}"
        ),
    )


def _resampled_p(rows: OutOfFold, other: OutOfFold) -> float:
    """p of the corrected resampled t test on mean squared errors (for a binary task: Brier scores) per test fold."""
    gap = (rows.score - rows.y_true) ** 2 - (other.score - rows.y_true) ** 2
    tested = [rows.fold == fold for fold in np.unique(rows.fold)]
    folds = [(gap[r][at[r]].mean(), at[r].sum()) for at in tested for r in range(rows.n_repeats) if at[r].any()]
    means, sizes = np.array(folds).T
    n_test = float(sizes.mean())
    if len(folds) < 2 or 2 * n_test > rows.y_true.size:
        return float("nan")
    return corrected_resampled_t(means, rows.y_true.size - n_test, n_test).p_value


def verdict(difference: Difference, sign: int, margin: float) -> VerdictWord:
    """The rule fixed beforehand: the interval excludes 0, or lies within the margin, or we cannot tell."""
    low, high = sorted((sign * difference.low, sign * difference.high))
    if low > 0:
        return "helps"
    if high < 0:
        return "harms"
    if -margin <= low and high <= margin:
        return "no benefit"
    return "cannot tell"


def auc_difference(rows: OutOfFold, other: OutOfFold, widening: Widening = DIFFERENCE_WIDENING["auc"]) -> Difference:
    """Difference of AUCs over the same pairs; (0, 0) when the two order every pair alike.

    Hanley & McNeil's paired variance (1983, doi:10.1148/radiology.148.3.6878708): that of one AUC
    (halfway between its value at the mean AUC and at .5, where few subjects mislead least), times
    2 (1 - r); r is the correlation of the subjects' influences on the two AUCs.
    """
    one, two = (within_fold_pairs(r.y_true, r.score, r.fold) for r in (rows, other))
    value = one.auc - two.auc
    if not np.isfinite(value):
        return Difference(float("nan"), float("nan"), float("nan"))
    if (one.won == two.won).all():
        return Difference(0.0, 0.0, 0.0)
    n = rows.y_true.size
    influences = [pairs.influence(n) for pairs in (one, two)]
    size = float(np.sqrt((influences[0] ** 2).sum() * (influences[1] ** 2).sum()))
    correlation = float(influences[0] @ influences[1]) / size if size > 0 else 0.0
    variance_at = auc_variance(one.met)
    variance = (variance_at((one.auc + two.auc) / 2.0) + variance_at(0.5)) * (1.0 - min(correlation, 1.0))
    variance *= widening.at(n) * design_effect(influences[0] - influences[1], rows.cluster)
    half = Z95 * float(np.sqrt(variance))
    return Difference(value, max(value - half, -1.0), min(value + half, 1.0))


def r2_difference(
    rows: OutOfFold, other: OutOfFold, base: np.ndarray, widening: Widening = DIFFERENCE_WIDENING["r2"]
) -> Difference:
    """Difference of out-of-fold R2 against the same base (n_repeats, n_subjects)."""
    gain = np.nanmean((other.predicted - rows.y_true) ** 2 - (rows.predicted - rows.y_true) ** 2, axis=0)
    reference = np.nanmean((base - rows.y_true) ** 2, axis=0)
    if reference.mean() == 0:
        return Difference(float("nan"), float("nan"), float("nan"))
    value = float(gain.mean() / reference.mean())
    influence = (gain - value * reference) / (reference.mean() * gain.size)
    half = clustered_half_width(influence, rows.cluster, widening) if gain.any() else 0.0
    return Difference(value, value - half, value + half)


def loss_difference(rows: OutOfFold, other: OutOfFold, metric: str, widening: Widening | None = None) -> Difference:
    """Difference of Brier scores or mean absolute errors (smaller is better)."""
    y = rows.y_true
    if metric == "brier":
        one, two = (np.nanmean((r.score - y) ** 2, axis=0) for r in (rows, other))
    else:
        one, two = (np.nanmean(np.abs(r.predicted - y), axis=0) for r in (rows, other))
    gap = one - two
    value = float(gap.mean())
    unit = float(two.mean())  # the floor is a share of the control's loss
    if not gap.any() or unit == 0:
        return Difference(value, value, value)
    chosen = widening or DIFFERENCE_WIDENING[metric]
    half = unit * clustered_half_width((gap - value) / (gap.size * unit), rows.cluster, chosen)
    return Difference(value, value - half, value + half)
