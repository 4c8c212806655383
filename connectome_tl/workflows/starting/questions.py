"""What the files do not say, and who answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connectome_tl.cohort.guesses import negative_level
from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.settings.columns import AgeUnit
from connectome_tl.workflows.starting.look import Seen, all_of, first_of, span_of

_UNITS: tuple[AgeUnit, ...] = ("weeks", "months", "years", "days")
_REFERENCES = ("birth", "postmenstrual", "corrected")


@dataclass(frozen=True)
class Question:
    """What the files do not say.

    Attributes:
        key: how `--answer key=value` names it. choices: accepted answers; empty for any text.
        default: taken where nobody answers; None where there is none.
    """

    key: str
    text: str
    choices: tuple[str, ...] = ()
    default: str | None = None


Ask = Callable[[Question], str]


def settle(seen: Seen, answers: Mapping[str, str], ask: Ask | None) -> dict[str, str]:
    """Answers to all questions, from `--answer`, a person, or the default.

    Raises:
        UsageError: an answer that is none of the choices, or questions that nobody answered.
    """
    questions = questions_of(seen)
    unknown = sorted(set(answers) - {one.key for one in questions})
    if unknown:
        raise UsageError(
            f"no such question: {', '.join(unknown)}", expected=", ".join(q.key for q in questions) or "none"
        )
    settled: dict[str, str] = {}
    open_: list[Problem] = []
    for one in questions:
        given = answers.get(one.key)
        if given is None and ask is not None:
            given = ask(one)
        given = one.default if given is None else given
        if given is None:
            choices = f"one of {', '.join(one.choices)}" if one.choices else "a text"
            open_.append(Problem(one.text, expected=choices, remedy=f"Answer with --answer '{one.key}=...'."))
        elif one.choices and given not in one.choices:
            raise UsageError(f"answer {given!r} to {one.key}", expected=f"one of {', '.join(one.choices)}")
        else:
            settled[one.key] = given
    raise_all("the files leave something open", open_, UsageError)
    return settled


def questions_of(seen: Seen) -> tuple[Question, ...]:
    """What the files do not say."""
    found: list[Question] = []
    age = first_of(seen, "age")
    if age is not None and age.unit is None:
        found.append(Question("age_unit", f"Column {age.column!r} ({span_of(seen, age)}): which unit of time", _UNITS))
    if age is not None and age.reference is None and age.unit in (None, "weeks"):
        text = f"Column {age.column!r}: from when weeks are counted"
        found.append(Question("age_reference", text, _REFERENCES, None if age.unit == "weeks" else "birth"))
    if not seen.named and len(seen.atlases) != 1:
        text = f"The matrices have {seen.n_regions} rows without names: which atlas (numbered: rows are counted)"
        default = None if seen.atlases else "numbered"
        found.append(Question("atlas", text, (*seen.atlases, "numbered"), default))
    for one in all_of(seen, "outcome"):
        if len(one.levels) == 2:
            negative = negative_level(one.levels)
            default = next((level for level in one.levels if level != negative), None) if negative else None
            text = f"Column {one.column!r}: which of its values is the adverse outcome"
            found.append(Question(f"positive:{one.column}", text, one.levels, default))
        if one.edition is None and any(word in one.column.casefold() for word in ("bayley", "bsid")):
            text = f"Column {one.column!r}: which edition of the test"
            found.append(Question(f"edition:{one.column}", text, (), "not stated"))
    return tuple(found)
