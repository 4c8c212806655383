"""Streamlines as flat buffers: all points in a row, and where each streamline begins.

A tractogram is read in blocks that stay in cache, so ten million streamlines need no more memory than ten.
MRtrix `.tck` is read with numpy alone (the file is such a buffer already); `.trk` goes through nibabel,
`.trx` through trx-python where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

import numpy as np

from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, UsageError
from connectome_tl.provenance import write_bytes

_ROWS = 1 << 16  # points of one block of a .tck
_TCK_TYPES = {
    "Float32LE": "<f4",
    "Float32BE": ">f4",
    "Float32": "=f4",
    "Float64LE": "<f8",
    "Float64BE": ">f8",
    "Float64": "=f8",
}


@dataclass(frozen=True, eq=False)
class Streamlines:
    """The streamlines of a file, or of one block of it.

    Attributes:
        points: (n_points, 3) mm, RAS+; rows outside every streamline (separators) may lie in between.
        first: (n_streamlines,) row of the first point.
        n_points: (n_streamlines,) points of each; 0 is allowed.
    """

    points: np.ndarray
    first: np.ndarray
    n_points: np.ndarray
    file: str | None = None

    @property
    def n_streamlines(self) -> int:
        return len(self.first)

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last points, two (n_streamlines, 3) float64; NaN for an empty streamline."""
        empty = self.n_points == 0
        safe = np.where(empty, 0, self.first)
        last = np.where(empty, 0, self.first + self.n_points - 1)
        if len(self.points) == 0:
            nothing = np.full((self.n_streamlines, 3), np.nan)
            return nothing, nothing.copy()
        head, tail = self.points[safe].astype(float), self.points[last].astype(float)
        head[empty] = np.nan
        tail[empty] = np.nan
        return head, tail

    def steps(self) -> np.ndarray:
        """Distance in mm from each row of `points` to the next; (n_points - 1,), meaningless between streamlines."""
        return _norms(self.points)

    def lengths(self) -> np.ndarray:
        """Length in mm of each streamline, (n_streamlines,) float64."""
        return self.sums(self.steps(), self.n_points - 1)

    def sums(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """For each streamline, the sum of `values` over `counts` rows from its first, (n_streamlines,) float64."""
        totals = np.zeros(self.n_streamlines)
        some = np.flatnonzero(counts > 0)
        if some.size:
            # Pairs of borders: reduceat sums [start, stop), the odd results lie between streamlines.
            borders = np.empty(2 * some.size, dtype=np.int64)
            borders[0::2] = self.first[some]
            borders[1::2] = self.first[some] + counts[some]
            closed = borders[-1] == len(values)
            sums = np.add.reduceat(values, borders[:-1] if closed else borders, dtype=np.float64)
            totals[some] = sums[0::2]
        return totals


def _norms(points: np.ndarray) -> np.ndarray:
    """|p[i+1] - p[i]| in blocks that stay in cache."""
    n_steps = max(len(points) - 1, 0)
    steps = np.empty(n_steps, dtype=points.dtype)
    block = 1 << 15
    with np.errstate(invalid="ignore"):  # separators are NaN or Inf on purpose
        for start in range(0, n_steps, block):
            stop = min(start + block, n_steps)
            difference = points[start + 1 : stop + 1] - points[start:stop]
            np.einsum("ij,ij->i", difference, difference, out=steps[start:stop])
        np.sqrt(steps, out=steps)
    return steps


def from_list(streamlines: Sequence[np.ndarray]) -> Streamlines:
    """A flat buffer from (n, 3) arrays in mm."""
    n_points = np.array([len(s) for s in streamlines], dtype=np.int64)
    nothing = np.zeros((0, 3), dtype=np.float32)
    return _packed(np.concatenate([nothing, *streamlines]).astype(np.float32, copy=False), n_points)


def read_streamlines(path: str | Path) -> Streamlines:
    """All of a `.tck`, `.trk` or `.trx` in memory; raises as `read_blocks`."""
    parts: list[np.ndarray] = []
    first: list[np.ndarray] = []
    n_points: list[np.ndarray] = []
    at = 0
    for block in read_blocks(path):
        parts.append(block.points.copy())
        first.append(block.first + at)
        n_points.append(block.n_points)
        at += len(block.points)
    points = np.concatenate(parts) if parts else np.zeros((0, 3), dtype=np.float32)
    nothing = np.zeros(0, dtype=np.int64)
    return Streamlines(points, np.concatenate([nothing, *first]), np.concatenate([nothing, *n_points]), str(path))


def read_blocks(path: str | Path) -> Iterator[Streamlines]:
    """Whole streamlines of a `.tck`, `.trk` or `.trx`, block by block; coordinates in mm, RAS+.

    A block's points are overwritten when the next one is asked for.

    Raises:
        MissingInputError: no such file, or no reader for TRX.
        DataError: damaged, cut off, or not such a file.
    """
    file = Path(path)
    if not file.is_file():
        what = "a folder stands where the tractogram should be" if file.is_dir() else "tractogram not found"
        raise MissingInputError(what, file=file)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise UsageError("not a tractogram format that is read here", expected=", ".join(_READERS), file=file)
    try:
        yield from reader(file)
    except ConnectomeTLError:
        raise
    except Exception as error:  # three readers, each with its own kinds of exception for a damaged file
        raise DataError(f"cannot be read as a tractogram: {error}", file=file) from error


def _tck_header(file: Path) -> tuple[np.dtype, int, int | None]:
    """Number type, where the points begin, and how many streamlines the header promises."""
    fields: dict[str, str] = {}
    with file.open("rb") as stream:
        if stream.readline(64).strip() != b"mrtrix tracks":
            raise DataError("not an MRtrix track file", expected="a first line 'mrtrix tracks'", file=file)
        while (line := stream.readline(1 << 20)).strip() != b"END":
            if not line:
                raise DataError("the header has no END", file=file)
            key, _, value = line.decode("utf-8", "replace").partition(":")
            fields[key.strip()] = value.strip()
    kind = fields.get("datatype", "")
    if kind not in _TCK_TYPES:
        raise DataError("unknown datatype", expected=", ".join(_TCK_TYPES), got=kind or "none", file=file)
    where = fields.get("file", "").split()
    if len(where) != 2 or where[0] != "." or not where[1].isdigit():
        raise DataError("the header does not say where the points begin", expected="file: . OFFSET", file=file)
    count = fields.get("count", "")
    return np.dtype(_TCK_TYPES[kind]), int(where[1]), int(count) if count.isdigit() else None


def _read_tck(file: Path) -> Iterator[Streamlines]:
    dtype, offset, promised = _tck_header(file)
    buffer = np.empty((_ROWS, 3), dtype=dtype)
    kept = found = 0  # rows of an unfinished streamline at the buffer's start; streamlines so far
    with file.open("rb", buffering=0) as stream:
        stream.seek(offset)
        while True:
            if kept == len(buffer):  # one streamline fills the buffer
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
                    raise DataError("the last streamline does not end", file=file)
            if stops.size:
                first = np.concatenate([[0], stops[:-1] + 1])
                whole = rows[: stops[-1] + 1]
                # Only separators are no numbers. All three axes are counted: a view of two is not contiguous, and slow.
                if np.count_nonzero(np.isfinite(whole)) != 3 * (len(whole) - len(stops)):
                    raise DataError("a coordinate is not a finite number", file=file)
                points = rows if dtype.isnative else rows.astype(dtype.newbyteorder("="))
                yield Streamlines(points, first, stops - first, str(file))
                found += len(stops)
            if ended:
                break
            if n_new == 0:
                raise DataError(
                    "the file has no end mark", file=file, remedy="Tracking was interrupted or the copy is incomplete."
                )
            rest = rows[stops[-1] + 1 :] if stops.size else rows
            kept = len(rest)
            buffer[:kept] = rest.copy()
    if promised is not None and promised != found:
        raise DataError(
            "the number of streamlines is not what the header says", expected=str(promised), got=str(found), file=file
        )


def _fill(stream: FileIO, rows: np.ndarray) -> int:
    """Read until the rows are full or the file ends; the number of whole rows read."""
    view = rows.view(np.uint8).reshape(-1).data
    at = 0
    while at < len(view) and (n_bytes := stream.readinto(view[at:])):
        at += n_bytes
    return at // (3 * rows.itemsize)


def _read_trk(file: Path) -> Iterator[Streamlines]:
    import nibabel as nib

    flat = nib.streamlines.load(file).streamlines
    yield _finite(from_list([np.asarray(streamline) for streamline in flat]), file)


def _read_trx(file: Path) -> Iterator[Streamlines]:
    try:
        from trx.trx_file_memmap import load
    except ImportError as error:
        raise MissingInputError(
            "reading TRX needs trx-python", file=file, remedy="pip install trx-python, or convert to .tck."
        ) from error
    loaded = load(str(file))
    try:
        flat = loaded.streamlines
        points = np.array(flat.get_data(), dtype=np.float32).reshape(-1, 3)
        n_points = np.array([len(streamline) for streamline in flat], dtype=np.int64)
    finally:
        loaded.close()
    yield _finite(_packed(points, n_points), file)


def _packed(points: np.ndarray, n_points: np.ndarray) -> Streamlines:
    """Streamlines that lie one after the other without separators."""
    return Streamlines(points, np.cumsum(n_points) - n_points, n_points)


def _finite(streamlines: Streamlines, file: Path) -> Streamlines:
    if not np.isfinite(streamlines.points).all():
        raise DataError("a coordinate is not a finite number", file=file)
    return replace(streamlines, file=str(file))


_READERS: dict[str, Callable[[Path], Iterator[Streamlines]]] = {
    ".tck": _read_tck,
    ".trk": _read_trk,
    ".trx": _read_trx,
}


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
