"""Read and write MRtrix track files (.tck) with NumPy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.track.flat import MAX_POINTS, Streamlines, too_long
from connectome_tl.plurals import counted
from connectome_tl.provenance import write_bytes

_ROWS = 1 << 16  # points per block
_MAX_GAP = 4096  # bytes of padding before the points
_TCK_TYPES = {
    "Float32LE": "<f4",
    "Float32BE": ">f4",
    "Float32": "=f4",
    "Float64LE": "<f8",
    "Float64BE": ">f8",
    "Float64": "=f8",
}


def _tck_header(file: Path) -> tuple[np.dtype, int, int | None]:
    """Data type, offset of the points, and number of streamlines stated in the header."""
    fields: dict[str, str] = {}
    begun = 0
    with file.open("rb") as stream:
        if stream.readline(64).strip() != b"mrtrix tracks":
            raise DataError("not an MRtrix track file", expected="a first line 'mrtrix tracks'", file=file)
        while (line := stream.readline(1 << 20)).strip() != b"END":
            if not line:
                raise DataError("the header has no END", file=file)
            key, _, value = line.decode("utf-8", "replace").partition(":")
            fields[key.strip()] = value.strip()
        begun = stream.tell()
    kind = fields.get("datatype", "")
    if kind not in _TCK_TYPES:
        raise DataError("unknown datatype", expected=", ".join(_TCK_TYPES), got=kind or "none", file=file)
    where = fields.get("file", "").split()
    if len(where) != 2 or where[0] != "." or not re.fullmatch(r"[0-9]{1,18}", where[1]):
        raise DataError("the header does not give the offset of the points", expected="file: . OFFSET", file=file)
    _check_gap(file, begun, int(where[1]))
    count = fields.get("count")
    if count is not None and not re.fullmatch(r"[0-9]{1,18}", count):
        raise DataError("the header's count is not a number", got=repr(count)[:40], file=file)
    return np.dtype(_TCK_TYPES[kind]), int(where[1]), None if count is None else int(count)


def read_tck(file: Path) -> Iterator[Streamlines]:
    """Streamlines of a `.tck`, block by block.

    Raises:
        DataError: the file is damaged or truncated.
    """
    dtype, offset, promised = _tck_header(file)
    buffer = np.empty((_ROWS, 3), dtype=dtype)
    kept = found = 0  # rows of an unfinished streamline at the buffer's start; streamlines so far
    with file.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while True:
            if kept == len(buffer):  # one streamline fills the buffer
                if kept > MAX_POINTS:
                    raise too_long(file)
                buffer = np.concatenate([buffer, np.empty_like(buffer)])
            n_new = _fill(stream, buffer[kept:])
            rows = buffer[: kept + n_new]
            # A streamline ends with a NaN triplet, the file with an Inf triplet.
            stops = np.flatnonzero(~np.isfinite(rows[:, 0]))
            ending = np.flatnonzero(np.isinf(rows[stops, 0]))
            ended = ending.size > 0
            if ended:
                end, stops = stops[ending[0]], stops[: ending[0]]
                if end != (stops[-1] + 1 if stops.size else 0):
                    raise DataError("the last streamline is incomplete", file=file)
            if stops.size:
                first = np.concatenate([[0], stops[:-1] + 1])
                whole = rows[: stops[-1] + 1]
                # Only separators are not finite. All three axes are tested, since a view of two is not contiguous and
                # slow.
                if np.count_nonzero(np.isfinite(whole)) != 3 * (len(whole) - len(stops)):
                    raise DataError("a coordinate is not a finite number", file=file)
                points = rows if dtype.isnative else rows.astype(dtype.newbyteorder("="))
                yield Streamlines(points, first, stops - first, str(file))
                found += len(stops)
            if ended:
                if end + 1 < len(rows) or stream.read(1):
                    raise DataError("the file continues after its end mark", file=file)
                break
            if n_new == 0:
                raise DataError(
                    "the file has no end mark", file=file, remedy="Tracking was interrupted or the copy is incomplete."
                )
            rest = rows[stops[-1] + 1 :] if stops.size else rows
            kept = len(rest)
            buffer[:kept] = rest.copy()
    if promised is not None and promised > found:
        raise DataError(
            "streamlines are missing: there are fewer than stated in the header",
            expected=str(promised),
            got=str(found),
            file=file,
        )
    if promised is not None and promised < found:
        # MRtrix writes the count last: an interrupted run leaves complete streamlines and an outdated count.
        note = f"the header of {file.name} counts {counted(promised, 'streamline')}; all {found} of the file were read"
        nothing = np.zeros(0, dtype=np.int64)
        yield Streamlines(buffer[:0], nothing, nothing, str(file), (note,))


def _check_gap(file: Path, begun: int, offset: int) -> None:
    """Check that only padding separates the header from the points."""
    with file.open("rb") as stream:
        stream.seek(begun)
        gap = stream.read(min(max(offset - begun, 0), _MAX_GAP + 1))
    if offset < begun or len(gap) > _MAX_GAP or gap.strip(b"\0 \n"):
        raise DataError(
            "the points do not begin at the offset of the header",
            expected=f"from byte {begun}",
            got=str(offset),
            file=file,
        )


def _fill(stream: FileIO, rows: np.ndarray) -> int:
    """Read until the rows are full or the file ends; returns the number of complete rows."""
    view = rows.view(np.uint8).reshape(-1).data
    at = 0
    while at < len(view) and (n_bytes := stream.readinto(view[at:])):
        at += n_bytes
    return at // (3 * rows.itemsize)


def write_tck(path: str | Path, streamlines: Sequence[np.ndarray]) -> Path:
    """Write (n, 3) arrays in mm as MRtrix tracks, atomically and without a time stamp."""
    rows = np.full((sum(len(s) for s in streamlines) + len(streamlines) + 1, 3), np.nan, dtype="<f4")
    at = 0
    for streamline in streamlines:
        rows[at : at + len(streamline)] = streamline
        at += len(streamline) + 1
    rows[-1] = np.inf
    head = f"mrtrix tracks\ncount: {len(streamlines)}\ndatatype: Float32LE\n"
    offset = len(head) + len("file: . 000000\nEND\n")
    return write_bytes(path, f"{head}file: . {offset:06d}\nEND\n".encode() + rows.tobytes())
