"""Refit every fold, and refit one fold with corrupted test rows.

A run is a function of its settings and data. Other influences (edges selected before the split, a threshold or epoch
chosen on test rows, additional rows) give results that a replay does not reproduce.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from connectome_tl.audit.compared import compared, unknown_models
from connectome_tl.audit.corruption import other_outcomes, wrecked
from connectome_tl.audit.rounding import NEAR, TIMES, TOO_NOISY, near, noise_between, repeats_exactly, same_state
from connectome_tl.audit.stored import Apply
from connectome_tl.cohort.relatives import relatives
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.clinical.recalibration import recalibrate_study
from connectome_tl.evaluation.clinical.site_only import site_predictions
from connectome_tl.evaluation.nested_cv import CrossValidation, PlannedFold, fold_predictions, plan_folds
from connectome_tl.plurals import counted
from connectome_tl.settings.records.audit import Finding
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import Progress, fit
from connectome_tl.training.fitted_models import fitted_model
from connectome_tl.training.schemes import StudyCohorts

_CONSTANT = 1e-4  # SD of scores that hardly differ between subjects
_APPLIED = 16  # rows that a fit without predictions is applied to
_BUG = "A step used test rows. This is a bug; please report it."


@dataclass(frozen=True, eq=False)
class Replay:
    """Settings, cohorts, splits and tasks of a run, and the fold whose test rows are corrupted."""

    study: StudySettings
    cohorts: StudyCohorts
    splits: SplitPlan
    tasks: tuple[Task, ...]
    repeat: int
    number: int

    @property
    def is_transductive(self) -> bool:
        """Whether stage 2 uses the images or connectomes of test subjects."""
        return self.study.stages.adapt is not None and self.study.stages.adapt.transductive

    @property
    def exactly(self) -> bool:
        """Whether equal fits are equal to the last bit."""
        return repeats_exactly(self.study.device)

    @property
    def not_poisoned(self) -> str:
        """Reason why corrupted test rows may change the fits, or an empty text."""
        if self.is_transductive:
            return "the study is transductive, as declared"
        if self.study.stages.finetune.ensemble.choose_on == "tested":
            return "the study chooses steps on the tested rows, as declared"
        return ""

    @cached_property
    def spoiled(self) -> StudyCohorts:
        """The cohorts with the fold's test rows corrupted in every cohort."""
        cohorts = self.cohorts
        for role in ("target", "pool"):
            if role in cohorts.roles:
                cohort, test = cohorts.roles[role], self.fold.test
                known = test if role == "target" else relatives(self.cohorts.target, test, cohort)
                cohorts = cohorts.with_role(role, wrecked(cohort, known))
        return cohorts

    @property
    def fold(self) -> Fold:
        """The fold whose test rows are corrupted."""
        return self.splits.repeats[self.repeat][self.number]

    @cached_property
    def everything(self) -> tuple[PlannedFold, ...]:
        """Every network of the study on every fold."""
        return plan_folds(self.study, self.cohorts, self.splits, self.tasks)

    def refitted(self, progress: Progress | None = None) -> dict[str, FitResult]:
        """Refit all networks of all folds."""
        return _fit(self, self.everything, self.cohorts, progress)

    @cached_property
    def twins(self) -> dict[str, FitResult]:
        """The fits of this fold made once more from the same data; empty where fits are repeated to the last bit."""
        return {} if self.exactly else _fit(self, self.on_fold(self.everything), self.cohorts, None)

    def same(self, one: FitResult, two: FitResult) -> bool:
        """Whether a fit of this fold equals another one, up to the rounding that its twin shows."""
        return same_state(one, two, exactly=self.exactly, twin=self.twins.get(one.key))

    def too_noisy(self, results: dict[str, FitResult]) -> str:
        """Reason why fits on this device cannot be compared with `results`, or an empty text."""
        noise = max((noise_between(results[key], twin) for key, twin in self.twins.items()), default=0.0)
        if TIMES * noise <= TOO_NOISY:
            return ""
        return f"fits repeated on this device differ by up to {noise:.1%}, too much to recognise a leak"

    def rounding(self, results: dict[str, FitResult], recorded: pd.DataFrame) -> float | None:
        """Largest difference of a prediction between the fits of this fold and their twins, as a fraction of its SD.

        None where fits are repeated to the last bit.

        Args:
            recorded: predictions of the run, whose SD is taken by task and model. Constant scores have no influence.
        """
        if self.exactly:
            return None
        items = self.on_fold(self.everything)
        one, two = (
            pd.concat([fold_predictions(item, fits, self.cohorts, self.study.threshold) for item in items])
            for fits in (results, {**results, **self.twins})
        )
        gap = (one["y_score"] - two["y_score"]).abs()
        spreads = recorded.groupby(["task", "model"])["y_score"].std()
        spread = pd.Series(spreads.reindex(list(zip(one["task"], one["model"], strict=True))).to_numpy(), one.index)
        return float((gap / spread)[spread > _CONSTANT].max()) if (spread > _CONSTANT).any() else 0.0

    def applied(self, results: dict[str, FitResult]) -> Apply:
        """A function that returns predictions and embeddings of a fit for its first training rows."""
        plans = {plan.key: plan for item in self.everything for one in item.plans for plan in one.lineage()}

        def apply(fit: FitResult) -> list[np.ndarray]:
            rows = plans[fit.key].train
            model, cohort = fitted_model(fit, results.__getitem__), self.cohorts.by_name()[rows.cohort]
            ids = rows.ids[:_APPLIED]
            made = [model.predict(cohort, ids)] if fit.stage != "adapt" else []
            return made + ([model.embed(cohort, ids)] if fit.stage in ("pretrain", "adapt") else [])

        return apply

    def planned(self, cohorts: StudyCohorts) -> list[PlannedFold]:
        """Every network of the study on this fold."""
        return self.on_fold(plan_folds(self.study, cohorts, self.splits, self.tasks))

    def on_fold(self, everything: Sequence[PlannedFold]) -> list[PlannedFold]:
        """The plans of this fold."""
        return [item for item in everything if (item.repeat, item.fold_number) == (self.repeat, self.number)]


