"""Instability of risks: refit every model on bootstrap samples and compare its predictions.

Riley & Collins 2023, doi:10.1002/bimj.202200302. Families are drawn with replacement from the training
rows of each fold of the first repeat; the risk of each test subject is compared with that by the model of
all training rows. Penalties, thresholds and numbers of steps are chosen again, and no copies of a subject are in both
the training and the held-out rows. Feature steps are refitted for the network; for baselines, imputation, deconfounding
and edge selection are those of all training rows. Only inexpensive baselines are refitted: those with a closed form,
and those that choose among closed forms (kernels, pulls, edges).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan, kinship_groups
from connectome_tl.errors import DataError
from connectome_tl.evaluation.baselines.design import Learner, Refit
from connectome_tl.evaluation.baselines.engines.learners import COVARIATE_ALPHAS, GRAM, LOGISTIC, MIN_PER_CLASS, RIDGE
from connectome_tl.evaluation.baselines.engines.refits import gram_refits, logistic_refits, ridge_refits, rows_refits
from connectome_tl.evaluation.baselines.fixed import baselines_of
from connectome_tl.evaluation.permutation.tests import FoldRows
from connectome_tl.settings.records.statistics import ENOUGH_FOR_QUANTILES, Instability
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import Progress, fit
from connectome_tl.training.networks.outputs import columns_of
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import StudyCohorts, scheme_named
from connectome_tl.training.stages import chain


def study_instability(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    *,
    store: FitStore | None = None,
    progress: Progress | None = None,
) -> tuple[Instability, ...]:
    """Instability of the full model and the baselines with a closed form for every binary task, if requested."""
    found: list[Instability] = []
    if study.refits.network:
        found += _of_network(study, cohorts, splits, tasks, store, progress)
    if study.refits.linear:
        found += _of_baselines(study, cohorts, splits, tasks)
    return tuple(found)


def instability(
    task: str, model: str, original: np.ndarray, refitted: np.ndarray, threshold: float, method: str = ""
) -> Instability:
    """The record of original risks (n_subjects,) and refitted ones (n_refits, n_subjects)."""
    # With few refits the 2.5 % quantile cannot be estimated; use the range.
    ends = [0.025, 0.975] if len(refitted) >= ENOUGH_FOR_QUANTILES else [0.0, 1.0]
    low, high = np.quantile(refitted, ends, axis=0)
    turned = (refitted >= threshold) != (original >= threshold)
    return Instability(
        task=task,
        model=model,
        original=tuple(original.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        mean_absolute_error=float(np.abs(refitted - original).mean()),
        classification=float(turned.mean()),
        n_refits=len(refitted),
        method=method,
    )


def bootstrap_risks(
    folds: Sequence[FoldRows],
    y: np.ndarray,
    cluster: np.ndarray,
    n_refits: int = 200,
    seed: int = 0,
    refit: Refit = ridge_refits,
) -> tuple[np.ndarray, np.ndarray]:
    """Refit each fold's linear model on families drawn with replacement; predict the fold's test rows.

    Args:
        folds: the folds of one repeat.
        y: (n_subjects,) 0, 1, NaN missing. cluster: (n_subjects,) family codes.
        refit: the learner.

    Returns:
        Original (n_subjects,) and refitted (n_refits, n_subjects) risks; NaN for subjects that no fold tests.

    Raises:
        DataError: a subject is tested twice, or a fold trains on one class.
    """
    tested = np.concatenate([fold.test for fold in folds])
    if np.unique(tested).size < tested.size:
        raise DataError("instability needs the folds of one repeat", expected="no subject tested twice")
    rng = np.random.default_rng(seed)
    risks = np.full((1 + n_refits, y.size), np.nan)
    for fold in folds:
        outcome, family = y[fold.train], cluster[fold.train]
        known = np.flatnonzero(np.isfinite(outcome))
        if np.unique(outcome[known]).size < 2:
            raise DataError("a fold trains on one class only", remedy="Use fewer folds.")
        counts = np.zeros((1 + n_refits, len(fold.train)), dtype=int)
        counts[0, known] = 1
        members = [known[family[known] == f] for f in np.unique(family[known])]
        for b in range(n_refits):
            counts[1 + b] = _both_classes(rng, members, outcome)
        risks[:, fold.test] = refit(fold.x_train, fold.x_test, outcome, family, counts)
    return risks[0], risks[1:]


def _of_baselines(
    study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task]
) -> list[Instability]:
    found, cohort = [], cohorts.target
    family = kinship_groups(cohort.family)
    for name, baselines in baselines_of(study, cohorts, tasks).items():
        for baseline in baselines:
            refit = _refit_of(baseline.learner)
            if name == "prevalence" or refit is None:
                continue
            folds = []
            for fold in splits.repeats[0]:
                made = baseline.design(fold)
                fold.admit(name, made.fitted_on)
                train, test = cohort.positions(fold.train), cohort.positions(fold.test)
                folds.append(FoldRows(0, train, test, made.train, made.test))
            if not all(fold.x_train.shape[1] for fold in folds):
                continue
            for task in baseline.tasks:
                y = cohort.targets[task.name].to_numpy(float)
                if not task.is_binary or any(_too_few(y[fold.train]) for fold in folds):
                    continue  # the baseline itself is the prevalence there
                risks = bootstrap_risks(folds, y, family, study.refits.linear, study.seed, refit)
                seen = np.isfinite(risks[0]) & np.isfinite(y)
                text = f"{study.refits.linear} bootstrap refits per fold, families drawn, first repeat"
                found.append(instability(task.name, name, risks[0][seen], risks[1][:, seen], study.threshold, text))
    return found


def _too_few(y: np.ndarray) -> bool:
    return min((y == 1).sum(), (y == 0).sum()) < MIN_PER_CLASS


_REFITS: dict[Learner, Refit] = {
    RIDGE: ridge_refits,
    LOGISTIC: partial(logistic_refits, alphas=COVARIATE_ALPHAS),
    GRAM: gram_refits,
}


def _refit_of(learner: Learner) -> Refit | None:
    """Refit function of a learner; None for iterative learners, whose refits are too expensive."""
    if found := learner.refits or _REFITS.get(learner):
        return found
    return partial(rows_refits, learner) if learner.many is not None else None


def _of_network(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    store: FitStore | None,
    progress: Progress | None,
) -> list[Instability]:
    """Refit the last stage of one seed of the full model on resampled subjects; earlier stages are shared."""
    rng = np.random.default_rng(study.seed)
    known = cohorts.by_name()
    plans: list[list[FitPlan]] = []
    names = [task.name for task in tasks]
    for number, fold in enumerate(splits.repeats[0]):
        own = study.of(0, number)
        whole = chain(own, cohorts, scheme_named("full"), fold, names, seed=study.seed)
        plans.append([whole])
        for b in range(study.refits.network):
            drawn = _drawn(cohorts.target, fold.train, rng)
            again = resampled(cohorts.target, drawn, fold.test)
            known[where := f"resampled {number} {b}"] = again
            other = Fold(again.ids[: len(drawn)], fold.test)
            drawn_cohorts = cohorts.with_role("target", again)
            plan = chain(own, drawn_cohorts, scheme_named("full"), other, names, seed=study.seed, keep=False)
            plans[-1].append(plan.on_cohort("target", where))
    results = fit([p for of_fold in plans for p in of_fold], known, store=store, n_jobs=study.n_jobs, progress=progress)
    tested = [i for fold in splits.repeats[0] for i in fold.test]
    risks = np.concatenate(
        [
            [[results[plan.key].predictions[i] for i in fold.test] for plan in of_fold]
            for fold, of_fold in zip(splits.repeats[0], plans, strict=True)
        ],
        axis=1,
    )
    found = []
    for task in tasks:
        if task.is_binary:
            seen = cohorts.target.targets[task.name].reindex(tested).notna().to_numpy()
            text = f"{study.refits.network} bootstrap refits of the last stage per fold, families drawn, first repeat"
            values = risks[:, seen, columns_of(tasks)[task.name].start]
            found.append(instability(task.name, "full", values[0], values[1:], study.threshold, text))
    return found


def _drawn(cohort: Cohort, train: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Training ids of a bootstrap draw of families; as many families as there were."""
    family = kinship_groups(cohort.family)[cohort.positions(train)]
    groups = np.unique(family)
    return tuple(train[i] for f in rng.choice(groups, groups.size) for i in np.flatnonzero(family == f).tolist())


def resampled(cohort: Cohort, drawn: Sequence[str], others: Sequence[str]) -> Cohort:
    """A cohort with a row for each draw (the second draw of `a` is `a #2`), and with the other subjects.

    Draws of one subject form a family, so that they are never split when a penalty or number of steps is chosen.
    """
    counts: dict[str, int] = {}
    ids = []
    for subject in drawn:
        counts[subject] = counts.get(subject, 0) + 1
        ids.append(subject if counts[subject] == 1 else f"{subject} #{counts[subject]}")
    again = cohort.drawn(cohort.positions([*drawn, *others]), (*ids, *others))
    alone = [f"\x00{subject}" for subject in (*drawn, *others)]
    family = [str(name) if name else own for name, own in zip(again.family, alone, strict=True)]
    return replace(again, family=np.array(family, dtype=object))


def _both_classes(rng: np.random.Generator, members: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
    """Counts of each row, (n_train,), in a draw of families; draws with a single class are repeated."""
    while True:
        drawn = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        if np.unique(y[drawn]).size == 2:
            return np.bincount(drawn, minlength=len(y))
