"""Cache of resampled volumes on disk, memory-mapped and in half precision."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from connectome_tl.errors import OutputError
from connectome_tl.files import regular_file
from connectome_tl.imaging.read import headers, images
from connectome_tl.imaging.volumes import checks, foreground, grids
from connectome_tl.imaging.volumes.grids import Gridded, gridded
from connectome_tl.provenance import content_hash, file_hash, read_own_json_object, write_bytes, write_json
from connectome_tl.settings.images.volumes import ImageSettings

GRID_CODE = (foreground, grids, headers, images, checks)  # modules that determine the voxels of a grid
_RESOLUTION_NS = 2_000_000_000  # of time stamps, at the coarsest (FAT)
_TUPLES = ("tissue_ml", "quantiles", "affine", "native", "extent", "head_mm", "notes")


@dataclass(frozen=True, eq=False)
class StoredGrid:
    """A grid of the cache: its numbers, and the file of its voxels (mapped by `read`)."""

    file: Path
    head_ml: float
    tissue_ml: tuple[float, ...]
    quantiles: tuple[float, ...]
    affine: tuple[float, ...]
    native: tuple[float, ...]
    extent: tuple[float, ...]
    head_mm: tuple[float, ...]
    repeated: float
    is_stripped: bool
    notes: tuple[str, ...]

    def read(self) -> np.ndarray:
        """(x, y, z) float16, mapped into memory.

        Raises:
            OutputError: the file is damaged.
        """
        try:
            return np.load(self.file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(self.file, str(error)) from error


def stored_grid(path: str, subject: str, settings: ImageSettings, folder: Path) -> StoredGrid:
    """The grid of an image, from the cache or computed and stored there.

    Raises:
        MissingInputError, DataError: as `gridded`. OutputError: the cache cannot be written or is damaged.
    """
    key = grid_key(str(regular_file(path, what="image", subject=subject)), settings)
    record_file, voxels = folder / f"{key}.json", folder / f"{key}.npy"
    if not (record_file.is_file() and voxels.is_file()):
        made = gridded(path, subject, settings)
        buffer = io.BytesIO()
        np.save(buffer, made.values, allow_pickle=False)
        write_bytes(voxels, buffer.getvalue())
        # The record is written last, to mark the grid as complete.
        write_json(record_file, {"voxels": file_hash(voxels), "settings": settings.gridding, **_numbers(made)})
    record = read_own_json_object(record_file)
    if image_hash(str(voxels)) != record.get("voxels"):
        raise _damaged(voxels, "its voxels are not those that were stored")
    try:
        numbers = {name: tuple(record[name]) for name in _TUPLES}
        return StoredGrid(
            voxels,
            head_ml=float(record["head_ml"]),
            repeated=float(record["repeated"]),
            is_stripped=bool(record["is_stripped"]),
            **numbers,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(record_file, repr(error)) from error


def is_stored(path: str, settings: ImageSettings, folder: Path) -> bool:
    """Whether the cache has the grid of an image with its present content."""
    return (folder / f"{grid_key(path, settings)}.json").is_file()


def grid_key(path: str, settings: ImageSettings) -> str:
    """Key of a grid: hash of the image's content, the settings, and the code that computes grids."""
    return content_hash(image_hash(path), settings.gridding, _code())[:32]


def image_hash(path: str) -> str:
    """SHA-256 of an image, cached while its size and time stamp do not change.

    A file that was just written may change once more within the resolution of time stamps, and is read again.
    """
    try:
        state = Path(path).stat()
    except OSError:
        return file_hash(path)  # raises the error
    if abs(time.time_ns() - state.st_mtime_ns) < _RESOLUTION_NS:
        return file_hash(path)
    return _hash(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=65536)
def _hash(path: str, size: int, changed: int) -> str:
    del size, changed
    return file_hash(path)


@lru_cache(maxsize=1)
def _code() -> str:
    return content_hash(*(Path(str(module.__file__)).read_bytes() for module in GRID_CODE))


def _numbers(made: Gridded) -> dict[str, object]:
    return {name: getattr(made, name) for name in ("head_ml", "repeated", "is_stripped", *_TUPLES)}


def _damaged(file: Path, how: str) -> OutputError:
    return OutputError(
        f"a damaged grid: {how}", file=file, remedy="Delete the file and run again; it will be made again."
    )
