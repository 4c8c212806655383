"""Permutation tests with exchangeable blocks and whole outcome rows.

Permuting labels against existing out-of-fold scores, without refitting, ignores that the same subjects trained
the models, and rejects a true null two to three times too often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import factorial, prod

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, InternalError
from connectome_tl.evaluation.baselines.engines.linear import LinearFit, fit_ridge
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.settings.records.results import PermutationResult
from connectome_tl.tasks import Task

FEWEST_ARRANGEMENTS = 20  # of fewer, no p value is 0.05 or less


@dataclass(frozen=True, eq=False)
class FoldRows:
    """Features of one outer fold, computed by steps fitted on its training rows.

    Attributes:
        repeat: number of the repeat.
        train, test: (n_train,), (n_test,) positions in the cohort.
        x_train, x_test: (n_train, n_features), (n_test, n_features); NaN where an edge is masked.
    """

    repeat: int
    train: np.ndarray
    test: np.ndarray
    x_train: np.ndarray
    x_test: np.ndarray


def exchangeable_permutations(
    subjects: Sequence[str],
    n_permutations: int,
    seed: int,
    families: Mapping[str, str] | None = None,
    sites: Mapping[str, str] | None = None,
) -> np.ndarray:
    """Random permutations of outcome rows that respect families and sites.

    Families of equal size are exchanged as whole blocks, and members are exchanged within a family; with
    `sites`, only families of the same sites are exchanged (Winkler et al. 2015,
    doi:10.1016/j.neuroimage.2015.05.092).

    Returns:
        (n_permutations, n_subjects) positions: subject i receives the outcome row of `result[k, i]`.

    Raises:
        DataError: there are fewer than `FEWEST_ARRANGEMENTS` (most blocks differ in size or site).
    """
    rng = np.random.default_rng(seed)
    possible = n_arrangements(subjects, families, sites)
    if possible < FEWEST_ARRANGEMENTS:
        raise DataError(
            "hardly any subjects are exchangeable",
            expected=f"{FEWEST_ARRANGEMENTS} or more arrangements of the outcomes, between families of equal size"
            + (" in the same site" if sites else ""),
            got=str(possible),
            remedy="Set `permutations: 0`" + (", or drop `site:` from cohort.yaml." if sites else "."),
        )
    groups = _blocks(subjects, families or {}, sites or {})
    result = np.empty((n_permutations, len(subjects)), dtype=int)
    for k in range(n_permutations):
        for group, shuffled in groups:
            for place, source in zip(group, rng.permutation(len(group))):
                result[k, place] = rng.permutation(group[source]) if shuffled else group[source]
    return result


def n_arrangements(
    subjects: Sequence[str], families: Mapping[str, str] | None = None, sites: Mapping[str, str] | None = None
) -> int:
    """Number of different arrangements that `exchangeable_permutations` draws from."""
    return prod(
        factorial(len(group)) * (prod(factorial(len(block)) for block in group) if shuffled else 1)
        for group, shuffled in _blocks(subjects, families or {}, sites or {})
    )


def families_and_sites(cohort: Cohort) -> tuple[dict[str, str], dict[str, str] | None]:
    """Family and site of each subject, for `exchangeable_permutations`; None if no site is known."""
    families = dict(zip(cohort.ids, (str(name) for name in cohort.family), strict=True))
    sites = dict(zip(cohort.ids, (str(site) for site in cohort.site), strict=True)) if any(cohort.site) else None
    return families, sites


def can_be_permuted(cohort: Cohort) -> bool:
    """Whether enough arrangements of the outcomes are possible for a permutation test."""
    return n_arrangements(cohort.ids, *families_and_sites(cohort)) >= FEWEST_ARRANGEMENTS


def _blocks(
    subjects: Sequence[str], families: Mapping[str, str], sites: Mapping[str, str]
) -> list[tuple[list[np.ndarray], bool]]:
    """Groups of exchangeable families, as positions, and whether members may be exchanged within families."""
    members: dict[tuple[str, str], list[int]] = {}
    for i, subject in enumerate(subjects):
        family = families.get(subject, "")
        members.setdefault(("family", family) if family else ("alone", subject), []).append(i)
    groups: dict[tuple[str, ...], list[np.ndarray]] = {}
    for positions in members.values():
        # Sort members by site: families that span sites are exchanged member by member within sites.
        ordered = sorted(positions, key=lambda i: sites.get(subjects[i], ""))
        groups.setdefault(tuple(sites.get(subjects[i], "") for i in ordered), []).append(np.array(ordered))
    return [(blocks, len(set(where)) == 1) for where, blocks in groups.items()]


def linear_statistics(
    folds: Iterable[FoldRows],
    targets: np.ndarray,
    tasks: Sequence[Task],
    permutations: np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray], LinearFit] = fit_ridge,
) -> np.ndarray:
    """Statistic of every task for every permutation, with the model refitted.

    Args:
        folds: every outer fold of every repeat.
        targets: (n_subjects, n_tasks); NaN for missing outcomes, which are permuted with their row.
        permutations: (n_permutations, n_subjects) from `exchangeable_permutations`.
        fit: function of rows and labels (n_train, n_labellings); binary labels are -1 and 1.

    Returns:
        (1 + n_permutations, n_tasks), the observed statistic first: the tested metric of each task (AUC,
        concordance or macro AUC within folds, out-of-fold R2 against the training mean).
    """
    every = np.vstack([np.arange(targets.shape[0]), permutations])
    sums = [no_parts(task, len(every)) for task in tasks]
    for fold in folds:
        for t, task in enumerate(tasks):
            labels = targets[every, t].T
            y_train, y_test = labels[fold.train], labels[fold.test]
            enough = can_be_fitted(y_train, task)
            if not enough.any():
                continue
            score = _refitted_score(fold, y_train[:, enough], task, fit)
            sums[t][..., enough] += statistic_parts(score, y_train[:, enough], y_test[:, enough], task)
    return statistic(sums, tasks)


def _refitted_score(
    fold: FoldRows, y_train: np.ndarray, task: Task, fit: Callable[[np.ndarray, np.ndarray], LinearFit]
) -> np.ndarray:
    """(n_test, n_labellings), or (n_levels, n_test, n_labellings) for unordered classes, one against the rest."""
    if task.form == "classes":
        missing = np.isnan(y_train)
        each = [np.where(missing, np.nan, 2.0 * (y_train == c) - 1.0) for c in range(task.n_levels)]
        return np.array([fit(fold.x_train, labels).predict(fold.x_test) for labels in each])
    return fit(fold.x_train, 2 * y_train - 1 if task.is_binary else y_train).predict(fold.x_test)


def no_parts(task: Task, n_labellings: int) -> np.ndarray:
    """Zeros of the shape of `statistic_parts`."""
    return np.zeros((2, task.n_levels, n_labellings) if task.form == "classes" else (2, n_labellings))


def statistic(sums: Sequence[np.ndarray] | np.ndarray, tasks: Sequence[Task]) -> np.ndarray:
    """(n_labellings, n_tasks): the tested metric of each task.

    Args:
        sums: per task, its `statistic_parts` summed over folds.
    """
    found = []
    for parts, task in zip(sums, tasks, strict=True):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = parts[0] / parts[1]
        if task.form == "classes":
            met = parts[1] > 0
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = np.where(met, ratio, 0.0).sum(axis=0) / met.sum(axis=0)
        found.append(1.0 - ratio if task.form == "value" else ratio)
    return np.array(found).T


def can_be_fitted(y: np.ndarray, task: Task) -> np.ndarray:
    """Whether labels (n_train, n_labellings) contain two values or two classes, (n_labellings,)."""
    if task.form == "value":
        return np.asarray((~np.isnan(y)).sum(axis=0) >= 2)
    return np.asarray(sum(((y == level).any(axis=0) for level in range(task.n_levels)), start=np.zeros(1)) >= 2)


def statistic_parts(score: np.ndarray, y_train: np.ndarray, y_test: np.ndarray, task: Task) -> np.ndarray:
    """Concordant and comparable pairs of a test fold, or squared errors of the model and of the training mean.

    Args:
        score: (n_test, n_labellings): risk, value or expected level; (n_levels, n_test, n_labellings) for a
            multiclass task.
        y_train, y_test: (n_train, n_labellings), (n_test, n_labellings).

    Returns:
        (2, n_labellings), or (2, n_levels, n_labellings) for a multiclass task.

    Raises:
        UsageError: a task of an unknown kind.
    """
    if task.form == "value":
        base = np.nanmean(y_train, axis=0)
        return np.array([np.nansum((score - y_test) ** 2, axis=0), np.nansum((base - y_test) ** 2, axis=0)])
    one_fold = np.zeros(len(y_test), dtype=int)
    if task.form == "classes":
        each = [
            within_fold_counts(np.where(np.isnan(y_test), np.nan, y_test == c), score[c], one_fold)
            for c in range(task.n_levels)
        ]
        return np.array(each).transpose(1, 0, 2)
    return np.array(within_fold_counts(y_test, score, one_fold))


def permutation_results(
    statistics: np.ndarray, tasks: Sequence[Task], model: str, question: str, method: str = "", digits: int = 4
) -> list[PermutationResult]:
    """p = (k + 1) / (n + 1) per task, and corrected over the tasks by the maximum statistic.

    The maximum is taken over the ranks of statistics in their own null (Westfall & Young 1993), since tasks
    differ in scale and in the spread of their nulls. An undefined null statistic counts as at least as large as
    the observed one.

    Args:
        statistics: (1 + n_permutations, n_tasks), the observed first, larger is better.

    Raises:
        InternalError: there are no permutations.
    """
    if len(statistics) < 2:
        raise InternalError("a permutation test needs permutations")
    n = len(statistics) - 1
    filled = np.where(np.isnan(statistics), np.inf, statistics)
    # Number of the n + 1 values that are at least as large: p values of the observed and of every null value.
    order = np.sort(filled, axis=0)
    p_all = np.column_stack(
        [(n + 1 - np.searchsorted(order[:, t], filled[:, t], side="left")) / (n + 1) for t in range(len(tasks))]
    )
    known = ~np.isnan(statistics[0])
    smallest = p_all[:, known].min(axis=1) if known.any() else np.ones(n + 1)
    found = []
    for t, task in enumerate(tasks):
        p = float(p_all[0, t]) if known[t] else float("nan")
        p_max = float((smallest <= p_all[0, t]).mean()) if known[t] else float("nan")
        found.append(
            PermutationResult(
                task=task.name,
                model=model,
                metric=task.spec.tested,
                question=question,
                observed=float(statistics[0, t]),
                null=tuple(float(v) for v in np.round(statistics[1:, t], digits)),
                p_value=p,
                p_value_max=p_max,
                n_permutations=n,
                method=method,
            )
        )
    return found
