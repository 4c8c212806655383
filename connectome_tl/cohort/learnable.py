"""Find outcomes that cannot be learned: constant in the cohort, or in the training rows of a fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan, kinship_groups, make_split_plan
from connectome_tl.errors import Problem, UsageError
from connectome_tl.settings.study import SplitSettings
from connectome_tl.tasks import Task

_SMALLEST = 1e-8  # difference of two values, relative to them
_SHOWN = 6  # values in a message


def is_constant(values: np.ndarray) -> bool:
    """Whether known values (n_subjects,) are equal up to rounding; also if there are none."""
    known = values[np.isfinite(values)]
    return known.size == 0 or float(np.ptp(known)) <= _SMALLEST * float(np.abs(known).max())


def constant_words(task: Task, values: np.ndarray) -> str:
    """The only value of an outcome (n_subjects,): `positive in all 12 subjects with a value`."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "not known in any subject"
    whom = f"all {known.size} subjects" if known.size > 1 else "the only subject"
    return f"{value_words(task, known[0])} in {whom} with a value"


def value_words(task: Task, value: float) -> str:
    """A value of an outcome: positive or negative, the name of its level, or a number."""
    if task.is_binary:
        return "positive" if value else "negative"
    return task.levels[int(value)] if task.spec.by_level and task.levels else f"{value:g}"


def constant_outcomes(cohort: Cohort, role: str, names: Sequence[str]) -> list[Problem]:
    """A problem for each of these outcomes that is constant in the cohort; in the target, also outside one family.

    If all subjects with another value are of one family, the training rows without this family are constant.
    """
    problems = []
    for task in cohort.tasks:
        values = _values(cohort, task)
        if task.name not in names:
            continue
        if is_constant(values):
            what, expected = f"is {constant_words(task, values)}", "two different values or more"
        elif role == "target" and (left := _outside_one_family(cohort, values)) is not None:
            rest = f"values other than {value_words(task, left[0])}" if left.size else "values"
            what = f"has {rest} in one family only (a subject without relatives is one)"
            expected = "each class in two families or more"
        else:
            continue
        problems.append(
            Problem(
                f"{_place(cohort, task)}: outcome {task.label} {what}; it cannot be learned or tested",
                expected=expected,
                got=_counts(task, values),
                remedy=_other(role, task),
            )
        )
    return problems


def constant_in_folds(
    cohort: Cohort, names: Sequence[str], splits: SplitPlan, settings: SplitSettings
) -> list[Problem]:
    """A problem for each outcome that is constant, or known in one family only, in the training rows of a fold."""
    problems = []
    for task in cohort.tasks:
        if task.name not in names or (found := _unlearnable_fold(cohort, task, splits)) is None:
            continue
        repeat, fold, train = found
        what = constant_words(task, train) if is_constant(train) else "known in one family only"
        problems.append(
            Problem(
                f"{_place(cohort, task)}: among the training rows of repeat {repeat + 1}, fold {fold + 1}, outcome "
                f"{task.label} is {what}; it cannot be learned",
                expected="two different values and two families or more in the training rows of every fold",
                got=_counts(task, _values(cohort, task)),
                remedy=_better_folds(cohort, task, settings) or _other("target", task),
            )
        )
    return problems


def _values(cohort: Cohort, task: Task) -> np.ndarray:
    return np.asarray(cohort.targets[task.name].to_numpy(dtype=float))


def _outside_one_family(cohort: Cohort, values: np.ndarray) -> np.ndarray | None:
    """The values without those of one family, if they are then constant; else None."""
    known, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    apart = np.isfinite(values) & (values != known[counts.argmax()])
    family = kinship_groups(cohort.family)
    left = values[np.isfinite(values) & (family != family[apart][0])]
    return left if is_constant(left) else None


def _place(cohort: Cohort, task: Task) -> str:
    return f"outcomes[{[one.name for one in cohort.tasks].index(task.name)}].column"


def _unlearnable_fold(cohort: Cohort, task: Task, splits: SplitPlan) -> tuple[int, int, np.ndarray] | None:
    """Repeat, number and training values of the first fold in which the outcome cannot be learned."""
    values, family = _values(cohort, task), kinship_groups(cohort.family)
    for repeat, number, fold in splits.folds():
        rows = cohort.positions(fold.train)
        rows = rows[np.isfinite(values[rows])]
        if is_constant(values[rows]) or len(np.unique(family[rows])) < 2:
            return repeat, number, values[rows]
    return None


def _counts(task: Task, values: np.ndarray) -> str:
    """`negative (11), positive (1) in the cohort`; the most frequent values first."""
    found, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    said = [f"{value_words(task, found[i])} ({counts[i]})" for i in np.argsort(-counts, kind="stable")[:_SHOWN]]
    return f"{', '.join(said)}{', ...' if len(found) > _SHOWN else ''} in the cohort" if said else "no value"


def _better_folds(cohort: Cohort, task: Task, settings: SplitSettings) -> str | None:
    """The first change of the split settings that gives every fold two values; None where there is none."""
    for changed in _changes(settings, cohort.n_subjects):
        wanted = {**changed, "stratum": task.name}
        try:
            splits = make_split_plan(cohort, settings.model_copy(update=wanted))
        except UsageError:
            continue
        if _unlearnable_fold(cohort, task, splits) is None:
            said = [f"splits.{key}: {value}" for key, value in wanted.items() if value != getattr(settings, key)]
            return f"Set {' and '.join(said)}."
    return None


def _changes(settings: SplitSettings, n_subjects: int) -> Iterator[Mapping[str, object]]:
    if settings.scheme == "few_labels":
        yield from ({"n_labelled": n} for n in range(settings.n_labelled or 2, n_subjects))
        return
    fewer, more = range(min(settings.outer, n_subjects), 1, -1), range(settings.outer + 1, min(10, n_subjects) + 1)
    yield from ({"scheme": "kfold", "outer": n} for n in (*fewer, *more))


def _other(role: str, task: Task) -> str:
    cutoff = "Give another cutoff, or name" if task.cutoff is not None else "Name"
    return f"{cutoff} other outcomes in {role}.tasks of the study."
