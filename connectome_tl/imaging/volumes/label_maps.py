"""Label maps of volumes on the grid of a study, by nearest neighbours."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import affine_transform

from connectome_tl.errors import DataError, OutputError
from connectome_tl.files import regular_file
from connectome_tl.imaging.read.images import Volume, read_labels
from connectome_tl.imaging.volumes.cache import StoredGrid, grid_key, image_hash
from connectome_tl.imaging.volumes.grids import Gridded, head_on
from connectome_tl.provenance import content_hash, file_hash, read_own_json_object, write_bytes, write_json
from connectome_tl.settings.images.volumes import ImageSettings

MOST_LABELS = 512
_WITHIN = 0.5  # share of the labelled voxels within the head, below which map and image are in different spaces


@dataclass(frozen=True, eq=False)
class LabelGrid:
    """A label map on the grid of its volume.

    Attributes:
        values: labels on the grid, sorted, without 0. content: voxels (x, y, z) int32, or their file.
    """

    values: tuple[int, ...]
    content: np.ndarray | Path

    def read(self) -> np.ndarray:
        """(x, y, z) int32.

        Raises:
            OutputError: the file is damaged.
        """
        if isinstance(self.content, np.ndarray):
            return self.content
        try:
            return np.load(self.content, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(self.content, str(error)) from error


def labels_on_grid(path: str, subject: str, grid: Gridded | StoredGrid, settings: ImageSettings) -> LabelGrid:
    """The labels at the voxels of a grid; 0 outside the label map.

    Args:
        grid: of the volume that the map belongs to, in the same space, of any resolution.

    Raises:
        MissingInputError, DataError: as `read_labels`; too many labels, or labels that do not lie within the head.
    """
    labels, affine = read_labels(path, subject=subject), np.reshape(grid.affine, (4, 4))
    values = labels_at(labels, affine, settings.shape3)
    found = np.unique(values)
    found = found[found > 0]
    if len(found) > MOST_LABELS:
        raise DataError(f"more than {MOST_LABELS} labels", got=str(len(found)), subject=subject, file=path)
    labelled = values > 0
    within = float(head_on(np.asarray(grid.read()), affine, settings)[labelled].mean()) if labelled.any() else 0.0
    if within < _WITHIN:
        raise DataError(
            "the label map does not lie within the head of its image",
            expected="a map in the space of the image",
            got=f"{within:.0%} of its labelled voxels in the head"
            if labelled.any()
            else "no labelled voxel on the grid",
            subject=subject,
            file=path,
            remedy="Resample it to the space of the image, with nearest neighbours.",
        )
    return LabelGrid(tuple(found.tolist()), values)


def labels_at(labels: Volume, affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Labels (x, y, z) int32 at the voxels of a grid with this affine and shape, by nearest neighbours."""
    to_voxels = np.linalg.inv(labels.affine) @ affine
    found = affine_transform(labels.data, to_voxels[:3, :3], to_voxels[:3, 3], shape, order=0, mode="grid-constant")
    return np.asarray(found, dtype=np.int32)


def stored_labels(
    path: str, image: str, subject: str, grid: Gridded | StoredGrid, settings: ImageSettings, folder: Path
) -> LabelGrid:
    """The labels of `labels_on_grid`, from the cache or computed and stored there; `image` is the file of the volume.

    Raises:
        MissingInputError, DataError: as `labels_on_grid`. OutputError: the cache cannot be written or is damaged.
    """
    file = str(regular_file(path, what="label map", subject=subject))
    key = content_hash("labels", image_hash(file), grid_key(image, settings), _code())[:32]
    record_file, voxels = folder / f"{key}.json", folder / f"{key}.npy"
    if not (record_file.is_file() and voxels.is_file()):
        made, buffer = labels_on_grid(path, subject, grid, settings), io.BytesIO()
        np.save(buffer, made.read(), allow_pickle=False)
        write_bytes(voxels, buffer.getvalue())
        # The record is written last, to mark the labels as complete.
        write_json(record_file, {"voxels": file_hash(voxels), "settings": settings.gridding, "labels": made.values})
    record = read_own_json_object(record_file)
    if image_hash(str(voxels)) != record.get("voxels"):
        raise _damaged(voxels, "its voxels are not those that were stored")
    try:
        return LabelGrid(tuple(int(value) for value in record["labels"]), voxels)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(record_file, repr(error)) from error


def of_another_scheme(grids: Mapping[str, LabelGrid]) -> list[str]:
    """The subjects of whose labels no other subject has any; empty for a single subject."""
    n_subjects = Counter(value for grid in grids.values() for value in grid.values)
    return [i for i, grid in grids.items() if len(grids) > 1 and all(n_subjects[value] == 1 for value in grid.values)]


@lru_cache(maxsize=1)
def _code() -> str:
    return content_hash(Path(__file__).read_bytes())


def _damaged(file: Path, how: str) -> OutputError:
    return OutputError(
        f"damaged labels: {how}", file=file, remedy="Delete the file and run again; it will be made again."
    )
