"""Read TRX files (tee-ar-ex/trx-spec): zip archives of arrays."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.track.flat import MAX_POINTS, Streamlines, finite, packed, too_long

_POINTS = 1 << 18  # per block
_MAX_HEADER = 1_000_000  # bytes
_MAX_RATIO = 100  # unpacked to packed size; coordinates compress little
_MAX_STREAMLINES = 100_000_000
_POSITIONS = {f"positions.3.float{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)}
_OFFSETS = {
    f"offsets.{kind}{bits}": np.dtype(f"<{kind[0]}{bits // 8}") for kind in ("uint", "int") for bits in (32, 64)
}


def read_trx(file: Path) -> Iterator[Streamlines]:
    """Streamlines of a `.trx`, block by block.

    Raises:
        DataError: header, offsets and positions disagree.
        Exception: any exception of zipfile for a damaged archive.
    """
    with zipfile.ZipFile(file) as archive:
        n_points, n_vertices = _lengths(archive, file)
        name = _member(archive, _POSITIONS, file) if n_vertices else None
        if name is None:
            if n_points.any() or n_vertices:
                raise DataError("there are no positions", expected=", ".join(_POSITIONS), file=file)
            yield finite(packed(np.zeros((0, 3), dtype=np.float32), n_points), file)
            return
        dtype = _POSITIONS[name]
        _agree("positions", archive.getinfo(name).file_size, 3 * dtype.itemsize * n_vertices, file)
        ends = np.cumsum(n_points)
        with archive.open(name) as stream:
            start = 0
            while start < len(n_points):
                before = int(ends[start - 1]) if start else 0
                stop = max(int(np.searchsorted(ends, before + _POINTS, side="right")), start + 1)
                raw = stream.read(3 * dtype.itemsize * (int(ends[stop - 1]) - before))
                points = np.frombuffer(raw, dtype).reshape(-1, 3).astype(np.float32)
                yield finite(packed(points, n_points[start:stop]), file)
                start = stop
            stream.read(1)  # reading past the end compares the checksum


def _lengths(archive: zipfile.ZipFile, file: Path) -> tuple[np.ndarray, int]:
    """Points of each streamline, and of all."""
    info = archive.getinfo("header.json")
    if info.file_size > _MAX_HEADER:
        raise DataError("the header is far too large", got=f"{info.file_size} bytes", file=file)
    header = json.loads(archive.read(info))
    n_streamlines, n_vertices = (_count(header, key, file) for key in ("NB_STREAMLINES", "NB_VERTICES"))
    if n_streamlines > _MAX_STREAMLINES:
        raise DataError("more streamlines than can be held", got=str(n_streamlines), file=file)
    name = _member(archive, _OFFSETS, file)
    if name is None:
        _agree("offsets", 0, n_streamlines, file)
        _agree("positions", n_vertices, 0, file)
        return np.zeros(0, dtype=np.int64), 0
    size, itemsize = archive.getinfo(name).file_size, _OFFSETS[name].itemsize
    if size != itemsize * (n_streamlines + 1):  # older tools omit the last offset
        _agree("offsets", size, itemsize * n_streamlines, file)
    offsets = np.frombuffer(archive.read(name), _OFFSETS[name])
    if (offsets > n_vertices).any():
        raise DataError(f"an offset is beyond the {n_vertices} points of the header", file=file)
    borders = offsets.astype(np.int64)
    if len(borders) == n_streamlines:
        borders = np.append(borders, n_vertices)
    n_points = np.diff(borders)
    if n_points.max(initial=0) > MAX_POINTS:
        raise too_long(file)
    if (borders[:1] != 0).any() or borders[-1] != n_vertices or (n_points < 0).any():
        raise DataError(
            "the offsets do not divide the points among the streamlines",
            expected=f"rising numbers from 0 to {n_vertices}",
            file=file,
        )
    return n_points, n_vertices


def _count(header: object, key: str, file: Path) -> int:
    value = header.get(key) if isinstance(header, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"the header has no {key}", expected="a count", got=repr(value)[:40], file=file)
    return value


def _member(archive: zipfile.ZipFile, kinds: dict[str, np.dtype], file: Path) -> str | None:
    names = [name for name in archive.namelist() if name in kinds]
    if len(names) > 1:
        raise DataError("occurs twice in the archive", got=", ".join(names), file=file)
    info = archive.getinfo(names[0]) if names else None
    if info is not None and info.file_size > max(_MAX_RATIO * info.compress_size, _MAX_HEADER):
        raise DataError(
            f"{info.filename} is too large when unpacked",
            expected=f"at most {_MAX_RATIO} times its size",
            got=f"{info.file_size} bytes from {info.compress_size}",
            file=file,
        )
    return names[0] if names else None


def _agree(what: str, got: int, expected: int, file: Path) -> None:
    if got != expected:
        raise DataError(
            f"the {what} differ in number from the header", expected=f"{expected} bytes", got=str(got), file=file
        )
