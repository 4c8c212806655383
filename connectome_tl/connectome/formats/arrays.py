"""Read matrices from NumPy files. Pickled arrays are refused."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from connectome_tl.connectome.formats.name_lists import row_lists, safe_texts
from connectome_tl.connectome.formats.narrow import refuse_narrow
from connectome_tl.connectome.matrix_file import MatrixFile, triangle_sizes
from connectome_tl.connectome.names.labels import listed
from connectome_tl.errors import DataError
from connectome_tl.files import read_bytes

MOST_BYTES = 250_000_000  # of all arrays of one subject's file together
_RATIO = 20  # real matrices do not compress better; a higher ratio indicates damage or a decompression bomb
_MAX_BYTES = 4_000_000_000
_SHOWN = 10
_NOT_MATRICES = ("node_mask", "region_features")
_SPARSE = {"data", "format", "shape"}  # arrays of `scipy.sparse.save_npz`
_ZIP = b"PK"
_MOST_DENSE = 30_000_000  # entries of a dense matrix made from a sparse one
_MANY = "Arrays of many subjects are read with `stack`."


def read_npy(path: str | Path) -> MatrixFile:
    """(n, n), (n_measures, n, n) or a triangle (n_values,) from an `.npy` file.

    Raises:
        DataError: damaged, pickled, or of another shape.
    """
    return matrix_of(load_array(path, limit=MOST_BYTES), path)


def read_npz(path: str | Path, choice: str = "") -> MatrixFile:
    """One subject: `weights` (or the only matrix), with region names from another array of text.

    Args:
        choice: which arrays are the matrices, separated by commas; each is then a measure of that name.

    Raises:
        DataError: damaged, pickled, or arrays that disagree.
    """
    arrays = load_arrays(path)
    keys = choice.split(",") if choice else [_only_matrix(arrays, path)]
    absent = [key for key in keys if key not in arrays]
    if absent:
        offered = listed(_matrix_names(arrays), _SHOWN) or "none"
        raise DataError(f"no array is called {absent[0]!r}", file=path, expected=f"one of {offered}")
    measures = () if len(keys) > 1 else _texts(arrays.get("measures")) or ()
    parts = [matrix_of(measures_first(numeric(arrays[key], key, path), measures), path).values for key in keys]
    if len(keys) > 1 and any(part.shape != (1, *parts[0].shape[1:]) for part in parts):
        raise DataError("the arrays differ in shape", file=path, got=", ".join(str(part.shape) for part in parts))
    matrix = MatrixFile(np.concatenate(parts), tuple(keys) if len(keys) > 1 else ())
    names = _texts(arrays.get("regions"))
    if measures and matrix.values.ndim == 3 and len(measures) != len(matrix.values):
        raise DataError(
            "measures do not match the matrix", file=path, expected=str(len(matrix.values)), got=", ".join(measures)
        )
    mask = arrays.get("node_mask")
    if mask is not None:
        _mask(matrix.values, mask, path)
    lists = () if names is not None else row_lists(arrays, matrix.row_counts, (*keys, "measures", *_NOT_MATRICES))
    return MatrixFile(
        matrix.values, measures or matrix.measures, names=names, nan_is_missing=mask is not None, lists=lists
    )


def _mask(values: np.ndarray, mask: np.ndarray, path: str | Path) -> None:
    if mask.dtype != bool or mask.shape != (values.shape[-1],) or values.ndim != 3:
        raise DataError("node_mask does not match the matrix", file=path, got=f"{mask.dtype} {mask.shape}")
    values[:, ~mask, :] = np.nan
    values[:, :, ~mask] = np.nan


def _texts(array: np.ndarray | None) -> tuple[str, ...] | None:
    if array is None or array.dtype.kind not in "US" or array.ndim != 1:
        return None
    return safe_texts(array)


def _matrix_names(arrays: dict[str, np.ndarray]) -> list[str]:
    """Names of arrays that may be matrices or triangles, without lists of whole numbers, masks or features."""
    return [
        name
        for name, array in arrays.items()
        if array.dtype.kind in "fiub" and array.ndim >= 1 and name not in _NOT_MATRICES
    ]


def matrix_arrays(path: Path) -> tuple[str, ...]:
    """Arrays of an `.npz` that may be the matrix: `weights`, else the square ones, else all numeric ones."""
    return _matrices(load_arrays(path))


def _matrices(arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    names = _matrix_names(arrays)
    if "weights" in names:
        return ("weights",)
    shapes = {name: arrays[name].shape for name in names}
    square = [name for name, shape in shapes.items() if len(shape) in (2, 3) and shape[-1] == shape[-2] > 1]
    return tuple(square or names)


def _only_matrix(arrays: dict[str, np.ndarray], path: str | Path) -> str:
    found = _matrices(arrays)
    if len(found) != 1:
        raise DataError(
            "several arrays, and none was chosen" if found else "no numeric array in the file",
            file=path,
            expected="key: one of " + listed(found or list(arrays), _SHOWN),
            remedy=f"For one file: --format npz:{found[0]}." if found else None,
        )
    return found[0]


def measures_first(array: np.ndarray, measures: Sequence[str]) -> np.ndarray:
    """(n_measures, n, n), from (n, n, n_measures) too, as MATLAB users write it, where the measures are named."""
    if array.ndim == 3 and array.shape[0] == array.shape[1] != array.shape[2] == len(measures):
        return np.moveaxis(array, -1, 0)
    return array


def matrix_of(array: np.ndarray, path: str | Path) -> MatrixFile:
    """An array as a matrix file without names."""
    while array.ndim > 3 and len(array) == 1:
        array = array[0]
    refuse_narrow(array, path)
    if array.ndim == 2 and 1 in array.shape and array.size > 1:
        array = array.ravel()
    if array.ndim == 3 and array.shape[-1] == 1 < array.shape[0]:
        array = array[..., 0]
    if array.ndim == 1 and triangle_sizes(array.size):
        return MatrixFile(array[None].astype(float))
    if array.ndim in (2, 3) and array.shape[-1] == array.shape[-2] > 1:
        return MatrixFile((array if array.ndim == 3 else array[None]).astype(float))
    raise DataError(
        "the array is not a connectome",
        file=path,
        expected="(n, n), (n_measures, n, n), or a triangle of n (n - 1) / 2 or n (n + 1) / 2 values",
        got=str(array.shape),
        remedy="A list of edges is read as .csv, with columns source, target and weight."
        if array.ndim == 2 and array.shape[1] == 3
        else f"Put the measures on the first axis: np.moveaxis(x, -1, 0). {_MANY}"
        if array.ndim == 3 and array.shape[0] == array.shape[1]
        else f"It may be cut off. {_MANY}",
    )


def numeric(array: np.ndarray, key: str, path: str | Path) -> np.ndarray:
    """The array, if it holds real numbers.

    Raises:
        DataError: the array is not numeric, or complex.
    """
    if array.dtype.kind not in "fiub":
        remedy = "Save its real part." if array.dtype.kind == "c" else "Save it as numbers."
        raise DataError(f"array {key!r} does not hold real numbers", file=path, got=str(array.dtype), remedy=remedy)
    return array


def load_array(path: str | Path, key: str | None = None, *, limit: int = _MAX_BYTES) -> np.ndarray:
    """One numeric array from `.npy` or `.npz`, never unpickled.

    Args:
        key: name of the array inside an `.npz`; may be None when there is only one matrix-like array.
        limit: bytes of the file.

    Raises:
        MissingInputError: no such file. DataError: damaged, pickled, not numeric, or the key is not there.
    """
    arrays = load_arrays(path, limit=limit)
    if key is None:
        key = next(iter(arrays)) if len(arrays) == 1 else _only_matrix(arrays, path)
    if key not in arrays:
        raise DataError(f"no array is called {key!r}", file=path, expected=f"one of {listed(list(arrays), _SHOWN)}")
    return numeric(arrays[key], key, path)


def load_arrays(path: str | Path, *, limit: int = _MAX_BYTES) -> dict[str, np.ndarray]:
    """All arrays of an `.npy` (under the name `array`) or `.npz`, never unpickled; see `load_array`."""
    data = read_bytes(path, limit=limit)
    if not data.startswith((npy.MAGIC_PREFIX, _ZIP)):
        raise no_array(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if not data.startswith(_ZIP):
                loaded = np.load(io.BytesIO(data), allow_pickle=False)
                if isinstance(loaded, np.ndarray):
                    return {"array": loaded}
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                _check_sum(archive, len(data), path)
                arrays = {info.filename.removesuffix(".npy"): _member(archive, info) for info in archive.infolist()}
                return {"weights": _dense(data, arrays)} if set(arrays) >= _SPARSE else arrays
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(
            "is larger than memory according to its header", file=path, remedy="It is probably damaged."
        ) from error
    except Exception as error:  # numpy and zipfile raise many types for a damaged file; all mean the same here
        raise not_arrays(error, path) from error


def not_arrays(error: Exception, path: str | Path) -> DataError:
    """The error for a file that NumPy cannot read."""
    if "object" in str(error).lower():
        return DataError(
            "cannot be read: an array of Python objects is pickled",
            file=path,
            remedy="Save texts by np.array(names, dtype=str), and each matrix as an array of numbers.",
        )
    return DataError(
        f"cannot be read as NumPy arrays: {error}", file=path, remedy="It is damaged, or pickled, which is never read."
    )


def no_array(start: bytes, path: str | Path) -> DataError:
    """The error for a file that is no NumPy file, by its first bytes."""
    if not start:
        return DataError("the file is empty", file=path)
    if start[:1] == b"\x80":
        return DataError("a pickled object, which is never read", file=path, remedy="Save the array by numpy.save.")
    return DataError(
        "not a NumPy file (.npy or .npz)",
        file=path,
        got=f"first bytes {start[:8]!r}",
        remedy="Save the array by numpy.save; a text file of one matrix is named .csv.",
    )


def _dense(data: bytes, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The matrix of an archive of `scipy.sparse.save_npz`."""
    if math.prod(arrays["shape"].tolist()) > _MOST_DENSE:
        raise ValueError("the sparse matrix is too large")
    from scipy import sparse

    found = sparse.load_npz(io.BytesIO(data))
    if hasattr(found, "check_format"):
        found.check_format(full_check=True)  # indices beyond the matrix
    return np.asarray(found.toarray())


def _check_sum(archive: zipfile.ZipFile, size: int, path: str | Path) -> None:
    """Refuse an archive whose members are implausibly large for its size, or share a name."""
    members = archive.infolist()
    limit = max(MOST_BYTES, _RATIO * size)
    total = sum(member.file_size for member in members)
    if total > limit:
        raise DataError(
            "the arrays in the file are too large",
            file=path,
            expected=f"at most {limit // 1_000_000} MB together",
            got=f"{total // 1_000_000} MB in a file of {size // 1_000_000} MB",
            remedy="Keep only the matrix and its names in it; many subjects are read with `stack`.",
        )
    names = [member.filename for member in members]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < 1_000 else []
    if twice or len(set(names)) != len(names):
        raise DataError("two arrays of one name", file=path, got=", ".join(twice[:3]) or None)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as stream:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
        if math.prod(shape) * dtype.itemsize > info.file_size:
            raise ValueError(f"{info.filename} is cut off")
    with archive.open(info) as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))
