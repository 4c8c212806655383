"""Convert fitted feature steps to arrays and JSON and back, for checkpoints.

Reading creates only record types of a fixed table, so that a file cannot name other classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from connectome_tl.errors import OutputError

Arrays = dict[str, np.ndarray]


def pack(record: Any, arrays: Arrays, prefix: str) -> Any:
    """Convert a fitted record to plain JSON; its arrays are added to `arrays` under names with this `prefix`."""
    if isinstance(record, np.ndarray) and record.dtype != object:
        arrays[prefix] = record
        return {"array": prefix}
    if is_dataclass(record) and not isinstance(record, type):
        parts = {f.name: pack(getattr(record, f.name), arrays, f"{prefix}.{f.name}") for f in fields(record) if f.init}
        return {"record": type(record).__name__, "fields": parts}
    if isinstance(record, (tuple, list)):
        return {"tuple": [pack(item, arrays, f"{prefix}.{i}") for i, item in enumerate(record)]}
    if isinstance(record, dict):
        # Pairs, since JSON with sorted keys would lose the order, which determines columns.
        return {"dict": [[str(key), pack(item, arrays, f"{prefix}.{key}")] for key, item in record.items()]}
    if isinstance(record, np.generic):
        return record.item()
    if record is None or isinstance(record, (str, bool, int, float)):
        return record
    raise TypeError(f"cannot be saved: {type(record).__name__} in {prefix}")


def unpack(plain: Any, arrays: Arrays, known: Iterable[type]) -> Any:
    """The inverse of `pack`.

    Args:
        known: the record types that may be created.

    Raises:
        OutputError: the state was not created by `pack`.
    """
    types = {kind.__name__: kind for kind in known}
    try:
        return _unpack(plain, arrays, types)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OutputError(
            f"fitted state cannot be read: {error!r}", remedy="Delete the fit and run again; it will be made again."
        ) from error


def _unpack(plain: Any, arrays: Arrays, types: dict[str, type]) -> Any:
    if not isinstance(plain, dict):
        return plain
    ((tag, content),) = [(key, value) for key, value in plain.items() if key != "fields"]
    if tag == "array":
        return arrays[content]
    if tag == "tuple":
        return tuple(_unpack(item, arrays, types) for item in content)
    if tag == "dict":
        return {key: _unpack(item, arrays, types) for key, item in content}
    if tag == "record":
        parts = {name: _unpack(item, arrays, types) for name, item in plain["fields"].items()}
        return types[content](**parts)
    raise KeyError(tag)
