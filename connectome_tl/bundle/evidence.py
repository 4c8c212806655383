"""Out-of-fold results of a model, as the pooled numbers that a bundle may contain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError
from connectome_tl.evaluation.clinical.calibration import fit_platt, logit
from connectome_tl.evaluation.intervals.conformal import fit_conformal_interval
from connectome_tl.evaluation.scores.compare import compare
from connectome_tl.evaluation.scores.metrics import BASE_MODEL, scores
from connectome_tl.evaluation.scores.predictions import OutOfFold, out_of_fold
from connectome_tl.settings.records.bundles import SMALLEST_COUNT, BundledTask, ExpectedScore, Scaling, count_text
from connectome_tl.settings.records.results import Comparison
from connectome_tl.settings.records.scores import Score
from connectome_tl.tasks import Task

LEVEL = 0.9  # of conformal sets and intervals
CLINICAL = "clinical_only"
_DECIMALS = 2


def bundled_tasks(
    predictions: pd.DataFrame,
    tasks: Sequence[Task],
    model: str,
    families: Mapping[str, str],
    *,
    kfold: bool,
    n_labelled: int | None,
    n_subjects: int,
) -> tuple[BundledTask, ...]:
    """Scores, calibration, conformal limits and the comparison with the clinical model, outcome by outcome.

    Args:
        predictions: the prediction table of the run, with the model's own rows.
        families: of each subject. n_subjects: of the study, as stated in the bundle.
    """
    table = predictions[predictions["model"].isin((model, BASE_MODEL))]
    found = [s for s in scores(table, tasks, families, n_labelled=n_labelled) if s.model == model]
    return tuple(_task(predictions, task, model, families, found, kfold, n_subjects) for task in tasks)


def _task(
    predictions: pd.DataFrame,
    task: Task,
    model: str,
    families: Mapping[str, str],
    found: Sequence[Score],
    kfold: bool,
    n_subjects: int,
) -> BundledTask:
    rows = out_of_fold(predictions, task, model, families)
    clinical = None
    if ((predictions["model"] == CLINICAL) & (predictions["task"] == task.name)).any():
        clinical = compare(predictions, task, model, CLINICAL, task.spec.primary, families, kfold=kfold)
    n, n_positive = rows.y_true.size, int(rows.y_true.sum()) if task.is_binary else None
    return BundledTask(
        task=task,
        n=count_text(n, n_subjects),
        n_positive="" if n_positive is None else count_text(n_positive, n),
        expected=released_scores([score for score in found if score.task == task.name], n, n_positive),
        against_clinical="not compared" if clinical is None else clinical.verdict,
        difference=None if clinical is None else _difference(clinical),
        scaling=_scaling(rows) if task.is_binary else None,
        level=LEVEL,
        held_from=held_from(probabilities(rows), rows.y_true) if task.n_levels else (),
        half_width=None if task.n_levels else _half_width(rows),
        spread=_spread(rows, task),
    )


_SHARES = {"sensitivity": (True, False), "specificity": (False, True), "balanced_accuracy": (True, True)}
"""Scores that are fractions of the positive or of the negative class, or combine both."""


def released_scores(scores: Sequence[Score], n: int, n_positive: int | None) -> tuple[ExpectedScore, ...]:
    """Scores for a bundle; proportions of fewer than ten people are omitted, since they reveal counts (0.86 is 6 of 7).

    Args:
        n_positive: subjects of the positive class among `n`; None for outcomes without one.
    """
    hidden: set[str] = set()
    if n_positive is not None:
        few = n_positive < SMALLEST_COUNT, n - n_positive < SMALLEST_COUNT
        hidden = {name for name, of in _SHARES.items() if any(a and b for a, b in zip(of, few, strict=True))}
    return tuple(rounded(score) for score in scores if score.metric not in hidden)


def rounded(score: Score) -> ExpectedScore:
    """Round to two decimals, since more would reveal counts and single subjects."""
    value, low, high = (round(x, _DECIMALS) for x in (score.value, score.low, score.high))
    return ExpectedScore(metric=score.metric, value=value, low=low, high=high)


def _difference(found: Comparison) -> ExpectedScore:
    value, low, high = (round(x, _DECIMALS) for x in (found.difference, found.low, found.high))
    return ExpectedScore(metric=found.metric, value=value, low=low, high=high)


def probabilities(rows: OutOfFold) -> np.ndarray:
    """Mean predicted probabilities over repeats, (n_subjects, n_levels)."""
    if rows.probability is not None:
        return np.asarray(np.nanmean(rows.probability, axis=0))
    risk = np.nanmean(rows.score, axis=0)
    return np.column_stack([1.0 - risk, risk])


def held_from(probability: np.ndarray, y: np.ndarray, level: float = LEVEL) -> tuple[float, ...]:
    """Smallest probability at which each level is in the conformal set; 0 if it is always included.

    A level is included if at least `1 - level` of its calibration subjects, including the new one, have at most its
    probability, so that one order statistic per level is sufficient. As the probability of a single subject, it is
    rounded down to two decimals, towards larger sets.

    Args:
        probability: (n_subjects, n_levels) out of fold. y: (n_subjects,) levels.
    """
    found = []
    for k in range(probability.shape[1]):
        own = np.sort(probability[y == k, k])
        # Held when (1 + number of own probabilities <= p) / (n + 1) > 1 - level.
        needed = int(np.floor((1.0 - level) * (own.size + 1) + 1e-9))  # own probabilities that must not exceed p
        found.append(0.0 if needed < 1 or not own.size else float(np.floor(own[needed - 1] * 100) / 100))
    return tuple(found)


def _half_width(rows: OutOfFold) -> float | None:
    width = fit_conformal_interval(np.nanmean(rows.predicted, axis=0), rows.y_true, LEVEL).half_width
    if not np.isfinite(width):
        return None
    # The error of a single subject is rounded up to two digits.
    step = 10.0 ** (np.floor(np.log10(width)) - 1) if width > 0 else 1.0
    return float(f"{np.ceil(width / step - 1e-9) * step:.6g}")


def _scaling(rows: OutOfFold) -> Scaling | None:
    try:
        found = fit_platt(np.nanmean(rows.score, axis=0), rows.y_true)
    except DataError:
        return None
    return Scaling(intercept=round(found.intercept, 4), slope=round(found.slope, 4))


def _spread(rows: OutOfFold, task: Task) -> float | None:
    """Pooled standard deviation of a subject's predictions over repeats; None with one repeat or several levels."""
    if rows.n_repeats < 2 or task.spec.by_level:
        return None
    values = logit(rows.score) if task.is_binary else rows.score
    seen = np.isfinite(values).sum(axis=0) > 1
    if not seen.any():
        return None
    return float(np.sqrt(np.nanvar(values[:, seen], axis=0, ddof=1).mean()))
