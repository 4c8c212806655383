"""One fold fitted again from nothing, and once more with its test rows wrecked.

A run is a function of its settings and data. Whatever was done beside them (edges chosen before the
split, a threshold or an epoch chosen on test, rows that should not have been there) gives numbers that
an honest replay does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.evaluation.baselines import baseline_predictions
from connectome_tl.evaluation.nested_cv import PlannedFold, fold_predictions, plan_folds
from connectome_tl.settings.audit import Finding
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import Progress, fit
from connectome_tl.training.stages import StudyCohorts

# Another processor or library version moves float32 fits by about this much (share of the scores' spread).
_TOLERANCE = 0.02
_KEY = ["task", "model", "repeat", "fold", "subject"]


@dataclass(frozen=True, eq=False)
class Replay:
    """What is replayed: the settings, cohorts, splits and tasks of a run, and which fold."""

    study: StudySettings
    cohorts: StudyCohorts
    splits: SplitPlan
    tasks: tuple[Task, ...]
    repeat: int
    number: int

    @property
    def fold(self) -> Fold:
        return self.splits.repeats[self.repeat][self.number]

    def planned(self, cohorts: StudyCohorts) -> list[PlannedFold]:
        """Every network of the study on this fold; the plans of the whole study are made and filtered."""
        everything = plan_folds(self.study, cohorts, self.splits, self.tasks)
        return [item for item in everything if (item.repeat, item.fold_number) == (self.repeat, self.number)]


def replay_findings(
    replay: Replay, predictions: pd.DataFrame, baselines: pd.DataFrame | None = None, progress: Progress | None = None
) -> list[Finding]:
    """Fit the networks of one fold and the baselines of all folds anew; compare with what the run recorded.

    Args:
        predictions: the run's.
        baselines: those fitted again, when the caller has them.
    """
    planned = replay.planned(replay.cohorts)
    results = _fit(replay, planned, replay.cohorts, progress)
    tables = [fold_predictions(item, results, replay.cohorts, replay.study.threshold) for item in planned]
    again = baselines
    if again is None:
        again = baseline_predictions(replay.study, replay.cohorts.target, replay.splits, replay.tasks)
    where = f"repeat {replay.repeat}, fold {replay.number}"
    findings = [_compared(f"networks fitted again ({where})", pd.concat(tables, ignore_index=True), predictions)]
    if len(again):
        findings.append(_compared("baselines fitted again (all folds)", again, predictions))
    findings.append(_unknown(predictions, pd.concat([*tables, again], ignore_index=True)))
    findings.append(_poisoned(replay, planned, results, progress))
    return findings


def _fit(
    replay: Replay, planned: Sequence[PlannedFold], cohorts: StudyCohorts, progress: Progress | None
) -> dict[str, FitResult]:
    plans = [plan for item in planned for plan in item.plans]
    return fit(plans, cohorts.by_name(), store=None, n_jobs=replay.study.n_jobs, progress=progress)


def _compared(check: str, again: pd.DataFrame, recorded: pd.DataFrame) -> Finding:
    both = again.merge(recorded, on=_KEY, how="left", suffixes=("", "_recorded"), indicator=True)
    absent = both[both["_merge"] == "left_only"]
    both = both[both["_merge"] == "both"]
    wrong, largest = [], 0.0
    if len(absent):
        wrong.append(f"{len(absent)} predictions are not in the table")
    for (task, model), rows in both.groupby(["task", "model"]):
        gap = (rows["y_score"] - rows["y_score_recorded"]).abs().to_numpy(dtype=float)
        everyone = recorded.loc[(recorded["task"] == task) & (recorded["model"] == model), "y_score"]
        spread = max(float(everyone.std()), 1e-6)
        largest = max(largest, float(gap.max()))
        if not (gap <= _TOLERANCE * spread).all():
            wrong.append(f"{model} on {task}: recorded scores differ by up to {float(gap.max()):.3g}")
    if wrong:
        return Finding(
            check=check,
            status="failed",
            what="; ".join(wrong[:6]),
            remedy="These numbers do not come from the study's settings and data. Run the study again.",
        )
    same = "exactly" if largest == 0 else f"up to {largest:.1e}"
    return Finding(check=check, status="passed", what=f"{len(both)} predictions are the same, {same}")


def _unknown(recorded: pd.DataFrame, again: pd.DataFrame) -> Finding:
    extra = sorted(set(recorded["model"]) - set(again["model"]))
    if extra:
        return Finding(
            check="every model is known",
            status="warning",
            what=f"cannot be replayed, so not checked: {', '.join(extra)}",
        )
    return Finding(check="every model is known", status="passed", what="all models of the table were fitted again")


def _poisoned(
    replay: Replay, planned: Sequence[PlannedFold], results: dict[str, FitResult], progress: Progress | None
) -> Finding:
    """The fold's test rows are wrecked everywhere they stand; every fitted number must stay, bit by bit."""
    check = "poisoned test fold"
    adapt = replay.study.stages.adapt
    if adapt is not None and adapt.transductive:
        return Finding(check=check, status="skipped", what="the study is transductive, and says so")
    known, test = replay.cohorts, replay.fold.test
    pool = None if known.pool is None else wrecked(known.pool, test)
    cohorts = StudyCohorts(wrecked(known.target, test), known.source, pool)
    poisoned = replay.planned(cohorts)
    again = _fit(replay, poisoned, cohorts, progress)
    moved = []
    for before, after in zip(planned, poisoned):
        for one, two in zip(before.plans, after.plans):
            if one.key != two.key or not _equal_state(results[one.key], again[two.key]):
                moved.append(before.model)
    if moved:
        return Finding(
            check=check,
            status="failed",
            what=f"fitted numbers changed with the test rows: {', '.join(sorted(set(moved)))}",
            remedy="A step saw test rows. This is a fault of the program; please report it.",
        )
    return Finding(check=check, status="passed", what="wrecking the test rows changes no fitted bit")


def wrecked(cohort: Cohort, ids: Sequence[str]) -> Cohort:
    """The cohort with everything measured in these subjects turned to other, absurd numbers."""
    rows = cohort.positions([i for i in ids if i in set(cohort.ids)])
    if not rows.size:
        return cohort
    weights, targets = cohort.weights.copy(), cohort.targets.copy()
    weights[rows] = 1000.0 - weights[rows]
    for column in targets.columns:
        values = targets[column].to_numpy(dtype=float).copy()
        binary = set(np.unique(values[np.isfinite(values)])) <= {0.0, 1.0}
        values[rows] = 1.0 - values[rows] if binary else -50.0 - values[rows]
        targets[column] = values
    covariates = cohort.covariates.copy()
    for column in covariates.columns:
        if pd.api.types.is_numeric_dtype(covariates[column]):
            values = covariates[column].to_numpy(dtype=float).copy()
            values[rows] = 7.0 - 3.0 * values[rows]
            covariates[column] = values
    return replace(cohort, weights=weights, targets=targets, covariates=covariates)


def _equal_state(one: FitResult, two: FitResult) -> bool:
    for a, b in ((one.state, two.state), (one.fitted, two.fitted)):
        if a.keys() != b.keys() or any(a[name].tobytes() != b[name].tobytes() for name in a):
            return False
    return True
