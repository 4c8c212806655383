"""Lines of a settings file that errors are about."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from connectome_tl.errors import ConnectomeTLError, Problem, with_problems
from connectome_tl.files import read_bytes, regular_file
from connectome_tl.wording import dotted
from connectome_tl.yaml_values import read_yaml

P = ParamSpec("P")
R = TypeVar("R")
_MAX_BYTES = 1_000_000
_QUOTED = re.compile(r"'([^']+)'")
_KEY = re.compile(r"\b[a-z_]+(?:(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)+(?!\w)|\[\d+\](?=: ))")
_TITLES = ("name", "title")  # what a cohort or study is called occurs in messages on anything


class _Value(NamedTuple):
    key: str
    text: str
    line: int


def names_lines(function: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Errors of a function whose first argument is a settings file name the line of the setting they are about."""

    @functools.wraps(function)
    def wrapped(settings: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(settings, *args, **kwargs)
        except ConnectomeTLError as error:
            if not isinstance(settings, (str, Path)):
                raise
            found = with_lines(error, Path(settings))
            if found is error:
                raise
            raise found from error

    return wrapped


def with_lines(error: ConnectomeTLError, file: Path) -> ConnectomeTLError:
    """The error with the line of the only setting that a problem names or quotes; unchanged where there is none.

    Problems that have a line already, or a subject, are unchanged.
    """
    if all(one.line is not None or one.named_in or one.subject for one in error.problems):
        return error
    try:
        text = read_bytes(regular_file(file), limit=_MAX_BYTES).decode("utf-8-sig")
        document = read_yaml(text)
    except (ConnectomeTLError, OSError, ValueError):
        return error
    values = tuple(
        _Value(dotted(path), text, document.lines[path])
        for path, text in document.texts.items()
        if not path or path[0] not in _TITLES
    )
    problems = tuple(_with_line(one, values, file) for one in error.problems)
    return error if problems == error.problems else with_problems(error, problems)


def _with_line(problem: Problem, values: tuple[_Value, ...], file: Path) -> Problem:
    if problem.line is not None or problem.named_in or problem.subject or problem.file == file:
        return problem
    keys = set(_KEY.findall(problem.what))
    found = [value for value in values if value.key in keys]
    if not found:
        quoted = set(_QUOTED.findall(problem.what))
        found = [value for value in values if value.text in quoted]
    if not found:
        found = [value for value in values if _is_path(value, problem, file)]
    if len({value.line for value in found}) != 1:
        return problem
    if problem.file is None:
        return replace(problem, file=file, line=found[0].line)
    return replace(problem, named_in=f"{file}, line {found[0].line} ({found[0].key})")


def _is_path(value: _Value, problem: Problem, file: Path) -> bool:
    if problem.file is None or not value.text:
        return False
    return os.path.normpath(file.parent / value.text) == os.path.normpath(problem.file)
