"""Collect the fits of a finished run for a bundle, by key or by refitting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.errors import DataError, InternalError, UsageError
from connectome_tl.evaluation.nested_cv import fold_predictions, plan_model, seeded_chains, tasks_of
from connectome_tl.settings.records.bundles import FitKind
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fit import Progress
from connectome_tl.training.fit import fit as fit_plans
from connectome_tl.training.fitted_models import fitted_model
from connectome_tl.training.interface import FittedModel
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import Scheme, StudyCohorts, scheme_named, schemes_of
from connectome_tl.workflows.images.grids import CACHE, with_grids
from connectome_tl.workflows.study.inputs import read_run_cohorts, read_study
from connectome_tl.workflows.study.results import read_predictions, read_record
from connectome_tl.workflows.study.unchanged import refuse_changed

SAME = 1e-6  # tolerance of predictions, relative above 1
_NEVER = 1_000_000_000  # value of `rbf_from` that disables radial kernels


@dataclass(frozen=True, eq=False)
class FinishedStudy:
    """A finished run with its cohorts."""

    folder: Path
    settings: StudySettings
    record: RunRecord
    predictions: pd.DataFrame
    splits: SplitPlan
    cohorts: StudyCohorts
    tasks: tuple[Task, ...]


@dataclass(frozen=True, eq=False)
class ReleasedFits:
    """The released fits, and out-of-fold predictions of the same model."""

    models: tuple[FittedModel, ...]
    predictions: pd.DataFrame
    n_train: int
    linear_core: bool


def read_finished(folder: Path, base: str | Path | None) -> FinishedStudy:
    """Read a finished run with its cohorts and grids.

    Raises:
        DataError: a cohort has changed since the run.
    """
    record = read_record(folder)
    settings = read_study(folder)
    cohorts = read_run_cohorts(settings, folder, base)
    refuse_changed(folder, cohorts, settings)
    cohorts = with_grids(settings, cohorts, folder / CACHE)
    return FinishedStudy(
        folder,
        settings,
        record,
        read_predictions(folder / "predictions.tsv"),
        SplitPlan.load(folder / "split_plan.json"),
        cohorts,
        tasks_of(settings, cohorts),
    )


def fitted_scheme(study: FinishedStudy, name: str) -> Scheme:
    """The definition of a model of the study.

    Raises:
        UsageError: the study has no such fitted model.
    """
    known = [scheme.name for scheme in schemes_of(study.settings, study.cohorts)]
    if name not in known:
        raise UsageError(
            f"the study has no fitted model {name!r} that could go into a bundle", expected=", ".join(known)
        )
    return scheme_named(name)


def fits_of(study: FinishedStudy, scheme: Scheme, kind: FitKind, progress: Progress) -> ReleasedFits:
    """Fits and out-of-fold predictions, refitted without radial kernels if necessary."""
    for linear in (False, True):
        found = _fitted(study, scheme, kind, linear=linear, progress=progress)
        if found is not None:
            return found
    raise InternalError("a core without radial kernels has a radial kernel")


def _fitted(
    study: FinishedStudy, scheme: Scheme, kind: FitKind, *, linear: bool, progress: Progress
) -> ReleasedFits | None:
    """Fits and predictions; None if a fit has a radial kernel."""
    settings = study.settings
    if linear:
        settings = settings.model_copy(update={"core": settings.core.model_copy(update={"rbf_from": _NEVER})})
    planned = plan_model(settings, study.cohorts, scheme, study.splits, study.tasks)
    plans = [plan for item in planned for plan in item.plans]
    whole = _refits(settings, study, scheme) if kind == "refit" else []
    store = FitStore(study.folder / "models")
    results = fit_plans(
        [*plans, *whole],
        study.cohorts.by_name(),
        store=store,
        n_jobs=settings.n_jobs,
        progress=progress,
    )
    chosen = whole if kind == "refit" else plans
    if not linear and any(_has_radial(results, plan) for plan in (*plans, *chosen)):
        return None
    own = pd.concat(
        [fold_predictions(item, results, study.cohorts, settings.threshold) for item in planned], ignore_index=True
    )
    if not linear:
        _check_unchanged(study, own, scheme.name)
    others = study.predictions[study.predictions["model"] != scheme.name]
    return ReleasedFits(
        tuple(fitted_model(results[plan.key], lambda key: results[key]) for plan in chosen),
        pd.concat([own, others], ignore_index=True),
        min(len(plan.train.ids) for plan in chosen),
        linear,
    )


def _refits(settings: StudySettings, study: FinishedStudy, scheme: Scheme) -> list[FitPlan]:
    """One chain per seed on all subjects of the split plan (for single-task models, one per task).

    Raises:
        UsageError: the study was tuned fold by fold.
    """
    if settings.tuned is not None:
        raise UsageError(
            "a tuned study has settings for each fold and none for a refit on all subjects", remedy="Use --fit mean."
        )
    known = {subject for _, _, fold in study.splits.folds() for subject in (*fold.train, *fold.test)}
    everyone = Fold(tuple(subject for subject in study.cohorts.target.ids if subject in known), ())
    groups = [(task,) for task in study.tasks] if scheme.single_task else [study.tasks]
    return [plan for group in groups for plan in seeded_chains(settings, study.cohorts, scheme, everyone, list(group))]


def _has_radial(results: Mapping[str, FitResult], plan: FitPlan) -> bool:
    core = plan.parent("core") if plan.stage == "mixture" else plan
    members = core.lineage() if core is not None and core.stage == "core" else ()
    return any(name.startswith("core/radial.") for member in members for name in results[member.key].arrays)


def _check_unchanged(study: FinishedStudy, own: pd.DataFrame, model: str) -> None:
    """Check that the predictions of the fits agree with the table of the run."""
    keys = ["subject", "task", "repeat", "fold"]
    told = study.predictions[study.predictions["model"] == model]
    both = own.merge(told, on=keys, suffixes=("", "_told"))
    far = np.abs(both["y_score"] - both["y_score_told"]) / np.maximum(1.0, np.abs(both["y_score_told"]))
    if len(both) != len(own) or len(both) != len(told) or not (far <= SAME).all():
        raise DataError(
            f"model {model!r} no longer has the predictions in predictions.tsv: code or libraries have changed",
            file=study.folder,
            got=f"{int((~(far <= SAME)).sum())} of {len(own)} predictions differ",
            remedy="Run the study again with this version, then bundle.",
        )
