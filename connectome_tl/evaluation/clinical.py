"""What a clinician asks: net benefit at a threshold, and whether groups fare alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals import Widening, clustered_half_width
from connectome_tl.evaluation.metrics import binary_scores, regression_scores
from connectome_tl.evaluation.predictions import OutOfFold
from connectome_tl.settings.results import Score
from connectome_tl.settings.statistics import DecisionCurve, SubgroupScore

THRESHOLDS: tuple[float, ...] = tuple(round(0.05 * k, 2) for k in range(1, 13))
NET_BENEFIT_WIDENING = Widening(2.5, 1.0)  # as intervals.WIDENING, asked for by benchmarks/calibration.py
MIN_GROUP = 10


def decision_curve(rows: OutOfFold, task: str, model: str, thresholds: Sequence[float] = THRESHOLDS) -> DecisionCurve:
    """Net benefit of acting when risk >= threshold (Vickers & Elkin 2006, doi:10.1177/0272989X06295361).

    True positives minus false positives at the threshold's odds, per infant, averaged over repeats;
    intervals over families.

    Raises:
        DataError: a threshold outside (0, 1).
    """
    if not all(0 < t < 1 for t in thresholds):
        raise DataError("a decision threshold is a probability", expected="between 0 and 1", got=str(tuple(thresholds)))
    y, n = rows.y_true, rows.y_true.size
    benefit, half, everyone = [], [], []
    for threshold in thresholds:
        worth = np.where(y == 1, 1.0, -threshold / (1 - threshold))
        acted = np.nanmean(np.where(np.isnan(rows.score), np.nan, rows.score >= threshold), axis=0)
        value = acted * worth
        benefit.append(float(value.mean()))
        half.append(clustered_half_width((value - value.mean()) / n, rows.cluster, NET_BENEFIT_WIDENING))
        everyone.append(float(worth.mean()))
    return DecisionCurve(
        task=task,
        model=model,
        threshold=tuple(float(t) for t in thresholds),
        net_benefit=tuple(benefit),
        low=tuple(b - h for b, h in zip(benefit, half)),
        high=tuple(b + h for b, h in zip(benefit, half)),
        treat_all=tuple(everyone),
        n=n,
        method=f"mean over repeats; t interval over families, variance x {NET_BENEFIT_WIDENING.factor:g}",
    )


def subgroup_scores(
    rows: OutOfFold, groups: Mapping[str, str], variable: str, task: str, model: str, base: np.ndarray | None = None
) -> list[SubgroupScore]:
    """The main score in each group of one variable; groups under 10 (or 5 of a class) are suppressed.

    Args:
        groups: group of each subject; unknown or "" makes a group "unknown".
        base: for a regression, what R2 is measured against (see `metrics.regression_base`).
    """
    names = pd.Series([groups.get(subject, "") or "unknown" for subject in rows.subjects], dtype="str")
    found = []
    for group in sorted(names.unique()):
        members = (names == group).to_numpy()
        part = OutOfFold(
            rows.subjects[members],
            rows.y_true[members],
            rows.score[:, members],
            rows.predicted[:, members],
            rows.fold[:, members],
            np.unique(rows.cluster[members], return_inverse=True)[1].ravel(),
        )
        found.append(
            SubgroupScore(
                variable=variable,
                group=str(group),
                n=int(members.sum()),
                score=_group_score(part, task, model, None if base is None else base[:, members]),
                task=task,
                model=model,
            )
        )
    return found


def _group_score(part: OutOfFold, task: str, model: str, base: np.ndarray | None) -> Score | None:
    n = part.y_true.size
    if n < MIN_GROUP:
        return None
    if base is not None:
        return regression_scores(part, base, task, model)[1]  # MAE: R2 of a group has another denominator
    if min(part.y_true.sum(), n - part.y_true.sum()) < MIN_GROUP / 2:
        return None
    return binary_scores(part, task, model)[0]
