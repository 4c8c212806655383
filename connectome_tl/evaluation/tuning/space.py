"""Convert a search space to Optuna distributions, and check it against the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from connectome_tl.cohort.splits import Fold
from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.evaluation.nested_cv import seeded_chains, tasks_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import Dimension, TuneSettings
from connectome_tl.training.checks import check_names
from connectome_tl.training.schemes import StudyCohorts, scheme_named

if TYPE_CHECKING:
    from optuna import Trial


def suggest(trial: Trial, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Settings of a trial, by dotted key."""
    return {key: one.value(_label(trial, key, one)) for key, one in space.items()}


def _label(trial: Trial, key: str, one: Dimension) -> Any:
    if one.choices:
        return trial.suggest_categorical(key, one.labels)
    if one.is_integer:
        return trial.suggest_int(key, one.low, one.high, log=one.log)
    return trial.suggest_float(key, one.low, one.high, log=one.log)


def decoded(params: Mapping[str, Any], space: Mapping[str, Dimension]) -> dict[str, Any]:
    """The settings behind a stored trial, in the order of the space."""
    return {key: one.value(params[key]) for key, one in space.items()}


def check_space(study: StudySettings, cohorts: StudyCohorts, tune: TuneSettings, fold: Fold) -> None:
    """Check, before anything is written, that the study and its cohorts accept all values of a space, and use them.

    Each end of a range, a value between them, and each choice are tested separately.

    Args:
        fold: an outer fold, of whose fits the keys are compared.

    Raises:
        UsageError: lists all values that are refused, and all settings on which no fit of the tuned model depends.
    """
    problems: list[Problem] = []
    for key, one in tune.space.items():
        fits = set()
        for value in one.tested:
            try:
                changed = study.with_settings({key: value})
                check_names(changed, cohorts)
            except UsageError as error:
                whole = isinstance(value, float) and "a whole number is needed" in str(error)
                remedy = "Write both ends without decimal point or exponent: low: 10, high: 100." if whole else None
                problems += [
                    Problem(f"tune.space.{key} = {value!r}: {problem}", remedy=remedy) for problem in error.problems
                ]
                break
            plans = seeded_chains(changed, cohorts, scheme_named(tune.model), fold, tasks_of(changed, cohorts))
            fits.add(tuple(plan.key for plan in plans))
        else:
            if len(fits) == 1:
                problems.append(
                    Problem(
                        f"tune.space.{key} has no effect on the tuned model, {tune.model}",
                        remedy="Leave it out, or tune the model that uses it (tune.model).",
                    )
                )
    raise_all("the search space does not fit the study", problems, UsageError)
