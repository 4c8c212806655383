"""Read HDF5 files: MATLAB files of version 7.3 as `mat5.parse_mat` returns them, and those of other programs.

For safety, links to other files, external or virtual storage, filters that load a plug-in, endless chains of
references and arrays larger than the file can hold are refused. The layout is that of MATLAB's `save -v7.3`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.connectome.formats.mat5 import DamagedMat, dense
from connectome_tl.connectome.formats.stacks import StackedArray
from connectome_tl.errors import DataError

_DEEPEST = 20
_MOST_OBJECTS = 1_000_000
_MOST_BYTES = 20_000_000_000
_MOST_TOGETHER = 250_000_000  # bytes of all variables read, or
_RATIO = 20  # times the size of the file: real matrices do not compress better
_BEST_COMPRESSION = 1_100  # limit of deflate; a higher ratio indicates damage or a decompression bomb
_MOST_TEXTS = 100_000
_FILTERS = frozenset({"gzip", "lzf", "shuffle", "fletcher32"})
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_mat73(head: bytes) -> bool:
    """Whether the first 520 bytes are those of an HDF5 file, with or without MATLAB's header in front."""
    return head[:8] == SIGNATURE or head[512:520] == SIGNATURE


def parse_mat73(path: str | Path, *, skip: Collection[str] = ()) -> dict[str, Any]:
    """Variables by name, with the shapes and types of `mat5.parse_mat`; complex numbers are None.

    MATLAB stores arrays with their axes reversed; in files of other programs the axes stay as they are, and a dataset
    in a group is named `group/dataset`.

    Args:
        skip: variables to leave out.

    Raises:
        DamagedMat: truncated, damaged, or with links to other files.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            members = _members(file)
            is_matlab = file.userblock_size > 0 or any("MATLAB_class" in member.attrs for _, member in members)
            reader = _Reader(Path(path).stat().st_size, is_matlab=is_matlab)
            wanted = [(name, member) for name, member in members if name[0] != "#" and name not in skip]
            found = {name: reader.of(member, 0) for name, member in wanted}
            return found if is_matlab else dict(_flat(found, ""))
    except DamagedMat:
        raise
    except MemoryError:
        raise
    except Exception as error:  # HDF5 and h5py raise many types for a damaged file; all mean the same here
        raise DamagedMat(" ".join(str(error).split())[:200]) from error


def open_stack(path: Path, name: str) -> StackedArray | None:
    """A variable (n, n2, n_subjects) as (n_subjects, n, n2), read in blocks; None where its shape is another.

    Raises:
        DamagedMat: damaged, or stored outside the file.
    """
    import h5py

    def source(n_rows: int) -> Iterator[np.ndarray]:
        try:
            with h5py.File(path, "r") as file:
                for start in range(0, shape[0], n_rows):
                    yield np.swapaxes(file[name][start : start + n_rows], 1, 2)
        except OSError as error:
            raise DataError(f"cannot be read as a MATLAB file: {error}", file=path) from error

    try:
        with h5py.File(path, "r") as file:
            member = dict(_members(file)).get(name)
            if not isinstance(member, h5py.Dataset) or member.ndim != 3 or member.dtype.kind != "f":
                return None
            _Reader(path.stat().st_size).check(member)
            shape, dtype = (member.shape[0], member.shape[2], member.shape[1]), member.dtype
    except DamagedMat:
        raise
    except Exception as error:  # see parse_mat73
        raise DamagedMat(" ".join(str(error).split())[:200]) from error
    return StackedArray(shape, dtype, source)


def _flat(variables: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Datasets of all groups, named by their paths."""
    for name, value in variables.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _members(group: Any) -> list[tuple[str, Any]]:
    """Names and objects of a group; soft and external links are refused."""
    import h5py

    found = []
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DamagedMat(f"{name!r} is a link, which is not followed")
        found.append((str(name), group[name]))
    return found


