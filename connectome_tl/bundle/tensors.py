"""Read tensors of a bundle one at a time: number, types and shapes are checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectome_tl.bundle.shapes import DTYPES
from connectome_tl.errors import DataError

_NAMES = {"F32": "float32", "F64": "float64", "BOOL": "bool", "I64": "int64"}
_SMALL = 4096  # bytes
_MANY, _BYTES_EACH = 1024, 128  # more tensors than `_MANY` need a file of so many bytes per tensor: arrays take 300


@dataclass(frozen=True)
class RowTable:
    """Arrays whose first axes are rows, read some rows at a time.

    Attributes:
        shapes: shape of each array. types: its type.
        read: the rows from `start` to `stop` of an array.
    """

    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]
    read: Callable[[str, int, int], np.ndarray]

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> RowTable:
        """Arrays in memory."""
        return RowTable(
            {name: array.shape for name, array in arrays.items()},
            {name: array.dtype.name for name, array in arrays.items()},
            lambda name, start, stop: arrays[name][start:stop],
        )


@contextmanager
def opened_rows(file: Path) -> Iterator[RowTable]:
    """The tensors of a safetensors file as rows.

    Raises:
        DataError: tensors of a type that a bundle does not hold, or too many of them.
    """
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        names = list(opened.keys())
        if len(names) > max(_MANY, file.stat().st_size // _BYTES_EACH):
            raise DataError("more tensors than a file of this size may hold", file=file, got=str(len(names)))
        shapes, types = {}, {}
        for name in names:
            part = opened.get_slice(name)
            kind = str(part.get_dtype())
            if _NAMES.get(kind) not in DTYPES:
                raise DataError("a tensor of a type that a bundle does not hold", file=file, got=kind[:20])
            shapes[name], types[name] = tuple(part.get_shape()), _NAMES[kind]
        yield RowTable(shapes, types, lambda name, start, stop: opened.get_slice(name)[start:stop])


def all_tensors(file: Path) -> dict[str, np.ndarray]:
    """All tensors of a file.

    Raises:
        DataError: as `opened_rows`.
    """
    from safetensors import safe_open

    with opened_rows(file) as table, safe_open(file, framework="numpy") as opened:
        return {name: _owned(opened.get_tensor(name)) for name in table.shapes}


def _owned(array: np.ndarray) -> np.ndarray:
    """Copy a small array: as read, it is a view of several objects that need more memory than its values."""
    return array.copy() if array.nbytes < _SMALL else array
