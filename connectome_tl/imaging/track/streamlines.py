"""Read tractograms, whole or in blocks; coordinates in mm, RAS+.

Tractograms are read in blocks, so that memory does not depend on the number of streamlines. Header and content must
agree; missing entries of a header (affine, order of axes) are not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.files import regular_file
from connectome_tl.imaging.track.flat import Streamlines, from_list
from connectome_tl.imaging.track.tck import read_tck, write_tck
from connectome_tl.imaging.track.trk import read_trk
from connectome_tl.imaging.track.trx import read_trx

__all__ = ["Streamlines", "from_list", "read_blocks", "read_streamlines", "write_tck"]
_HEAD, _TRK_COUNT = 1000, 988  # bytes of the header of a .trk, and where it states the number of streamlines
_READERS: dict[str, Callable[[Path], Iterator[Streamlines]]] = {".tck": read_tck, ".trk": read_trk, ".trx": read_trx}


def read_streamlines(path: str | Path) -> Streamlines:
    """All of a `.tck`, `.trk` or `.trx` in memory; raises as `read_blocks`."""
    parts: list[np.ndarray] = []
    first: list[np.ndarray] = []
    n_points: list[np.ndarray] = []
    notes: tuple[str, ...] = ()
    at = 0
    for block in read_blocks(path):
        parts.append(block.points.copy())
        first.append(block.first + at)
        n_points.append(block.n_points)
        notes += block.notes
        at += len(block.points)
    points = np.concatenate(parts) if parts else np.zeros((0, 3), dtype=np.float32)
    nothing = np.zeros(0, dtype=np.int64)
    first_of, n_of = np.concatenate([nothing, *first]), np.concatenate([nothing, *n_points])
    return Streamlines(points, first_of, n_of, str(path), notes)


def announced_count(path: str | Path) -> int | None:
    """Number of streamlines that the header of a `.tck` or `.trk` states; None where it states none. Not checked."""
    file = regular_file(path, what="tractogram")
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if file.suffix.lower() == ".trk" and len(head) == _HEAD:
        return max(int(np.frombuffer(head, "<i4", count=1, offset=_TRK_COUNT)[0]), 0) or None
    found = re.search(rb"^count:\s*(\d{1,15})\s*$", head, re.MULTILINE) if file.suffix.lower() == ".tck" else None
    return int(found.group(1)) or None if found else None


def read_blocks(path: str | Path) -> Iterator[Streamlines]:
    """Whole streamlines of a `.tck`, `.trk` or `.trx`, block by block; coordinates in mm, RAS+.

    The points of a block are overwritten by the next one.

    Raises:
        MissingInputError: no such file.
        DataError: damaged, cut off, or not such a file.
    """
    file = Path(path)
    regular_file(file, what="tractogram")
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise UsageError("not a tractogram format that is read here", expected=", ".join(_READERS), file=file)
    try:
        yield from reader(file)
    except ConnectomeTLError:
        raise
    except Exception as error:  # three readers, each with its own kinds of exception for a damaged file
        raise DataError(f"cannot be read as a tractogram: {error}", file=file) from error
