"""Matrices as NumPy arrays. Nothing that runs code on load is ever read: no pickles."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from connectome_tl.connectome.naming import MatrixFile
from connectome_tl.errors import DataError
from connectome_tl.files import read_bytes

_MAX_BYTES = 20_000_000_000


def read_npy(path: str | Path) -> MatrixFile:
    """(n, n), (n_measures, n, n) or an upper triangle (n_edges,) from an `.npy` file.

    Raises:
        DataError: damaged, pickled, or of another shape.
    """
    return matrix_of(load_array(path), path)


def read_npz(path: str | Path) -> MatrixFile:
    """One subject: `weights` (or the only numeric array), and `regions`, `measures`, `node_mask` if there.

    Raises:
        DataError: damaged, pickled, or arrays that disagree.
    """
    arrays = load_arrays(path)
    matrix = matrix_of(load_array(path, "weights" if "weights" in arrays else None), path)
    names = _texts(arrays.get("regions"))
    measures = _texts(arrays.get("measures")) or ()
    mask = arrays.get("node_mask")
    if mask is not None:
        if mask.dtype != bool or mask.shape != (matrix.n_rows,) or matrix.values.ndim != 3:
            raise DataError("node_mask does not fit the matrix", file=path, got=f"{mask.dtype} {mask.shape}")
        matrix.values[:, ~mask, :] = np.nan
        matrix.values[:, :, ~mask] = np.nan
    if measures and matrix.values.ndim == 3 and len(measures) != len(matrix.values):
        raise DataError(
            "measures do not fit the matrix", file=path, expected=str(len(matrix.values)), got=", ".join(measures)
        )
    return MatrixFile(matrix.values, measures, names=names, nan_is_missing=mask is not None)


def _texts(array: np.ndarray | None) -> tuple[str, ...] | None:
    if array is None or array.dtype.kind != "U" or array.ndim != 1:
        return None
    return tuple(str(value) for value in array)


def matrix_of(array: np.ndarray, path: str | Path) -> MatrixFile:
    """An array as a matrix file without names."""
    if array.ndim == 1 and array.size > 0:
        return MatrixFile(array[None].astype(float))
    if array.ndim in (2, 3) and array.shape[-1] == array.shape[-2] > 1:
        return MatrixFile((array if array.ndim == 3 else array[None]).astype(float))
    raise DataError(
        "the array is no connectome",
        file=path,
        expected="(n, n), (n_measures, n, n), or (n_edges,)",
        got=str(array.shape),
        remedy="It may be cut off, or hold many subjects: those are read with `stack`.",
    )


def load_array(path: str | Path, key: str | None = None) -> np.ndarray:
    """One numeric array from `.npy` or `.npz`, never unpickled.

    Args:
        key: name of the array inside an `.npz`; may be None when there is only one matrix-like array.

    Raises:
        MissingInputError: no such file. DataError: damaged, pickled, not numeric, or the key is not there.
    """
    arrays = load_arrays(path)
    if key is None:
        candidates = [name for name, array in arrays.items() if array.dtype.kind in "fiub" and array.ndim >= 1]
        if len(candidates) > 1:
            candidates = [name for name in candidates if name not in ("node_mask", "region_features")]
        if len(candidates) != 1:
            raise DataError(
                "several arrays, and none was chosen",
                file=path,
                expected="key: one of " + ", ".join(arrays),
            )
        key = candidates[0]
    if key not in arrays:
        raise DataError(f"no array is called {key!r}", file=path, expected=f"one of {', '.join(arrays)}")
    array = arrays[key]
    if array.dtype.kind not in "fiub":
        raise DataError(f"array {key!r} is not numeric", file=path, got=str(array.dtype))
    return array


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npy` (under the name `array`) or `.npz`, never unpickled; see `load_array`."""
    data = read_bytes(path, limit=_MAX_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = np.load(io.BytesIO(data), allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"array": loaded}
            with loaded:
                if sum(member.file_size for member in loaded.zip.infolist()) > _MAX_BYTES:
                    raise MemoryError
                return {name: np.asarray(loaded[name]) for name in loaded.files}
    except MemoryError as error:
        raise DataError("claims to be larger than memory", file=path, remedy="It is probably damaged.") from error
    except Exception as error:  # numpy and zipfile raise a dozen kinds for a damaged file; each means the same here
        raise DataError(
            f"cannot be read as NumPy arrays: {error}",
            file=path,
            remedy="It is damaged, or pickled, which is never read.",
        ) from error
