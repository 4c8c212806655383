"""Decision curves (net benefit by threshold) and scores of subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals.out_of_fold import clustered_half_width
from connectome_tl.evaluation.scores.metrics import task_scores
from connectome_tl.evaluation.scores.predictions import OutOfFold
from connectome_tl.settings.metrics import Widening
from connectome_tl.settings.records.statistics import DecisionCurve, SubgroupScore
from connectome_tl.tasks import Task

THRESHOLDS: tuple[float, ...] = tuple(round(0.05 * k, 2) for k in range(1, 13))
NET_BENEFIT_WIDENING = Widening(2.5, 1.0)  # as intervals.WIDENING, tuned by benchmarks/calibration.py
MIN_GROUP = 10


def decision_curve(rows: OutOfFold, task: str, model: str, thresholds: Sequence[float] = THRESHOLDS) -> DecisionCurve:
    """Net benefit of acting when risk >= threshold (Vickers & Elkin 2006, doi:10.1177/0272989X06295361).

    True positives minus false positives weighted by the odds of the threshold, per subject, averaged over
    repeats; intervals are clustered by family.

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
    rows: OutOfFold, groups: Mapping[str, str], variable: str, task: Task, model: str
) -> list[SubgroupScore]:
    """The primary score in each group of one variable; groups under 10 subjects (or 5 of a class) are suppressed.

    If only one group is suppressed, its score could be derived from the total and the other groups; the next
    smallest group is then suppressed, too. For a regression the score is the MAE, since R2 depends on the
    variance within a group.

    Args:
        groups: group of each subject; a missing group or "" becomes the group "unknown".
    """
    names = pd.Series([groups.get(subject, "") or "unknown" for subject in rows.subjects], dtype="str")
    members = {str(group): (names == group).to_numpy() for group in sorted(names.unique())}
    sizes = {group: int(inside.sum()) for group, inside in members.items()}
    small = {group for group, inside in members.items() if _too_small(rows.y_true[inside], task)}
    if len(small) == 1 and len(members) > 1:
        small.add(min(members.keys() - small, key=lambda group: (sizes[group], group)))
    shown = "mae" if task.form == "value" else task.spec.primary
    found = []
    for group, inside in members.items():
        score = None
        if group not in small:
            score = next(s for s in task_scores(rows.at(inside), task, model) if s.metric == shown)
        hidden = group in small and min(sizes[name] for name in small) < MIN_GROUP
        found.append(
            SubgroupScore(
                variable=variable,
                group=group,
                n=None if hidden else sizes[group],
                score=score,
                task=task.name,
                model=model,
            )
        )
    return found


def _too_small(y: np.ndarray, task: Task) -> bool:
    """Whether there are under 10 subjects, or under 5 in the smallest class or level that is present."""
    if y.size < MIN_GROUP:
        return True
    if not task.n_levels:
        return False
    counts = np.bincount(y.astype(int), minlength=task.n_levels)
    if task.spec.by_level:
        counts = counts[counts > 0]
    return bool(counts.size < 2 or counts.min() < MIN_GROUP / 2)