def replay_findings(
    replay: Replay,
    results: dict[str, FitResult],
    predictions: pd.DataFrame,
    calibrated: pd.DataFrame | None = None,
    progress: Progress | None = None,
) -> list[Finding]:
    """Compare refitted networks and baselines with the recorded ones, and test one fold for leakage.

    Args:
        results: from `Replay.refitted`.
        predictions: predictions of the run.
        calibrated: recalibrated predictions of the run, with inner folds.
    """
    everything = replay.everything
    tables = [fold_predictions(item, results, replay.cohorts, replay.study.threshold) for item in everything]
    planned = replay.on_fold(everything)
    simple = [
        baseline_predictions(replay.study, replay.cohorts, replay.splits, replay.tasks),
        site_predictions(replay.study, replay.cohorts.target, replay.splits, replay.tasks),
    ]
    again = pd.concat([table for table in simple if len(table)] or [pd.DataFrame()], ignore_index=True)
    networks = pd.concat(tables, ignore_index=True)
    rounding = replay.rounding(results, predictions)
    findings = [compared("networks fitted again (all folds)", networks, predictions, rounding=rounding)]
    if len(again):
        findings.append(compared("baselines fitted again (all folds)", again, predictions))
    findings.append(unknown_models(predictions, pd.concat([*tables, again], ignore_index=True)))
    if replay.study.splits.inner:
        findings.append(_recalibrated(replay, everything, results, predictions, calibrated))
    findings.append(_poisoned(replay, planned, results, progress))
    findings.append(_canary(replay, planned, results))
    findings.append(_in_other_order(replay, planned, results))
    findings.append(_pool_toggled(replay, planned))
    return findings


def _recalibrated(
    replay: Replay,
    everything: Sequence[PlannedFold],
    results: dict[str, FitResult],
    predictions: pd.DataFrame,
    calibrated: pd.DataFrame | None,
) -> Finding:
    check = "recalibrated again (all folds)"
    if calibrated is None:
        what = "the study has inner folds, but there is no calibrated.tsv"
        return Finding(check=check, status="failed", what=what, remedy="It was removed. Run the study again.")
    validation = CrossValidation(predictions, tuple(everything), results)
    again = recalibrate_study(replay.study, replay.cohorts, replay.splits, predictions, validation)
    found = compared(check, again.predictions, calibrated, classes=True)
    if found.status == "failed" or replay.not_poisoned:
        return found
    fold = (replay.repeat, replay.number)
    spoiled = replay.spoiled
    planned = replay.planned(spoiled)
    validation = CrossValidation(predictions, tuple(planned), _fit(replay, planned, spoiled, None))
    poisoned = recalibrate_study(replay.study, spoiled, replay.splits, predictions, validation, only=[fold])
    before = tuple(c for c in again.calibrators if (c.repeat, c.fold) == fold)
    if poisoned.calibrators != before and (replay.exactly or not near(poisoned.calibrators, before)):
        what = "scalings or thresholds changed with the test rows"
        return Finding(check=check, status="failed", what=what, remedy=_BUG)
    return found


def _fit(
    replay: Replay, planned: Sequence[PlannedFold], cohorts: StudyCohorts, progress: Progress | None
) -> dict[str, FitResult]:
    plans = [plan for item in planned for plan in item.plans]
    return fit(plans, cohorts.by_name(), store=None, n_jobs=replay.study.n_jobs, progress=progress)


