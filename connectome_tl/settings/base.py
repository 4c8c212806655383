"""The one base of all settings: frozen, strict, with the reason of each refusal."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen; an unknown key or a value of the wrong kind is refused when it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class Record(BaseModel):
    """A result: frozen and strict like a setting, but NaN is allowed and means *undefined*."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")
