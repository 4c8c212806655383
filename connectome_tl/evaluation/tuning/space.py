"""Convert a search space to Optuna distributions, and check it against the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.tuning import Dimension
from connectome_tl.training.checks import check_names
from connectome_tl.training.schemes import StudyCohorts

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


def check_space(study: StudySettings, cohorts: StudyCohorts, space: Mapping[str, Dimension]) -> None:
    """Check, before anything is written, that the study and its cohorts accept all values of a space.

    Each end of a range and each choice is tested separately.

    Raises:
        UsageError: lists all values that are refused.
    """
    problems: list[Problem] = []
    for key, one in space.items():
        for value in one.ends:
            try:
                check_names(study.with_settings({key: value}), cohorts)
            except UsageError as error:
                problems += [Problem(f"tune.space.{key} = {value!r}: {problem}") for problem in error.problems]
    raise_all("the search space does not fit the study", problems, UsageError)
