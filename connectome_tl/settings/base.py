"""Base class of all settings: frozen, strict, with clear reasons for refusals."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

from connectome_tl.models import Answering


class Settings(BaseModel, metaclass=Answering):
    """Base of all settings: frozen, with unknown keys and values of the wrong type refused on construction.

    A block with some keys keeps the defaults that its parent class sets for the others: with
    `training: Training = Training(steps=320, batch_size=64)`, the value `training: {steps: 100}`
    has a batch size of 64, not the default of `Training` itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_defaults_of_siblings(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        merged = dict(given)
        for name, field in cls.model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            if isinstance(merged.get(name), PathLike):
                merged[name] = fspath(merged[name])
            if isinstance(default, Settings) and isinstance(merged.get(name), dict):
                merged[name] = _over(default, merged[name])
            elif isinstance(merged.get(name), bool) and _is_number(field.annotation):
                nothing = " or null" if type(None) in get_args(field.annotation) else ""
                raise ValueError(f"{name}: a number{nothing} is needed, not {str(merged[name]).lower()}")
        return merged


def _is_number(annotation: Any) -> bool:
    """Whether a field is a number, and neither a truth value nor text; pydantic takes true for 1."""
    kinds = _plain(annotation)
    return bool(kinds & {int, float}) and not kinds & {bool, str}


def _plain(annotation: Any) -> set[Any]:
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        inner = inner[:1]
    elif get_origin(annotation) not in (None, Union, UnionType):
        return set()
    return {kind for one in inner for kind in _plain(one)} if inner else {annotation}


def _over(default: Settings, given: dict[Any, Any]) -> dict[Any, Any]:
    """Merge given keys into a default block; a block of another `kind` starts from its own defaults."""
    kind = getattr(default, "kind", None)
    if given.get("kind", kind) != kind:
        return given
    merged = dict(given)
    for name in type(default).model_fields:
        value = getattr(default, name)
        if name not in merged:
            merged[name] = value
        elif isinstance(value, Settings) and isinstance(merged[name], dict):
            merged[name] = _over(value, merged[name])
    return merged


class Record(BaseModel):
    """Base of all result records: frozen and strict like settings, but NaN is allowed and means *undefined*."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} occurs twice; name each once")
    return names


EachOnce = AfterValidator(_each_once)  # of a tuple of names


def given_of(settings: Settings, names: Sequence[str]) -> list[str]:
    """Those of the named settings that differ from their defaults."""
    fields = type(settings).model_fields
    return [name for name in names if getattr(settings, name) != fields[name].get_default(call_default_factory=True)]


def add_block(above: type[Settings], key: str, name: str, block: Settings) -> None:
    """Add the block of an extension to settings of a fixed class, which `above` has under `key`."""
    field = above.__pydantic_fields__[key]
    owner = type(field.default)
    owner.__pydantic_fields__[name] = FieldInfo(annotation=type(block), default=block)
    owner.model_rebuild(force=True)
    field.default = owner()
    above.model_rebuild(force=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def with_value(settings: SettingsT, path: Sequence[str], value: Any) -> SettingsT:
    """Copy settings with one value replaced, and validate the result.

    Args:
        path: names of the nested blocks, and of the value.

    Raises:
        KeyError: the settings have no such key.
        pydantic.ValidationError: the value, or the resulting settings, are invalid.
    """
    head, *rest = path
    if head not in type(settings).model_fields:
        raise KeyError(head)
    if rest:
        below = getattr(settings, head)
        if isinstance(below, dict) and len(rest) == 1:
            value = {**below, rest[0]: value}
        elif isinstance(below, Settings):
            value = with_value(below, rest, value)
        else:
            raise KeyError(".".join(path))
    given = {name: getattr(settings, name) for name in type(settings).model_fields}
    return type(settings).model_validate({**given, head: value})
