"""Read YAML strictly into settings and write settings as YAML. Unknown keys are errors with line and path."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.files import read_bytes, regular_file
from connectome_tl.settings.base import Settings
from connectome_tl.settings.study import StudySettings
from connectome_tl.wording import problem_of, problems_of
from connectome_tl.yaml_values import NOTHING, Document, Path_, read_yaml

SettingsT = TypeVar("SettingsT", bound=Settings)
_MAX_BYTES = 1_000_000  # larger files are not settings
_NAMED = re.compile(
    r"(?:Value error, )?([a-z_]+(?:\.[a-z_]+)*): (?=\S)"
)  # a message of a block that begins with its key


def load_settings(path: str | Path, kind: type[SettingsT], *, overrides: Sequence[str] = ()) -> SettingsT:
    """Read a YAML file as settings of one kind.

    Args:
        overrides: `key.sub=value` texts that replace or add single values (`--set`).

    Raises:
        MissingInputError: no such file.
        UsageError: lists all problems with line, path and, for an unknown key, the most similar key.
    """
    file = Path(path)
    if regular_file(file, what="settings file").stat().st_size > _MAX_BYTES:
        raise UsageError("too large for a settings file", file=file, expected=f"at most {_MAX_BYTES} bytes")
    raw = read_bytes(file, limit=_MAX_BYTES)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        remedy = _of_a_table(file) or "Save the file as UTF-8."
        raise UsageError("not UTF-8 text", file=file, line=line, remedy=remedy) from error
    return parse_settings(text, kind, file=file, overrides=overrides)


def parse_settings(
    text: str, kind: type[SettingsT], *, file: str | Path | None = None, overrides: Sequence[str] = ()
) -> SettingsT:
    """`load_settings` from text."""
    overrides = (overrides,) if isinstance(overrides, str) else overrides
    document = read_yaml(text, file)
    value = {} if document.value is None else document.value
    if not isinstance(value, dict):
        got = "a list" if isinstance(value, list) else repr(value)[:60]
        raise UsageError("settings are a mapping of keys to values", file=file, got=got, remedy=_of_a_table(file))
    given: dict[Path_, str] = {}
    for override in overrides:
        given[_override(value, override)] = override
    try:
        return kind.model_validate(value)
    except ValidationError as error:

        def worded(item: ErrorDetails, path: Path_) -> Problem:
            listed = item["type"] in ("tuple_type", "list_type")  # `key.0=value` where the file has no list
            found_at = (t for at, t in given.items() if path[: len(at)] == at or (listed and at[: len(path)] == path))
            option = next(found_at, None)
            problem = _problem(item, path, kind, NOTHING if option else document, None if option else file)
            return problem if option is None else replace(problem, what=f"--set {option}: {problem.what}")

        found = problems_of(error, value, worded)
        raise_all("the settings are wrong", found, UsageError)
        raise  # not reached: a validation error always has at least one item


def _of_a_table(file: str | Path | None) -> str | None:
    """What to do with a table that is given instead of settings."""
    if file is None or Path(file).suffix.lower() not in (".csv", ".tsv", ".xlsx", ".xls", ".txt"):
        return None
    return "Make settings of a table: connectome-tl init FOLDER --from TABLE --matrices MATRICES."


def checked(kind: type[SettingsT], **values: object) -> SettingsT:
    """Settings from command-line values, with the same checks and messages as for files.

    Raises:
        UsageError: every fault at once.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = problems_of(error, values, lambda item, path: _problem(item, path, kind, NOTHING, None))
        raise UsageError("an option is wrong", problems=problems) from error


def dump_settings(settings: Settings) -> str:
    """Settings as YAML; `parse_settings` returns an equal object."""
    found = _dumped(settings)
    if isinstance(settings, StudySettings):
        found["baseline_settings"] = settings.used_blocks(found["baseline_settings"])
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=100)


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Differences of two settings (plain dictionaries), one text `key.sub: before to now` for each."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [line for k in keys for line in differences(before.get(k), now.get(k), f"{name}.{k}" if name else k)]
    return [] if before == now else [f"{name}: {before} to {now}"]


def _dumped(value: Any) -> Any:
    if isinstance(value, BaseModel):
        # Write null only if it is not the default (for example, an omitted stage).
        fields = {name: (getattr(value, name), field.default) for name, field in type(value).model_fields.items()}
        return {name: _dumped(own) for name, (own, default) in fields.items() if own is not None or default is not None}
    if isinstance(value, dict):
        return {key: _dumped(item) for key, item in value.items()}
    return [_dumped(item) for item in value] if isinstance(value, (list, tuple)) else value


def _override(value: dict[str, Any], text: str) -> Path_:
    """Set one value; returns its path."""
    key, equals, raw = text.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise UsageError("cannot be read as a setting", expected="key=value, for example splits.repeats=5", got=text)
    try:
        new = read_yaml(raw).value
    except UsageError as error:
        raise UsageError(f"--set {text[:60]!r}: {error.problems[0].what}", remedy=error.problems[0].remedy) from error
    *parents, last = key.strip().split(".")
    here: Any = value
    path: list[Hashable] = []
    for parent in parents:
        at: Any = _item(here, parent, text) if isinstance(here, list) else parent
        path.append(at)
        if isinstance(here, dict) and here.get(at) is None:  # absent, or a block without keys
            here[at] = {}
        here = here[at]
        if not isinstance(here, (dict, list)):
            raise UsageError(f"{parent} is a single value and has no keys", got=text)
    at = _item(here, last, text) if isinstance(here, list) else last
    here[at] = new
    return (*path, at)


def _item(items: list[Any], part: str, text: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise UsageError(f"a list of {len(items)} has no item {part!r}", expected="0 for the first", got=text)
    return int(part)


def _problem(
    item: ErrorDetails, path: Path_, kind: type[BaseModel], document: Document, file: str | Path | None
) -> Problem:
    lines = document.lines
    named = _NAMED.match(item["msg"])
    if named is not None and (*path, *named[1].split(".")) in lines:
        path, item = (*path, *named[1].split(".")), {**item, "msg": item["msg"][named.end() :]}
    known = path
    while known not in lines and known:
        known = known[:-1]
    got = item.get("input")
    shown = repr(got) if isinstance(got, (str, int, float, list)) else None
    shown = {"None": "null", "True": "true", "False": "false"}.get(str(got), shown)
    if isinstance(got, (int, float)):
        shown = document.texts.get(path, shown)  # 1.10, not 1.1
    return problem_of(item, kind, path, shown=shown, file=file, line=lines.get(known))