class _Reader:
    """Reads the objects of one file and counts them, so that circular references end in an error."""

    def __init__(self, file_size: int, *, is_matlab: bool = True) -> None:
        self.is_matlab = is_matlab
        self.most_bytes = min(_MOST_BYTES, _BEST_COMPRESSION * file_size)
        self.left = max(_MOST_TOGETHER, _RATIO * file_size)
        self.seen = 0

    def of(self, member: Any, depth: int) -> Any:
        import h5py

        self.seen += 1
        if depth > _DEEPEST or self.seen > _MOST_OBJECTS:
            raise DamagedMat("nested too deeply, or too many parts")
        if isinstance(member, h5py.Group):
            if "MATLAB_sparse" in member.attrs:
                return self.sparse(member)
            return {name: self.of(inner, depth + 1) for name, inner in _members(member)}
        if isinstance(member, h5py.Dataset):
            return self.dataset(member, depth)
        return None

    def dataset(self, member: Any, depth: int) -> Any:
        import h5py

        kind = _class_of(member)
        if member.attrs.get("MATLAB_empty"):
            return {"char": "", "cell": [], "struct": {}}.get(kind, np.zeros((0, 0)))
        if h5py.check_string_dtype(member.dtype) is not None:
            return self.texts(member)
        stored = self.stored(member)
        if member.dtype == h5py.ref_dtype:
            references = np.asarray(stored).T.ravel(order="F")
            if not all(references):
                raise DamagedMat("an empty reference in a cell")
            return [self.of(member.file[reference], depth + 1) for reference in references]
        if stored.dtype.kind not in "iufb":
            return None  # complex numbers and records are not supported
        if kind == "char":
            return _text(stored)
        return stored.T if self.is_matlab else stored

    def texts(self, member: Any) -> str | list[str]:
        """One text, or a list of texts, as other programs than MATLAB store them."""
        self.check(member)
        if math.prod(member.shape) > _MOST_TEXTS:
            raise DamagedMat("an array of too many texts")
        said = np.asarray(member.asstr("utf-8", "surrogateescape")[()], dtype=object)
        return str(said) if said.ndim == 0 else [str(one) for one in said.ravel()]

    def stored(self, member: Any) -> np.ndarray:
        """Return the values of a dataset as stored in the file, in C order."""
        self.check(member)
        self.left -= math.prod(member.shape) * member.dtype.itemsize
        if self.left < 0:
            raise DamagedMat("the variables together are far larger than the file")
        return np.asarray(member[()])

    def check(self, member: Any) -> None:
        """Refuse a dataset that is stored outside the file or is implausibly large."""
        filters = set(getattr(member, "_filters", {}) or {})
        if member.is_virtual or member.external or not filters <= _FILTERS:
            raise DamagedMat("an array that is outside the file, or needs a plug-in")
        if member.shape is None or member.dtype.kind not in "iufbcOSV":
            raise DamagedMat(f"an array of kind {member.dtype}")
        if math.prod(member.shape) * member.dtype.itemsize > self.most_bytes:
            raise DamagedMat(f"an array of shape {member.shape} in a file this small")

    def sparse(self, group: Any) -> np.ndarray:
        parts = dict(_members(group))
        n_rows = int(group.attrs["MATLAB_sparse"])
        if not {"data", "ir", "jc"} <= set(parts):
            return np.zeros((n_rows, max(int(parts["jc"].shape[0]) - 1, 0) if "jc" in parts else 0))
        data, rows, starts = (self.stored(parts[name]).ravel() for name in ("data", "ir", "jc"))
        return dense(n_rows, data, rows, starts)


def _class_of(member: Any) -> str:
    kind = member.attrs.get("MATLAB_class", b"")
    return kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)


def _text(letters: np.ndarray) -> str | list[str]:
    """Decode letters (n_columns, n_rows) of 8, 16 or 32 bits to one text, or to one per row."""
    rows = [np.ascontiguousarray(row) for row in np.atleast_2d(letters.T)]
    if letters.dtype.kind != "u" or letters.dtype.itemsize not in (1, 2, 4):
        raise DamagedMat("text of an unknown kind")
    encoding = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[letters.dtype.itemsize]
    try:
        said = [row.astype(row.dtype.newbyteorder("<")).tobytes().decode(encoding) for row in rows]
    except UnicodeDecodeError as error:
        raise DamagedMat(str(error)) from error
    return said[0] if len(said) == 1 else said
