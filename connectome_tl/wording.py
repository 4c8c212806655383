"""Words for the faults that pydantic finds in settings and records."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from connectome_tl.errors import Problem

_RAW = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"Value error, ", ""),
        (r"Input should be greater than or equal to", "must be at least"),
        (r"Input should be less than or equal to", "must be at most"),
        (r"Input should be a valid integer[^;\n]*", "a whole number is needed"),
        (r"Input should be a valid number[^;\n]*", "a number is needed"),
        (r"Input should be ", "must be "),
        (r"String should match pattern", "must match"),
    )
)


def first_fault(error: ValidationError) -> str:
    """Place and nature of the first fault of a record or of settings, in one line."""
    item = error.errors()[0]
    where = ".".join(str(part) for part in item["loc"])
    return f"{where}: {plain_words(item)}" if where else plain_words(item)


def in_plain_text(message: str) -> str:
    """A message of pydantic, alone or inside another one, without its names of Python types."""
    for pattern, words in _RAW:
        message = pattern.sub(words, message)
    return message


def plain_words(item: ErrorDetails) -> str:
    """What is wrong, without names of Python types."""
    if item["type"] in _NEEDED:
        return _NEEDED[item["type"]].format(**item.get("ctx", {}))
    if item["type"] in _KEYS:
        return _KEYS[item["type"]]
    return in_plain_text(item["msg"])


def problems_of(
    error: ValidationError, value: Any, worded: Callable[[ErrorDetails, tuple[Hashable, ...]], Problem]
) -> list[Problem]:
    """One problem for each wrong key.

    Args:
        value: what was validated. worded: the problem of a fault at a path, without the kinds and types of unions.
    """
    found: list[Problem] = []
    places: list[tuple[Hashable, ...]] = []
    for item in error.errors():
        path = _written(item["loc"], value, absent=item["type"] in ("missing", "extra_forbidden"))
        problem = worded(item, path)
        same = next((i for i, at in enumerate(places) if at == path and path != item["loc"]), None)
        if same is None:
            found.append(problem)
            places.append(path)
        elif problem.what.endswith(": a number is needed"):  # a whole number or one with decimals
            found[same] = problem
        elif problem.expected is not None:  # another type of the same union
            found[same] = replace(found[same], what=f"{found[same].what}, or {problem.expected}")
    return found


def _written(location: tuple[Hashable, ...], value: Any, *, absent: bool) -> tuple[Hashable, ...]:
    """The path of a value, without the kinds and types of unions that pydantic adds.

    Args:
        absent: whether the error is about a key that is missing or must not be there.
    """
    path: list[Hashable] = []
    here: Any = value
    for i, part in enumerate(location):
        inside: Any = vars(here) if isinstance(here, BaseModel) else here
        if part in (
            inside if isinstance(inside, dict) else range(len(inside)) if isinstance(inside, (list, tuple)) else ()
        ):
            here = inside[part]
        elif i < len(location) - 1 or not absent:  # a kind or type of a union, or the mark of a refused key
            continue
        path.append(part)
    return tuple(path)


def problem_of(
    item: ErrorDetails,
    kind: type[BaseModel],
    path: tuple[Hashable, ...],
    *,
    shown: str | None = None,
    file: str | Path | None = None,
    line: int | None = None,
) -> Problem:
    """One fault as a problem.

    Args:
        path: the key, without the kinds and types of unions that pydantic adds.
        shown: the value as the file has it.
    """
    where = dotted(path)
    if item["type"] == "extra_forbidden":
        fields = fields_at(kind, item["loc"][:-1])
        near = nearest_key(str(path[-1]), fields, kind)
        expected = f"one of {', '.join(fields)}" if fields else None
        place = " of the file itself" if near == path[-1] else ""
        remedy = f"Did you mean {near}{place}?" if near else None
        inner = item.get("input")
        if isinstance(inner, dict) and inner and set(inner) <= set(fields):
            remedy = f"Give the keys below `{path[-1]}:` one level higher, without it."
        return Problem(f"{where}: unknown key", expected, file=file, line=line, remedy=remedy)
    if item["type"] == "missing":
        return Problem(f"{where}: this key is required", file=file, line=line)
    got = item.get("input")
    message, expected, remedy = in_words(item, kind, path)
    if item["type"] == "string_type" and isinstance(got, (int, float)):
        remedy = f"Quote it: {path[-1]}: '{shown}'."
    what = f"{where}: {message}" if path else message
    return Problem(what, expected, shown, file=file, line=line, remedy=remedy)


def dotted(path: tuple[Hashable, ...]) -> str:
    """A path as messages write it: `covariates[0].column`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "(top)"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models of an annotation, including those of unions and lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def in_words(
    item: ErrorDetails, kind: type[BaseModel], path: tuple[Hashable, ...]
) -> tuple[str, str | None, str | None]:
    """What is wrong, expected values, and a remedy, for the errors that pydantic names by Python types."""
    error, got, context = item["type"], item.get("input"), item.get("ctx", {})
    name = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
    if error in ("model_type", "model_attributes_type", "dict_type", "union_tag_not_found"):
        kinds = [str(m.model_fields["kind"].default) for m in models_at(kind, path) if "kind" in m.model_fields]
        if len(kinds) > 1:
            near = f"Did you mean {name}: {{kind: {got}}}?" if got in kinds else None
            return "set `kind`", f"kind: one of {', '.join(kinds)}", near
        fields = [] if error == "dict_type" else fields_at(kind, item["loc"])
        needed = [key for m in models_at(kind, path) for key, one in m.model_fields.items() if one.is_required()]
        if error != "dict_type" and len(needed) == 1 and isinstance(got, str):
            return "a block of keys and values is needed", None, f"Did you mean {{{needed[0]}: {got}}}?"
        return "a block of keys and values is needed", f"keys {', '.join(fields)}" if fields else None, None
    if error in ("tuple_type", "list_type"):
        text = str(got).lower()
        if text in ("all", "default", "true"):
            return "a list is needed", None, f"Name each one, or leave {name} out for the default."
        taken = [m.model_fields[name].annotation for m in models_at(kind, path[:-1]) if name in m.model_fields]
        fields = sorted({key for one in taken for model in models_in(one) for key in model.model_fields})
        own = "" if text in ("none", "no", "false", "") else got
        if isinstance(got, dict) and all(str(key).isdigit() for key in got):
            own = ", ".join(map(str, got.values()))
        takes_it = not own or (not fields and any("..." in str(one) for one in taken))
        return (
            f"a list of blocks with the keys {', '.join(fields)} is needed" if fields else "a list is needed",
            None,
            f"Write {name}: [{own}]." if isinstance(own, (str, int, float)) and takes_it else None,
        )
    if error in ("literal_error", "union_tag_invalid"):
        tagged = error == "union_tag_invalid"
        known = re.findall(r"'([^']*)'", str(context["expected_tags" if tagged else "expected"]))
        given = str(context["tag"] if tagged else got)
        near = next(iter(difflib.get_close_matches(given.lower(), known, n=1, cutoff=0.5)), None)
        near = near if len(given) > 3 or near == given.lower() else None  # gpu is not cpu
        what = f"no {name} is called {given}" if tagged else "unknown value"
        return what, f"one of {', '.join(known)}", f"Did you mean {near}?" if near else None
    return plain_words(item), None, _number(name, got, _NEEDED.get(error, ""))


