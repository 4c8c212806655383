"""Questions that cannot be answered from the files, and their answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from connectome_tl.cohort.columns.guesses import ColumnGuess, negative_level
from connectome_tl.cohort.tables.cells import nearest
from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.plurals import counted
from connectome_tl.settings.columns import AgeUnit
from connectome_tl.workflows.init.look import SERIES, Seen, age_of, all_of, first_of, span_of

_UNITS: tuple[AgeUnit, ...] = ("weeks", "months", "years", "days", "hours")
_NONE = "none"
_REFERENCES = ("birth", "postmenstrual", "corrected")


@dataclass(frozen=True)
class Question:
    """A question that cannot be answered from the files.

    Attributes:
        key: key in `--answer key=value`. choices: accepted answers; empty for any text.
        default: answer used without a reply; None for no default.
        only_if: key and answer of an earlier question without which this one does not arise.
    """

    key: str
    text: str
    choices: tuple[str, ...] = ()
    default: str | None = None
    only_if: tuple[str, str] | None = None


Ask = Callable[[Question], str]

# On the files of matrices, asked while they are read; key: question.
FILE_QUESTIONS = {
    "pattern": "Which files are to be used",
    "format": "Each file holds several: which one",
    "measure": "Each file holds several measures: which one",
    "key": "The file holds several arrays: which one",
    "rows": "Which table or list has the ids of the matrices, in their order",
}

_ARE_SERIES = "The files are not square matrices: are they time series of regions, one column each"


def choice_of(key: str, choices: tuple[str, ...], answers: Mapping[str, str], ask: Ask | None) -> str:
    """The answer to one of the questions on the files. Without one, the first pattern is taken.

    Raises:
        UsageError: an answer outside the choices; no answer on format or measure.
    """
    text = _ARE_SERIES if choices == (SERIES,) else FILE_QUESTIONS[key]
    question = Question(key, text, choices, choices[0] if key == "pattern" else None)
    return _settled([question], {key: answers[key]} if key in answers else {}, ask)[key]


def settle(seen: Seen, answers: Mapping[str, str], ask: Ask | None) -> tuple[Seen, dict[str, str]]:
    """Get answers to all questions from `--answer`, the user, or defaults; returns updated columns and answers.

    Outcomes and age are asked first, since the other questions concern these columns.

    Raises:
        UsageError: an answer outside the choices, or unanswered questions.
    """
    first = column_questions(seen)
    _refuse_dates(seen, answers.get("age"))
    keys = {one.key for one in first}
    roles = _settled(first, {key: value for key, value in answers.items() if key in keys}, ask)
    seen = with_roles(seen, roles)
    later = {key: value for key, value in answers.items() if key not in keys}
    return seen, {**roles, **_settled(questions_of(seen, roles), later, ask)}


def _refuse_dates(seen: Seen, column: str | None) -> None:
    """Refuse a column of dates that the user names as the age.

    Raises:
        UsageError: the column holds dates.
    """
    date = next((one.date for one in seen.columns if one.column == column), "")
    if date:
        raise UsageError(
            f"age: column {column!r} holds dates",
            expected="ages in one unit (weeks, months, years, days or hours)",
            got=date,
            file=seen.table,
            remedy="Add a column with the date of the scan minus the date of birth.",
        )


def _settled(questions: Sequence[Question], answers: Mapping[str, str], ask: Ask | None) -> dict[str, str]:
    unknown = sorted(set(answers) - {one.key for one in questions})
    if unknown:
        raise UsageError(
            f"no such question: {', '.join(unknown)}", expected=", ".join(q.key for q in questions) or "none"
        )
    settled: dict[str, str] = {}
    open_: list[Problem] = []
    for one in questions:
        if one.only_if is not None and settled.get(one.only_if[0]) != one.only_if[1]:
            continue
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
    raise_all("there are open questions", open_, UsageError)
    return settled


def column_questions(seen: Seen) -> tuple[Question, ...]:
    """Questions on the columns of outcomes and of the age at scan, with defaults from the names of the columns."""
    outcomes = ", ".join(one.column for one in all_of(seen, "outcome"))
    age = first_of(seen, "age")
    numeric = tuple(one.column for one in seen.columns if one.numeric)
    return (
        Question("outcomes", "Which columns are outcomes; separate them by commas, or none", (), outcomes or _NONE),
        Question("age", "Which column is the age at scan", (*numeric, _NONE), _NONE if age is None else age.column),
    )


def with_roles(seen: Seen, roles: Mapping[str, str]) -> Seen:
    """The content with the specified outcomes and age.

    Raises:
        UsageError: a column that is not in the table, or cannot be an outcome.
    """
    known = {one.column: one for one in seen.columns}
    named = _columns_in(roles["outcomes"], tuple(known))
    for name in named:
        if name not in known:
            near = nearest(name, known)
            remedy = f"Did you mean {' or '.join(near)}?" if near else None
            raise UsageError(f"outcomes: the table has no column {name!r}", file=seen.table, remedy=remedy)
        if not known[name].readable:
            raise UsageError(f"outcomes: column {name!r} has neither numbers nor a few levels", file=seen.table)

    def role(one: ColumnGuess) -> ColumnGuess:
        if one.column in named:
            return replace(one, meaning="outcome")
        if one.column == roles["age"]:
            return replace(one, meaning="age")
        return replace(one, meaning="covariate") if one.meaning in ("outcome", "age") else one

    return replace(seen, columns=tuple(role(one) for one in seen.columns))


def _columns_in(text: str, columns: Sequence[str]) -> list[str]:
    """Split names at commas, except within names of columns that contain a comma."""
    if text.strip() == _NONE:
        return []
    left, found = f",{text},", []
    for name in sorted(columns, key=len, reverse=True):
        pattern = rf",\s*{re.escape(name)}\s*(?=,)"
        if re.search(pattern, left):
            left = re.sub(pattern, ",", left)
            found.append(name)
    return [*found, *(part.strip() for part in left.split(",") if part.strip())]


def questions_of(seen: Seen, roles: Mapping[str, str]) -> tuple[Question, ...]:
    """Questions that cannot be answered from the files; `roles` are the answers on columns."""
    found: list[Question] = []
    age = age_of(seen, roles)
    if age is not None and age.unit is None:
        found.append(Question("age_unit", f"Column {age.column!r} ({span_of(seen, age)}): which unit of time", _UNITS))
    if age is not None and age.reference is None and age.unit in (None, "weeks"):
        text = f"Column {age.column!r}: from when are the weeks counted"
        in_weeks = None if age.unit == "weeks" else ("age_unit", "weeks")
        found.append(Question("age_reference", text, _REFERENCES, only_if=in_weeks))
    if not seen.named:
        text = (
            f"The matrices have {counted(seen.n_regions, 'row')} without names: which atlas are they of, or are they "
            f"only numbered"
        )
        default = {0: "numbered", 1: seen.atlases[0] if seen.atlases else None}.get(len(seen.atlases))
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
