"""Read large arrays from disk in blocks of rows, without loading the whole stack."""

from __future__ import annotations

import math
import mmap
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from connectome_tl.connectome.formats.arrays import no_array, not_arrays
from connectome_tl.errors import DataError
from connectome_tl.files import regular_file

_BLOCK_BYTES = 16_000_000
_MOST_ROWS = 500
_MOST_SMALL = 500_000_000  # bytes of names, masks and features together


@dataclass(frozen=True)
class StackedArray:
    """Shape and type of an array on disk; `blocks()` yields its rows in order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    source: Callable[[int], Iterator[np.ndarray]]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield blocks (n_rows, ...) of at most about 16 MB.

        Raises:
            DataError: the data after the header are damaged.
        """
        row = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
        yield from self.source(max(1, min(_MOST_ROWS, _BLOCK_BYTES // row)))


def in_memory(array: np.ndarray) -> StackedArray:
    """Wrap an array in memory as a stacked one."""

    def source(n_rows: int) -> Iterator[np.ndarray]:
        for start in range(0, len(array), n_rows):
            yield array[start : start + n_rows]

    return StackedArray(array.shape, array.dtype, source)


def open_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, StackedArray]]:
    """Open an `.npy` (named `array`) or `.npz`: names and masks are read, numeric arrays stay on disk.

    Raises:
        MissingInputError: no such file. DataError: damaged, or pickled.
    """
    regular_file(path)
    with path.open("rb") as stream:
        start = stream.read(8)
    if not start.startswith((npy.MAGIC_PREFIX, b"PK")):
        raise no_array(start, path)
    try:
        if not zipfile.is_zipfile(path):
            return {}, {"array": _mapped(path)}
        small: dict[str, np.ndarray] = {}
        large: dict[str, StackedArray] = {}
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            warnings.simplefilter("error")
            left = _MOST_SMALL
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as stream:
                    shape, by_column, dtype = _header(stream)
                if math.prod(shape) * dtype.itemsize > info.file_size:
                    raise ValueError(f"{name} is cut off")
                if name in small or name in large:
                    raise ValueError(f"two arrays are called {name}")
                if _may_be_matrices(dtype, shape) and not by_column and name != "region_features":
                    large[name] = StackedArray(shape, dtype, _unpacked(path, info.filename, shape, dtype))
                else:
                    left -= info.file_size
                    if left < 0:
                        raise ValueError("names, masks and features are too large for a cohort")
                    with archive.open(info) as stream:
                        small[name] = npy.read_array(stream, allow_pickle=False)
        by_column_too = {
            name: in_memory(array) for name, array in small.items() if _may_be_matrices(array.dtype, array.shape)
        }
        return small, large | by_column_too
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(
            "is larger than memory according to its header", file=path, remedy="It is probably damaged."
        ) from error
    except Exception as error:  # numpy and zipfile raise many types for a damaged file; all mean the same here
        raise not_arrays(error, path) from error


def _may_be_matrices(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether an array may hold matrices or triangles; truth values with two axes are masks."""
    return (dtype.kind in "fiu" and len(shape) >= 2) or (dtype.kind == "b" and len(shape) >= 3)


def released(array: np.ndarray) -> None:
    """Release the memory of a memory-mapped array; its content stays in the file."""
    mapping = getattr(array, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _mapped(path: Path) -> StackedArray:
    with path.open("rb") as stream:
        _header(stream)
    array = npy.open_memmap(path, mode="r")

    def source(n_rows: int) -> Iterator[np.ndarray]:
        for start in range(0, len(array), n_rows):
            yield np.array(array[start : start + n_rows])
            released(array)

    return StackedArray(array.shape, array.dtype, source)


def _unpacked(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Callable[[int], Iterator[np.ndarray]]:
    row = math.prod(shape[1:]) * dtype.itemsize

    def source(n_rows: int) -> Iterator[np.ndarray]:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
                _header(stream)
                for start in range(0, shape[0], n_rows):
                    size = min(n_rows, shape[0] - start)
                    data = stream.read(size * row)
                    if len(data) != size * row:
                        raise ValueError(f"{name} is cut off")
                    yield np.frombuffer(data, dtype=dtype).reshape(size, *shape[1:])
                if stream.read(1):  # reading to the end also compares the checksum
                    raise ValueError(f"{name} is longer than its shape")
        except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, NotImplementedError) as error:
            raise not_arrays(error, path) from error

    return source


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_column, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("pickled objects, which are not read")
    return tuple(shape), bool(by_column), dtype
