"""Predicted CPU time of a study: its fits and all other computations.

All computations other than fits are timed on one or two folds and extrapolated. The time for scores and figures is
proportional to the number of predictions, with constants measured on simulated studies
(`benchmarks/predicted_cost.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectome_tl.cohort.labelled import labelled_plan
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.instability import study_instability
from connectome_tl.evaluation.nested_cv import plan_folds
from connectome_tl.evaluation.permutation.baselines import baseline_statistics
from connectome_tl.evaluation.permutation.beyond_clinical import beyond_clinical
from connectome_tl.evaluation.permutation.labels import core_statistics
from connectome_tl.evaluation.permutation.tests import can_be_permuted, exchangeable_permutations
from connectome_tl.settings.model_table import FULL
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import unique_plans
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.training.timing import FitCost, Kind, cost_of, measure
from connectome_tl.training.work import last_stages

RESAMPLED, PERMUTED = "resampled", "permuted"  # folders of further fits in that of the fits of a run
_FEW, _MORE = 4, 24  # permutations, twice timed
_REFITS, _SHORT_REFITS = (2, 12), (5, 50)  # linear refits, twice timed; of studies in which few take under a second
_LONG = 10.0  # CPU s; a step of one fold that takes longer is not timed on two further folds
_JUDGED, _PER_SCORE = 2.0, 0.02  # CPU s: of any study; of each model, outcome and repeat


@dataclass(frozen=True)
class Line:
    """Linear model of a step: fixed CPU seconds, and CPU seconds per unit (fold, permutation, refit)."""

    fixed: float = 0.0
    each: float = 0.0

    def of(self, n: float) -> float:
        """CPU seconds for `n` units; 0 for none."""
        return self.fixed + self.each * n if n else 0.0


@dataclass(frozen=True)
class Measured:
    """Measured times of the parts of a study, in CPU seconds.

    Attributes:
        fits: by kind of fit. baselines: per fold. refits: per linear refit of a fold. permutations,
            baseline_permutations: per permutation of a fold. beyond: the test of value beyond covariates, per fold.
    """

    fits: dict[Kind, FitCost]
    baselines: Line
    refits: Line
    permutations: Line
    baseline_permutations: Line
    beyond: Line


def measured(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    plans: Sequence[FitPlan],
    scratch: Path,
    *,
    brief: bool = False,
) -> Measured:
    """Time the parts of a study on its first folds.

    Args:
        plans: fits that remain to be made. scratch: folder for temporary fits.
        brief: time each part once, for a rough estimate.
    """
    one = SplitPlan((splits.repeats[0][:1],))
    two = SplitPlan((splits.repeats[0][:2],))
    fits = measure(plans, cohorts.by_name(), brief=brief) if plans else {}

    def moves(n: int):  # type: ignore[no-untyped-def]
        return exchangeable_permutations(cohorts.target.ids, n, study.seed, {}, None)

    def line(run: Callable[[int], object], few: int, more: int, first: float | None = None) -> Line:
        first = _seconds(lambda: run(few)) if first is None else first
        if brief:  # assume that half of it is a fixed cost
            return Line(first / 2, first / (2 * few))
        second = _seconds(lambda: run(more))
        each = max(second - first, 0.0) / max(more - few, 1)
        return Line(max(first - few * each, 0.0), each)

    single = study.model_copy(update={"n_jobs": 1})
    baselines, refits, core, permuted, beyond = Line(), Line(), Line(), Line(), Line()
    if study.baselines:
        started = 0.0 if brief else _seconds(lambda: baseline_predictions(single, cohorts, one, tasks))
        if started > _LONG:
            baselines = Line(started / 2, started / 2)
        else:  # the first fold also imports modules, which is not a cost of a fold
            baselines = line(lambda n: baseline_predictions(single, cohorts, (one, two)[n - 1], tasks), 1, 2)
    if study.refits.linear:

        def resample(n: int) -> None:
            some = study.refits.model_copy(update={"linear": n, "network": 0})
            study_instability(single.model_copy(update={"refits": some}), cohorts, one, tasks)

        least = _seconds(lambda: resample(_REFITS[0]))
        refits = line(resample, *_REFITS, least) if least > 1.0 else line(resample, *_SHORT_REFITS)
    if study.permutations:
        store = FitStore(scratch)
        core_statistics(single, cohorts, one, tasks, moves(1), store=store)  # fits the source's core once
        core = line(lambda n: core_statistics(single, cohorts, one, tasks, moves(n), store=store), _FEW, _MORE)
        few = study.model_copy(update={"permutations": _FEW})
        beyond = Line(0.0, _seconds(lambda: beyond_clinical(few, cohorts.target, two, tasks)) / 2)
    if study.baseline_permutations:
        permuted = line(lambda n: baseline_statistics(single, cohorts, one, tasks, moves(n)), _FEW, _MORE)
    return Measured(fits, baselines, refits, core, permuted, beyond)


@dataclass(frozen=True)
class Finished:
    """Stored fits of an interrupted run.

    Attributes:
        keys: of the outer folds and the learning curve.
        resampled, permuted: numbers of fits of resampled subjects, and of permuted outcomes.
    """

    keys: frozenset[str] = frozenset()
    resampled: int = 0
    permuted: int = 0

    @staticmethod
    def of(models: Path) -> Finished:
        """The fits in the folder `models` of a run, which may not exist."""
        counts = (len(list((models / name).glob("*.json"))) for name in (RESAMPLED, PERMUTED))
        return Finished(frozenset(file.stem for file in models.glob("*.json")), *counts)


@dataclass(frozen=True)
class Cost:
    """Predicted cost of a study in CPU seconds.

    Attributes:
        fits: plan and seconds of each distinct fit of the outer folds, 0 if it is finished.
        steps: seconds by name of the other steps.
        divided: seconds of all unfinished fits, those of other steps included, which are divided among processes.
    """

    fits: tuple[tuple[FitPlan, float], ...]
    steps: dict[str, float]
    divided: float

    @property
    def total(self) -> float:
        """CPU seconds."""
        return sum(seconds for _, seconds in self.fits) + sum(self.steps.values())


def predicted(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    known: Measured,
    finished: Finished | None = None,
) -> Cost:
    """Predicted cost from measurements of this study, or of one that differs only in its numbers of repeats."""
    done = finished or Finished()
    planned = plan_folds(study, cohorts, splits, tasks)
    unique = unique_plans(plan for item in planned for plan in item.plans)
    fits = tuple((plan, 0.0 if key in done.keys else cost_of(plan, known.fits)) for key, plan in unique.items())
    n_folds, n_first = sum(map(len, splits.repeats)), len(splits.repeats[0])
    full = last_stages(next(item for item in planned if item.model == FULL).plans[0])

    def refitted(n_refits: int, n_done: int) -> float:
        """Seconds of refits of the last stages of the full model in every fold of the first repeat."""
        left = n_first * n_refits - n_done / len(full)
        return max(left, 0.0) * sum(cost_of(plan, known.fits) for plan in full)

    can_permute = can_be_permuted(cohorts.target)
    networks = study.network_permutations if can_permute else 0
    refits = {
        "bootstrap refits": refitted(study.refits.network, done.resampled),
        "permutations of the full model": refitted(networks + 1, done.permuted) if networks else 0.0,
        "learning curve": _curve_fits(study, cohorts, splits, tasks, known, done.keys | unique.keys()),
    }
    others = {
        "baselines": known.baselines.of(n_folds),
        "recalibration": known.baselines.of(n_folds * study.splits.inner),
        "bootstrap refits": n_first * known.refits.of(study.refits.linear),
        "permutations of the core": n_first * known.permutations.of(study.permutations if can_permute else 0),
        "permutations of the full model": 0.0,
        "permutations of the baselines": n_first
        * known.baseline_permutations.of(study.baseline_permutations if can_permute else 0),
        "value beyond clinical covariates": known.beyond.of(n_first if study.permutations else 0),
        "learning curve": len(study.learning_curve) * known.baselines.of(n_folds),
    }
    n_models = len({item.model for item in planned}) + len(study.baselines)
    others["scores, comparisons, report"] = _JUDGED + _PER_SCORE * n_models * len(tasks) * len(splits.repeats)
    steps = {name: seconds + refits.get(name, 0.0) for name, seconds in others.items()}
    divided = sum(seconds for _, seconds in fits) + sum(refits.values())
    return Cost(fits, {name: seconds for name, seconds in steps.items() if seconds}, divided)


def _curve_fits(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    known: Measured,
    without: frozenset[str],
) -> float:
    """CPU seconds of the fits of a learning curve, excluding those with the given keys."""
    seconds, names = 0.0, [task.name for task in tasks]
    for size in study.learning_curve:
        some = labelled_plan(cohorts.target, splits, study.splits, size, names)
        plans = unique_plans(plan for item in plan_folds(study, cohorts, some, tasks) for plan in item.plans)
        seconds += sum(cost_of(plan, known.fits) for key, plan in plans.items() if key not in without)
    return seconds


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