def _poisoned(
    replay: Replay, planned: Sequence[PlannedFold], results: dict[str, FitResult], progress: Progress | None
) -> Finding:
    """Corrupt the fold's test rows in all cohorts; all fitted state must be the same, bit by bit on the CPU."""
    check = "poisoned test fold"
    reason = replay.not_poisoned or replay.too_noisy(results)
    if reason:
        return Finding(check=check, status="skipped", what=reason)
    cohorts = replay.spoiled
    poisoned = replay.planned(cohorts)
    again = _fit(replay, poisoned, cohorts, progress)
    moved = []
    for before, after in zip(planned, poisoned):
        for one, two in zip(before.plans, after.plans):
            if one.key != two.key or not replay.same(results[one.key], again[two.key]):
                moved.append(before.model)
    if moved:
        return Finding(
            check=check,
            status="failed",
            what=f"fitted numbers changed with the test rows: {', '.join(sorted(set(moved)))}",
            remedy=_BUG,
        )
    what = "no fitted bit" if replay.exactly else "no fit beyond the rounding of a GPU"
    return Finding(check=check, status="passed", what=f"corrupting the test rows changes {what}")


def _canary(replay: Replay, planned: Sequence[PlannedFold], results: dict[str, FitResult]) -> Finding:
    """Positive control: changing the outcomes of one training subject must change the fit."""
    check = "canary label"
    # The core: its fit contains numbers that depend on the outcomes, and is equal to the last bit if nothing changed.
    (plan,) = next(item for item in planned if item.model == "core").plans[:1]
    target = replay.cohorts.target
    known = target.targets[[task.name for task in replay.tasks]].notna().any(axis=1)
    canary = [i for i in replay.fold.train if known[i]][:1]
    if not canary:
        return Finding(check=check, status="skipped", what="no training subject of the fold has an outcome")
    sung = replay.cohorts.with_role("target", other_outcomes(target, target.positions(canary)))
    other = next(item for item in replay.planned(sung) if item.model == "core").plans[0]
    again = fit([other], sung.by_name(), store=None)[other.key]
    if same_state(results[plan.key], again, exactly=True):
        what = "a training outcome does not change the model either"
        remedy = (
            "A use of test outcomes would not be detected here. Test another fold: audit_run(..., fold=1) in Python."
        )
        return Finding(check=check, status="warning", what=what, remedy=remedy)
    return Finding(check=check, status="passed", what="a training outcome changes the fit, so a leak would be detected")


def _in_other_order(replay: Replay, planned: Sequence[PlannedFold], results: dict[str, FitResult]) -> Finding:
    """Reverse the rows of the target, and predict half of the test subjects in another order and batch."""
    check = "order, subset and batch size"
    if replay.too_noisy(results):
        return Finding(check=check, status="skipped", what=replay.too_noisy(results))
    target = replay.cohorts.target
    turned = replay.cohorts.with_role("target", target.take(target.ids[::-1]))
    some = replay.fold.test[::-2]
    items = [
        replace(item, plans=tuple(plan.predicting(some) for plan in item.plans)) for item in replay.planned(turned)
    ]
    again = _fit(replay, items, turned, None)
    moved, predicted = [], 0.0
    for before, after in zip(planned, items):
        for one, two in zip(before.plans, after.plans):
            if not replay.same(results[one.key], again[two.key]):
                moved.append(before.model)
            first, second = (np.array([r.predictions[i] for i in some]) for r in (results[one.key], again[two.key]))
            predicted = max(predicted, float(np.abs(first - second).max() / max(float(np.abs(first).max()), 1.0)))
    if moved or predicted > (1e-5 if replay.exactly else NEAR):
        what = (
            f"fits of {', '.join(sorted(set(moved)))} changed" if moved else f"predictions changed by {predicted:.1e}"
        )
        return Finding(
            check=check,
            status="failed",
            what=f"{what} with the order of the rows or with the other predicted subjects",
            remedy="A prediction must be a function of that subject and the training rows. Please report this.",
        )
    return Finding(check=check, status="passed", what="no fit, and no prediction, depends on them")


def _pool_toggled(replay: Replay, planned: Sequence[PlannedFold]) -> Finding:
    """Check that removing the test subjects from the pool gives the same plans (their keys hash all rows)."""
    check = "adaptation pool"
    pool = replay.cohorts.pool
    if pool is None or replay.study.stages.adapt is None:
        return Finding(check=check, status="skipped", what="the study has no adaptation")
    if replay.is_transductive:
        return Finding(check=check, status="skipped", what="the study is transductive, as declared")
    test = set(relatives(replay.cohorts.target, replay.fold.test, pool))
    without = replay.cohorts.with_role("pool", pool.take([i for i in pool.ids if i not in test]))
    keys = [[plan.key for item in items for plan in item.plans] for items in (planned, replay.planned(without))]
    if keys[0] != keys[1]:
        what = "test subjects in the pool change the fits of their own fold"
        return Finding(check=check, status="failed", what=what, remedy=_BUG)
    return Finding(
        check=check,
        status="passed",
        what=f"the fits are the same without {counted(len(test), 'row')} of test subjects and their relatives in it",
    )
