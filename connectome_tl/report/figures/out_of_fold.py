"""Out-of-fold predictions per repeat, fold and subject, for the figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from connectome_tl.settings.records.results import Prediction


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Predictions of one model for one task, one row per subject and repeat, without rows that lack a true value.

    Attributes:
        subject, repeat, fold: integer codes, (n_rows,).
        y_true, y_score: true values and scores, (n_rows,).
    """

    subject: np.ndarray
    repeat: np.ndarray
    fold: np.ndarray
    y_true: np.ndarray
    y_score: np.ndarray

    @property
    def n_repeats(self) -> int:
        """Number of repeats."""
        return len(np.unique(self.repeat))


@dataclass(frozen=True, eq=False)
class SubjectScores:
    """One row per subject: true value, and mean, minimum and maximum score over the repeats."""

    y_true: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def group_predictions(predictions: Iterable[Prediction]) -> dict[tuple[str, str], OutOfFold]:
    """Group `predictions` by (task, model), without rows whose true value or score is undefined."""
    rows: dict[tuple[str, str], list[tuple[int, int, int, float, float]]] = {}
    codes: dict[str, int] = {}
    for p in predictions:
        if np.isfinite(p.y_true) and np.isfinite(p.y_score):
            code = codes.setdefault(p.subject, len(codes))
            rows.setdefault((p.task, p.model), []).append((code, p.repeat, p.fold, p.y_true, p.y_score))
    grouped = {}
    for key, values in rows.items():
        subject, repeat, fold, y_true, y_score = (np.array(column) for column in zip(*values, strict=True))
        grouped[key] = OutOfFold(subject, repeat, fold, y_true.astype(float), y_score.astype(float))
    return grouped


def subject_scores(rows: OutOfFold) -> SubjectScores:
    """Mean and range over the repeats, one row per subject in order of first appearance."""
    _, first, position = np.unique(rows.subject, return_index=True, return_inverse=True)
    n_subjects = len(first)
    total = np.bincount(position, weights=rows.y_score, minlength=n_subjects)
    low, high = np.full(n_subjects, np.inf), np.full(n_subjects, -np.inf)
    np.minimum.at(low, position, rows.y_score)
    np.maximum.at(high, position, rows.y_score)
    return SubjectScores(rows.y_true[first], total / np.bincount(position, minlength=n_subjects), low, high)


def roc_points(y_true: np.ndarray, y_score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates from (0, 0) to (1, 1), one point per distinct score."""
    order = np.argsort(-y_score, kind="stable")
    truth, score = y_true[order], y_score[order]
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    true_positives = np.cumsum(truth)[last]
    false_positives = last + 1 - true_positives
    sensitivity = np.append(0.0, true_positives / true_positives[-1])
    return np.append(0.0, false_positives / false_positives[-1]), sensitivity


def fold_averaged_roc(rows: OutOfFold) -> tuple[np.ndarray, np.ndarray]:
    """One ROC curve per repeat that compares subjects within a test fold only.

    Scores of different folds come from different fits and are not comparable. Therefore, one curve is made
    per fold, and the curves are averaged vertically, weighted by their number of positive-negative pairs.
    The area under the average is the pair-weighted AUC.

    Returns:
        Common false positive rates (n_points,), each value twice (before and after its step), and
        true positive rates (n_repeats, n_points). Repeats without any pair are left out; both
        arrays are empty where no fold has both classes.
    """
    curves: list[list[tuple[float, np.ndarray, np.ndarray]]] = []
    for repeat in np.unique(rows.repeat):
        of_repeat = []
        for fold in np.unique(rows.fold[rows.repeat == repeat]):
            here = (rows.repeat == repeat) & (rows.fold == fold)
            truth = rows.y_true[here]
            n_pairs = float(truth.sum() * (1 - truth).sum())
            if n_pairs > 0:
                of_repeat.append((n_pairs, *roc_points(truth, rows.y_score[here])))
        if of_repeat:
            curves.append(of_repeat)
    if not curves:
        return np.empty(0), np.empty((0, 0))
    grid = np.unique(np.concatenate([rate for of_repeat in curves for _, rate, _ in of_repeat]))
    averaged = []
    for of_repeat in curves:
        weights = np.array([n_pairs for n_pairs, _, _ in of_repeat])
        both = np.array([_before_and_after(rate, tpr, grid) for _, rate, tpr in of_repeat])
        averaged.append(np.einsum("f,fsx->xs", weights / weights.sum(), both).ravel())
    return np.repeat(grid, 2), np.array(averaged)


def _before_and_after(rate: np.ndarray, tpr: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Left and right limits of a curve with vertical steps, (2, n_grid)."""
    knots, first = np.unique(rate, return_index=True)
    last = np.append(first[1:], len(rate)) - 1
    right_of = np.clip(np.searchsorted(knots, grid, side="right") - 1, 0, len(knots) - 1)
    left_of = np.clip(np.searchsorted(knots, grid, side="left"), 0, len(knots) - 1)
    exact = knots[right_of] == grid
    gap = np.where(exact, 1.0, knots[left_of] - knots[right_of])
    share = np.where(exact, 0.0, (grid - knots[right_of]) / gap)
    between = tpr[last][right_of] * (1 - share) + tpr[first][left_of] * share
    return np.array([np.where(exact, tpr[first][right_of], between), np.where(exact, tpr[last][right_of], between)])
