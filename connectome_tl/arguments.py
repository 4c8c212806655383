"""Arguments of the public functions, checked against their annotations before anything is read or written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from connectome_tl.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
Count = Annotated[int, 0]  # with the least value
Positive = Annotated[int, 1]
_MOST_SHOWN = 60


class ArgumentError(UsageError, TypeError):
    """An argument of another type than the function takes: exit 64."""


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse arguments of other types than the annotations, numbers below their least value, and empty paths.

    NumPy's numbers, one text for a list of texts, and arrays or Series of texts are taken.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **values: P.kwargs) -> R:
        bound = signature.bind(*args, **values)
        hints = get_type_hints(function, include_extras=True)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _taken(f"{function.__name__}: {name}", value, hints[name])
        return function(*bound.args, **bound.kwargs)

    return call


def _taken(name: str, value: Any, hint: Any) -> Any:
    """The value in the type of its annotation."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if Path in kinds and isinstance(value, (str, PathLike)):
        if not str(value):
            raise ArgumentError(f"{name} is empty", expected="a path; '.' is the current folder")
        return value
    if Sequence[str] in kinds:
        value = (value,) if isinstance(value, str) else value
        value = value.tolist() if hasattr(value, "tolist") else value  # an array or a Series
    for kind in kinds:
        if _is_of(value, kind):
            return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value
    remedy = f"Give its folder: {value.folder}" if Path in kinds and hasattr(value, "folder") else None
    if str in kinds and isinstance(getattr(value, "name", None), str):
        remedy = f"Give its name: {value.name!r}"
    raise ArgumentError(f"{name} is wrong", expected=" or ".join(map(_called, kinds)), got=_shown(value), remedy=remedy)


def _is_of(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is Annotated:
        plain, least = get_args(kind)
        return _is_of(value, plain) and value >= least
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    if origin is Literal:  # the function names the values
        return isinstance(value, str)
    if origin is Sequence:
        texts = get_args(kind)[0] is str or get_origin(get_args(kind)[0]) is Literal
        return isinstance(value, (list, tuple)) and (not texts or all(isinstance(one, str) for one in value))
    if origin is Mapping:
        return isinstance(value, Mapping)
    if origin is not None:
        return callable(value)
    return isinstance(value, kind)


def _called(kind: Any) -> str:
    plain = {str: "a text", int: "a whole number", float: "a number", bool: "True or False", Path: "a path"}
    origins = {Sequence: "a list of texts", Mapping: "a dictionary", Literal: "a text"}
    if kind is type(None):
        return "None"
    if get_origin(kind) is Annotated:
        whole, least = get_args(kind)
        return f"{_called(whole)} of at least {least}"
    if get_origin(kind) is not None:
        return origins.get(get_origin(kind), "a function")
    return plain.get(kind, f"a {getattr(kind, '__name__', kind)}")


def _shown(value: Any) -> str:
    text = repr(value)
    kind = type(value).__name__
    return "None" if value is None else f"{text} ({kind})" if len(text) <= _MOST_SHOWN else f"a {kind}"
