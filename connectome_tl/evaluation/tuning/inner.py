"""Score a configuration on the inner folds of one outer fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd

from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.errors import DataError, UsageError
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import (
    PlannedFold,
    admit_fits,
    fold_predictions,
    seeded_chains,
    tasks_of,
)
from connectome_tl.evaluation.scores.metrics import BASE_MODEL, matching, task_scores
from connectome_tl.evaluation.scores.predictions import out_of_fold
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.context import checks_of
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import RANDOM, FitPlan
from connectome_tl.training.schemes import StudyCohorts, scheme_named


class Heard(Protocol):
    """Callbacks of a trial; an exception ends the trial."""

    def fold(self, number: int, values: tuple[float, ...]) -> None:
        """Called after each inner fold but the last with its number and the scores so far."""
        ...

    @property
    def inside(self) -> bool:
        """Whether `check` is called."""
        ...

    def check(self, number: int, at: int, loss: float) -> None:
        """Called at each checkpoint of the first network of an inner fold with the loss of held-out rows."""
        ...


def tuned_task(tune: TuneSettings, tasks: Sequence[Task]) -> Task:
    """Outcome whose score is optimised: the one named in the settings, else the first binary one, else the first.

    Raises:
        UsageError: the study has no such outcome.
    """
    if tune.task is None:
        return next((task for task in tasks if task.is_binary), tasks[0])
    for task in tasks:
        if task.name == tune.task:
            return task
    raise UsageError(f"tune.task: no outcome {tune.task!r}", expected=f"one of {', '.join(t.name for t in tasks)}")


class _Checked:
    """Report each checkpoint of the first seed's network once, for new and for stored fits."""

    def __init__(self, item: PlannedFold, task: Task, heard: Heard) -> None:
        self._number, self._task, self._heard = item.fold_number, task.name, heard
        self._keys = [one.key for one in item.plans[0].lineage(without=RANDOM) if one.stage == "finetune"]
        self._told: set[int] = set()

    def __call__(self, plan: FitPlan, at: int, losses: Mapping[str, float]) -> None:
        if plan.key in self._keys:
            self._tell(at, losses)

    def stored(self, results: Mapping[str, FitResult]) -> None:
        for key in self._keys:
            for at, losses in sorted(checks_of(results[key]).items()):
                self._tell(at, losses)

    def _tell(self, at: int, losses: Mapping[str, float]) -> None:
        if self._task in losses and at not in self._told:
            self._told.add(at)
            self._heard.check(self._number, at, losses[self._task])


@dataclass(frozen=True, eq=False)
class InnerFolds:
    """The inner folds of one outer fold.

    Attributes:
        fold: the outer fold. model: name of the scored model. task, metrics: the score.
        store: store of finished fits; identical fits of several trials are made once.
        place: the outer fold in words, for messages.
    """

    study: StudySettings
    cohorts: StudyCohorts
    fold: Fold
    model: str
    task: Task
    metrics: tuple[str, ...]
    store: FitStore | None = None
    place: str = "an outer fold"

    def scores(self, study: StudySettings, heard: Heard | None = None) -> tuple[float, ...]:
        """One number per metric, pooled over all inner folds as for the outer folds.

        Args:
            study: the study with the settings of the trial.
            heard: callbacks for each inner fold. Without it, all inner folds are fitted in one call.

        Raises:
            DataError: a score is undefined (no pair of outcomes in any inner fold).
            LeakageError: a fit used a row of an inner or the outer test fold.
        """
        tasks = tasks_of(study, self.cohorts)
        planned = [self._planned(study, tasks, number) for number in range(len(self.fold.inner))]
        tables: list[pd.DataFrame] = []
        for batch in [planned] if heard is None else [[item] for item in planned]:
            tables += self._predicted(study, batch, heard)
            if heard is not None and len(tables) < len(planned):
                heard.fold(len(tables) - 1, self._score(tables))
        found = self._score(tables)
        if not np.isfinite(found).all():
            raise DataError(
                f"the inner folds of {self.place} give no {', '.join(self.metrics)} of {self.task.name}",
                expected="both classes among the rows that an inner fold tests",
                remedy="Use fewer inner folds (splits.inner).",
            )
        return found

    def _planned(self, study: StudySettings, tasks: Sequence[Task], number: int) -> PlannedFold:
        """Plan the fits of one inner fold. The outer test rows are among its test rows, but no fit predicts them."""
        inner = self.fold.inner[number]
        hidden = Fold(inner.train, (*inner.test, *self.fold.test))
        chains = seeded_chains(study, self.cohorts, scheme_named(self.model), hidden, tasks, keep=False)
        plans = tuple(replace(plan.predicting(inner.test), keep=False) for plan in chains)
        return PlannedFold(self.model, tuple(tasks), 0, number, hidden, plans)

    def _predicted(
        self, study: StudySettings, planned: Sequence[PlannedFold], heard: Heard | None
    ) -> list[pd.DataFrame]:
        checked = _Checked(planned[0], self.task, heard) if heard is not None and heard.inside else None
        results = fit(
            [plan for item in planned for plan in item.plans],
            self.cohorts.by_name(),
            store=self.store,
            n_jobs=self.study.n_jobs,
            check=checked,
        )
        if checked is not None:
            checked.stored(results)
        tables = []
        for item in planned:
            admit_fits(item, results, study)
            inner = self.fold.inner[item.fold_number]
            tested = replace(item, fold=Fold(inner.train, inner.test))
            table = fold_predictions(tested, results, self.cohorts, study.threshold)
            tables.append(table[table["task"] == self.task.name])
        return tables

    def _score(self, tables: Sequence[pd.DataFrame]) -> tuple[float, ...]:
        table = pd.concat(tables, ignore_index=True)
        try:
            rows = out_of_fold(table, self.task, self.model, self.cohorts.target.families)
        except DataError:  # no subject with an outcome so far
            return (float("nan"),) * len(self.metrics)
        known = self._prevalence[self._prevalence["fold"] < len(tables)]
        base = matching(out_of_fold(known, self.task, BASE_MODEL, self.cohorts.target.families), rows)
        found = {score.metric: score.value for score in task_scores(rows, self.task, self.model, base)}
        return tuple(float(found[metric]) for metric in self.metrics)

    @cached_property
    def _prevalence(self) -> pd.DataFrame:
        """Predictions of the training mean, the reference of R2 and of the scaled Brier score."""
        plan = SplitPlan((tuple(Fold(inner.train, inner.test) for inner in self.fold.inner),))
        study = self.study.model_copy(update={"baselines": (BASE_MODEL,)})
        return baseline_predictions(study, self.cohorts, plan, [self.task])
