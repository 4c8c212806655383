"""Refit the closed-form core on many labellings of the same rows, for permutation tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import families_of
from connectome_tl.settings.core import CoreSettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.closed_form.core import fit_core
from connectome_tl.training.closed_form.fitted_core import CoreFit
from connectome_tl.training.context import Context
from connectome_tl.training.core_stage import (
    blocks_of,
    labels_of,
    own_scores,
    source_core,
    tangent_features,
)
from connectome_tl.training.plans import FitPlan


@dataclass(frozen=True, eq=False)
class RefittedCore:
    """Cores of one outcome for many labellings of the same training rows.

    Attributes:
        usable: labellings with at least two different values. n_scores: columns of the fit per labelling.
        fit: columns `n_scores * i` to `n_scores * (i + 1)` are those of labelling `usable[i]`.
    """

    task: Task
    usable: tuple[int, ...]
    n_scores: int
    fit: CoreFit


def refitted_cores(
    plan: FitPlan,
    cohorts: Mapping[str, Cohort],
    done: Mapping[str, FitResult],
    outcomes: np.ndarray,
    tasks: Sequence[str] | None = None,
) -> Iterator[RefittedCore]:
    """Refit the core of a plan on many labellings of its training rows, one outcome after another.

    Args:
        done: the finished parents of the plan.
        outcomes: (n_labellings, n_train, n_tasks) of all the plan's tasks, NaN where missing.
        tasks: requested tasks; None for all.
    """
    yield from _refits(plan, Context(cohorts, done), outcomes, tasks)


def _refits(
    plan: FitPlan, context: Context, outcomes: np.ndarray, tasks: Sequence[str] | None = None
) -> Iterator[RefittedCore]:
    cohort, ids = context.cohort(plan.train.cohort), plan.train.ids
    features, in_tangent = context.features(plan, cohort), tangent_features(plan, context, cohort)
    source, _ = source_core(plan, context) or (None, None)
    known = () if source is None else source.tasks
    settings = plan.core or CoreSettings()
    blocks = blocks_of(features, in_tangent, cohort, ids, settings.unpenalised)
    scores = None if source is None else source.scores_for((), cohort, ids)
    families = [str(group) for group in families_of(cohort, ids)]
    for t, task in enumerate(cohort.task(name) for name in plan.tasks):
        if tasks is not None and task.name not in tasks:
            continue
        labels = [labels_of(one[:, t], task) for one in outcomes]
        usable = [i for i, one in enumerate(labels) if _has_two(one)]
        if usable:
            fitted = fit_core(
                blocks,
                np.concatenate([labels[i] for i in usable], axis=1),
                task.score_kinds * len(usable),
                families,
                settings,
                source=scores and replace(scores, own=own_scores([task], known) * len(usable)),
            )
            yield RefittedCore(task, tuple(usable), task.n_scores, fitted)


def refitted_scores(
    plan: FitPlan,
    cohorts: Mapping[str, Cohort],
    done: Mapping[str, FitResult],
    outcomes: np.ndarray,
    predict: Sequence[str],
) -> dict[str, np.ndarray]:
    """Scores of cores fitted on other outcomes; arguments as for `refitted_cores`.

    Returns:
        Scores (n_scores, n_test, n_labellings) by outcome: one ranking score, or one per class; NaN for a labelling
        with a single value.
    """
    context = Context(cohorts, done)
    cohort = context.cohort(plan.train.cohort)
    features, in_tangent = context.features(plan, cohort), tangent_features(plan, context, cohort)
    source = source_core(plan, context)
    settings = plan.core or CoreSettings()
    blocks = blocks_of(features, in_tangent, cohort, predict, settings.unpenalised)
    if source is not None:
        blocks.append(source[0].scores(cohort, predict))
    found = {
        task.name: np.full((task.n_scores, len(predict), len(outcomes)), np.nan)
        for task in (cohort.task(name) for name in plan.tasks)
    }
    for refit in _refits(plan, context, outcomes):
        predicted = refit.fit.predict(blocks).reshape(len(predict), len(refit.usable), refit.n_scores)
        found[refit.task.name][:, :, list(refit.usable)] = predicted.transpose(2, 0, 1)
    return found


def _has_two(labels: np.ndarray) -> bool:
    """Whether every column has two different known values."""
    return all(len(np.unique(column[np.isfinite(column)])) > 1 for column in labels.T)
