"""The metaclass of settings and outcomes: wrong values in Python are answered as those in a settings file are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from connectome_tl.errors import UsageError
from connectome_tl.wording import problem_of, problems_of

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class SettingsError(UsageError, ValueError):
    """Settings that are made in Python have wrong values or unknown keys: exit 64."""


class Answering(ModelMetaclass):
    """Models whose call raises `SettingsError`, with all faults. Nested blocks and files are validated by pydantic."""

    if not TYPE_CHECKING:  # the type of a call is that of `__init__`

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                found = problems_of(
                    error, values, lambda item, path: problem_of(item, cls, path, shown=_shown(item["input"]))
                )
                raise SettingsError(f"{cls.__name__}: the settings are wrong", problems=found) from error


def _shown(value: object) -> str | None:
    text = repr(value)
    return text if isinstance(value, (str, int, float, list, tuple, type(None))) and len(text) < 100 else None
