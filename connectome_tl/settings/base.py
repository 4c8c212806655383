"""Base class of all settings: frozen, strict, with clear reasons for refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Frozen; an unknown key or a value of the wrong kind is refused when it is made.

    A block that gives some keys keeps the defaults of the others as its owner set them: with
    `training: Training = Training(steps=320, batch_size=64)`, giving `training: {steps: 100}`
    leaves the batch size at 64 and not at the default of `Training` itself.
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
            if isinstance(default, Settings) and isinstance(merged.get(name), dict):
                merged[name] = _over(default, merged[name])
        return merged


def _over(default: Settings, given: dict[Any, Any]) -> dict[Any, Any]:
    """The given keys over those of a default block; another `kind` has other keys and starts from its own."""
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
    """A result: frozen and strict like a setting, but NaN is allowed and means *undefined*."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


SettingsT = TypeVar("SettingsT", bound=Settings)


def with_value(settings: SettingsT, path: Sequence[str], value: Any) -> SettingsT:
    """The same settings with one value replaced and everything checked again.

    Args:
        path: names of the blocks down to the value.

    Raises:
        KeyError: there is no such key in these settings.
        pydantic.ValidationError: the value, or the whole with it, is refused.
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