def _number(name: str, got: object, needed: str) -> str | None:
    """The number to write where one is needed and the text is one in another spelling, as 1e3 or 0,001."""
    text = str(got).strip().replace(",", ".")
    if "number is needed" not in needed or not re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", text, re.IGNORECASE):
        return None
    value = float(text)
    return None if "whole" in needed and value % 1 != 0 else f"Write {name}: {value:g}."


def nearest_key(name: str, fields: list[str], kind: type[BaseModel]) -> str | None:
    """The key of this place, or else of any other block, that an unknown key probably stands for."""
    close = difflib.get_close_matches(name, fields, n=1, cutoff=0.75)
    initials = [field for field in fields if "".join(word[:1] for word in field.split("_")) == name]
    elsewhere = sorted(path for path in _paths(kind, 3) if path.rpartition(".")[2] == name)[:1]
    loose = difflib.get_close_matches(name, fields, n=1, cutoff=0.51)
    return next(iter((*close, *initials, *elsewhere, *loose)), None)


def _paths(kind: type[BaseModel], depth: int, above: str = "") -> Iterator[str]:
    """Dotted keys of all settings below a kind, to some depth."""
    for name, field in kind.model_fields.items():
        yield above + name
        for below in models_in(field.annotation) if depth else ():
            yield from _paths(below, depth - 1, f"{above}{name}.")


_NEEDED = {
    "string_type": "a text is needed",
    "string_too_short": "must not be empty",
    **dict.fromkeys(("float_type", "float_parsing"), "a number is needed"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number is needed"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false is needed"),
    "finite_number": "a finite number is needed",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "has too few entries; at least {min_length} needed",
    "too_long": "has too many entries; at most {max_length} allowed",
}


_KEYS = {"extra_forbidden": "unknown key", "missing": "this key is required"}


def fields_at(kind: type[BaseModel], path: tuple[Hashable, ...]) -> list[str]:
    """Keys that the settings at a path below `kind` may have."""
    return sorted({name for model in models_at(kind, path) for name in model.model_fields})


def models_at(kind: type[BaseModel], path: tuple[Hashable, ...]) -> list[type[BaseModel]]:
    """The settings models that are possible at a path below `kind`."""
    models: list[type[BaseModel]] = [kind]
    for part in path:
        if isinstance(part, int):
            continue
        below = [
            model for m in models if part in m.model_fields for model in models_in(m.model_fields[str(part)].annotation)
        ]
        tagged = [m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == part]
        models = below or tagged or models
    return models
