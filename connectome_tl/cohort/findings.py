"""Problems and notes that are found while a cohort is read, one line per cause."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from connectome_tl.errors import Problem
from connectome_tl.plurals import counted

_SHOWN = 12
_MOST_LINES = 40
_FEW = 3
_QUOTED = re.compile(r"'[^']*'")
_DETAILS = re.compile(r"(?<=\w)\)?: .*")
# Ends of notes on how something was read that ask nothing of anybody. Every other note is shown as a warning.
_BENIGN = re.compile(
    r"decimal comma(?:s were read as points| was read as a point)"
    r"|was read as Windows-1252 \(Western European\): .*"
    r"|codes were replaced by their labels: .*"
    r"|the rows have no names and were taken in the order of .*"
    r"|rows have no names and were numbered; their order is taken to be the same in all files"
    r"|(?:was|were) read as missing|was read as no family|spellings of one category were read as one: .*"
    r"|censored values were read as (?:their limit|missing)|(?:is missing|its unit is .*), according to \S+"
    r"|missing cells were filled from .*|read from the column gender|are in the participants table already"
    r"|(?:is|are) missing in .*masked.*|further files fit the pattern of .*"
    r"|SIFT2 measures were multiplied by .*|CONN values are Fisher's z already"
    r"|and were read as (?:positions|label numbers)"
    r"|covariate and outcome; a study may use it as one of them only"
    r"|`run` makes them from the scans in .*"
)


def is_benign(note: str) -> bool:
    """Whether a note only reports how something was read; notes that need attention or an action are not benign."""
    return any(found.end() == len(note) for found in _BENIGN.finditer(note))


@dataclass
class Findings:
    """Problems, and notes on automatic decisions."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def several(self, rows: Sequence[tuple[str, str]], what: str, file: str | Path, remedy: str | None = None) -> None:
        """One problem for all (subject, value) of one cause; the first dozen are listed and the others counted."""
        if len(rows) == 1:
            subject, value = rows[0]
            self.problems.append(Problem(what, got=value, subject=subject, file=file, remedy=remedy))
        elif rows:
            pairs = [f"{subject}: {value}" for subject, value in rows]
            self.problems.append(
                Problem(f"{what}, in {counted(len(rows), 'row')}", got=listed(pairs), file=file, remedy=remedy),
            )

    def of_files(self, said: Iterable[tuple[Path, str]]) -> None:
        """Add notes that name their file, one for all files that were read in the same way."""
        groups: dict[str, list[str]] = {}
        for path, note in said:
            groups.setdefault(_DETAILS.sub("", _QUOTED.sub("", note.replace(path.name, ""))), []).append(note)
        for first, *more in groups.values():
            self.notes.append(f"{first} (and so in {counted(len(more), 'more file')})" if more else first)


def listed(values: Sequence[str], shown: int = _SHOWN) -> str:
    """The first of a list, and how many more there are."""
    more = f" and {len(values) - shown} more" if len(values) > shown else ""
    return ", ".join(values[:shown]) + more


def grouped(problems: Iterable[Problem]) -> list[Problem]:
    """Merge problems that differ only in subject, file and value into one line per cause.

    More than three problems that differ only in the quoted name of a column or region are also merged. The list is
    limited to 40 causes; the others are counted.
    """
    found = _by(_same_words, problems, _one)
    found = _by(_same_but_names, found, _of_many_names)
    if len(found) > _MOST_LINES:
        rest = len(found) - _MOST_LINES
        found = [*found[:_MOST_LINES], Problem(counted(rest, "more problem"), remedy="Fix these first.")]
    return found


def _by(
    key: Callable[[Problem], tuple[str | None, ...]],
    problems: Iterable[Problem],
    told: Callable[[list[Problem]], list[Problem]],
) -> list[Problem]:
    groups: dict[tuple[str | None, ...], list[Problem]] = {}
    for problem in problems:
        groups.setdefault(key(problem), []).append(problem)
    return [one for group in groups.values() for one in told(group)]


def _same_words(problem: Problem) -> tuple[str | None, ...]:
    return problem.what, problem.expected, problem.remedy


def _same_but_names(problem: Problem) -> tuple[str | None, ...]:
    return _QUOTED.sub("", problem.what), problem.expected, problem.remedy, str(problem.file)


def _one(group: list[Problem]) -> list[Problem]:
    first = group[0]
    subjects = list(dict.fromkeys(one.subject for one in group if one.subject is not None))
    if len(group) == 1:
        return group
    if len(subjects) < 2:
        files = len({str(one.file) for one in group})
        return [replace(first, what=f"{first.what} (and in {files - 1} more files)")] if files > 1 else [first]
    values = list(dict.fromkeys(one.got for one in group if one.got is not None))
    who = listed([f"{one.subject}: {one.got}" for one in group] if len(values) > 1 else subjects)
    got = f"{values[0]}, for {who}" if len(values) == 1 else who
    return [replace(first, what=f"{first.what}, for {counted(len(subjects), 'subject')}", got=got, subject=None)]


def _of_many_names(group: list[Problem]) -> list[Problem]:
    if len(group) <= _FEW:
        return group
    names = [match.group() if (match := _QUOTED.search(one.what)) else "" for one in group]
    what = f"{group[0].what}, and the same of {len(group) - 1} more: {listed(names[1:], 6)}"
    return [replace(group[0], what=what)]
