"""Errors with exit codes. A message states the expected and the actual value, the file, and a remedy.

Exit codes follow the BIDS execution conventions (64 usage, 65 bad data, 66 missing input, 70 internal error,
74 input/output, 75 interrupted: run again to resume), so that a scheduler can retry only 74 and 75.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Problem:
    """One problem, with the information needed to fix it."""

    what: str
    expected: str | None = None
    got: str | None = None
    subject: str | None = None
    file: str | Path | None = None
    remedy: str | None = None
    line: int | None = None  # of the file, from 1
    named_in: str | None = None  # line of a settings file that names what is wrong with the file

    def __str__(self) -> str:
        place = ", ".join(
            part
            for part in (
                f"subject {self.subject}" if self.subject else "",
                f"file {self.file}" if self.file is not None else "",
                f"line {self.line}" if self.line is not None else "",
            )
            if part
        )
        parts = [f"{place}: {self.what}" if place else self.what]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.got is not None:
            parts.append(f"got {self.got}")
        if self.named_in is not None:
            parts.append(f"see {self.named_in}")
        text = "; ".join(parts)
        end = "" if text.endswith("?") else "."
        return f"{text}{end} {self.remedy}" if self.remedy else text


class ConnectomeTLError(Exception):
    """Base of all errors this package raises on purpose. `problems` contains one or more."""

    exit_code: ClassVar[int] = 70

    def __init__(
        self,
        what: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        subject: str | None = None,
        file: str | Path | None = None,
        remedy: str | None = None,
        line: int | None = None,
        problems: Iterable[Problem] = (),
    ) -> None:
        given = tuple(problems)
        self.problems = given or (Problem(what, expected, got, subject, file, remedy, line),)
        if given:
            lines = [what, *(f"  {i}. {problem}" for i, problem in enumerate(given, 1))]
            super().__init__("\n".join(lines))
        else:
            super().__init__(str(self.problems[0]))

    def __reduce__(self) -> tuple[object, ...]:
        # Errors of workers are pickled; their keyword fields must be preserved.
        return (_rebuild, (type(self), str(self), self.problems))


def with_subject(error: ConnectomeTLError, subject: str) -> ConnectomeTLError:
    """Add the subject to those problems of an error that name none."""
    if all(problem.subject is not None for problem in error.problems):
        return error
    named = tuple(
        problem if problem.subject is not None else replace(problem, subject=subject) for problem in error.problems
    )
    text = str(error) if len(named) > 1 or str(error) != str(error.problems[0]) else str(named[0])
    return _rebuild(type(error), text, named)


def with_problems(error: ConnectomeTLError, problems: tuple[Problem, ...]) -> ConnectomeTLError:
    """The same error with other words for its problems."""
    if len(problems) == 1 and str(error) == str(error.problems[0]):
        return _rebuild(type(error), str(problems[0]), problems)
    return type(error)(str(error).partition("\n")[0], problems=problems)


def _rebuild(kind: type[ConnectomeTLError], text: str, problems: tuple[Problem, ...]) -> ConnectomeTLError:
    error = kind.__new__(kind)
    Exception.__init__(error, text)
    error.problems = problems
    return error


class UsageError(ConnectomeTLError):
    """The command, a setting or an argument is wrong: exit 64."""

    exit_code = 64


class DataError(ConnectomeTLError):
    """The input data are wrong: exit 65."""

    exit_code = 65


class LeakageError(DataError):
    """A fitted step used rows that it must not use: exit code 65, no results are reported."""


class DivergedError(DataError):
    """Training gave non-finite numbers with these settings and data."""


class MissingInputError(ConnectomeTLError):
    """A named input was not found. Exit code 66."""

    exit_code = 66


class InternalError(ConnectomeTLError):
    """A bug: an invariant of this package does not hold. Exit code 70."""


class OutputError(ConnectomeTLError):
    """Reading or writing failed for reasons outside the data (disk full, read-only, locked): exit 74."""

    exit_code = 74


class InterruptedRunError(ConnectomeTLError):
    """Stopped before the end; the same command resumes: exit 75."""

    exit_code = 75


def raise_all(summary: str, problems: Iterable[Problem], kind: type[ConnectomeTLError] = DataError) -> None:
    """Raise one error that lists all problems; do nothing if there are none."""
    found = tuple(problems)
    if found:
        raise kind(summary, problems=found)
