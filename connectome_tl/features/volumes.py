"""Volumes as features: rows that load their grid on request, and a summary for the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.features.arrays import Arrays
from connectome_tl.imaging.volumes.cache import StoredGrid, stored_grid
from connectome_tl.imaging.volumes.grids import QUANTILES, Gridded, gridded
from connectome_tl.imaging.volumes.label_maps import LabelGrid, labels_on_grid, stored_labels
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.images.volumes import ImageSettings

VOXELS = "image voxels"  # block of the coarse grid
COARSE = 12  # voxels along each axis of the coarse grid for linear models
_TINY = 1e-8
_SAME = 0.9999  # correlation of coarse voxels; another scan of a subject has less


@dataclass(frozen=True, eq=False)
class VolumeNumbers:
    """Summary numbers of volumes, see `imaging.volumes.grids.Gridded`; NaN for a subject without a volume."""

    head_ml: np.ndarray
    tissue_ml: np.ndarray
    quantiles: np.ndarray

    @property
    def volumes(self) -> np.ndarray:
        """Logarithms of the volumes of head and tissues, (n_subjects, 4)."""
        return np.log(np.maximum(np.column_stack([self.head_ml, self.tissue_ml]), 1e-3))

    @property
    def head_and_quantiles(self) -> np.ndarray:
        """Logarithm of the head volume, and intensity quantiles, (n_subjects, n)."""
        return np.column_stack([np.log(np.maximum(self.head_ml, 1e-3)), self.quantiles])


Grid = StoredGrid | Gridded
_OPEN = 256  # files mapped at once, below the limit of the system


@dataclass(frozen=True, eq=False)
class GridReader:
    """Grids of some subjects, read a few at a time (a `nn.batch.VolumeSource`); None for a subject without a grid."""

    grids: tuple[Grid | None, ...]
    shape: tuple[int, int, int]
    labels: tuple[LabelGrid | None, ...] = ()
    _open: dict[int, np.ndarray] = field(default_factory=dict)

    n_channels = 1

    @cached_property
    def label_values(self) -> np.ndarray:
        """Labels of the maps of these subjects, sorted, without 0."""
        return np.unique([value for grid in self.labels if grid is not None for value in grid.values])

    def classes(self, rows: Sequence[int]) -> np.ndarray:
        """Label maps (n, x, y, z) int64 of row numbers, as places in `label_values` from 1; 0 without a label."""
        found = np.zeros((len(rows), *self.shape), dtype=np.int64)
        for i, row in enumerate(rows):
            grid = self.labels[row] if self.labels and row >= 0 else None
            if grid is not None:
                labels = grid.read()
                found[i] = np.where(labels > 0, np.searchsorted(self.label_values, labels) + 1, 0)
        return found

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Grids (n, 1, x, y, z) float32; zeros for row number -1."""
        return self._filled(rows, np.float32)

    def stored(self, rows: Sequence[int]) -> np.ndarray:
        """The same in the precision of the files, float16."""
        return self._filled(rows, np.float16)

    def _filled(self, rows: Sequence[int], dtype: type[np.floating]) -> np.ndarray:
        found = np.zeros((len(rows), 1, *self.shape), dtype=dtype)
        for i, row in enumerate(rows):
            grid = None if row < 0 else self.grids[row]
            if grid is None:
                continue
            if row not in self._open:
                if len(self._open) >= _OPEN:
                    self._open.clear()
                self._open[row] = grid.read()
            found[i, 0] = self._open[row]
        return found


@dataclass(frozen=True, eq=False)
class VolumeSteps:
    """Grid settings of volumes, and the scale of their summaries over the training rows.

    Attributes:
        grid: image settings as JSON; voxels are normalised within each volume.
        mean, scale: scale of the summary columns. coarse_mean, coarse_scale: scale of the coarse voxels.
        ids: the training rows.
    """

    grid: str
    mean: np.ndarray
    scale: np.ndarray
    coarse_mean: np.ndarray
    coarse_scale: np.ndarray
    ids: tuple[str, ...]

    @property
    def settings(self) -> ImageSettings:
        """Settings of the grid and of the intensities."""
        return ImageSettings.model_validate_json(self.grid)

    def apply(self, cohort: Cohort, ids: Sequence[str]) -> Arrays:
        """Rows `where` (n_subjects,), row numbers in the shared `source`; blocks `image` (volumes and intensity
        quantiles) and `image voxels` (a coarse grid) for the closed-form core."""
        reader, numbers, present = read_volumes(cohort, ids, self.settings)
        summary = (_summary(numbers) - self.mean) / self.scale
        coarse = (coarse_voxels(reader, len(ids)) - self.coarse_mean) / self.coarse_scale
        blocks = {
            "image": np.where(present[:, None], summary, 0.0).astype(np.float32),
            VOXELS: np.where(present[:, None], coarse, 0.0).astype(np.float32),
        }
        where = np.where(present, np.arange(len(ids)), -1)
        return Arrays({"where": where}, present, blocks=blocks, shared={"source": reader})


def fit_volumes(cohort: Cohort, ids: Sequence[str], settings: FeatureSettings) -> VolumeSteps | None:
    """Fit the scale of summaries on the training rows with a volume; None if no row has one."""
    if not any(cohort.volumes):
        return None
    reader, numbers, present = read_volumes(cohort, ids, settings.image)
    if not present.any():
        return None
    mean, scale = _scale(_summary(numbers)[present])
    coarse_mean, coarse_scale = _scale(coarse_voxels(reader, len(ids))[present])
    grid = settings.image.gridding.model_dump_json()
    return VolumeSteps(grid, mean, scale, coarse_mean, coarse_scale, tuple(ids))


def read_volumes(
    cohort: Cohort, ids: Sequence[str], settings: ImageSettings
) -> tuple[GridReader, VolumeNumbers, np.ndarray]:
    """Grids of these subjects, their summary numbers, and whether each has a volume, (n_subjects,) bool.

    Raises:
        MissingInputError, DataError: an image cannot be converted to a grid.
    """
    files = [cohort.volumes[i] if cohort.volumes else "" for i in cohort.positions(ids)]
    present = np.array([bool(file) for file in files])
    grids = [_grid(file, subject, cohort, settings) for file, subject in zip(files, ids, strict=True)]
    maps = [cohort.volume_labels[i] if cohort.volume_labels else "" for i in cohort.positions(ids)]
    labels = [
        _labels(label_map, file, subject, cohort, grid, settings)
        for label_map, file, subject, grid in zip(maps, files, ids, grids, strict=True)
    ]
    return GridReader(tuple(grids), settings.shape3, tuple(labels) if any(maps) else ()), numbers_of(grids), present


def numbers_of(grids: Sequence[Grid | None]) -> VolumeNumbers:
    """Summary numbers of grids."""
    n = len(QUANTILES)
    return VolumeNumbers(
        np.array([np.nan if one is None else one.head_ml for one in grids]),
        np.array([(np.nan,) * 3 if one is None else one.tissue_ml for one in grids]).reshape(len(grids), 3),
        np.array([(np.nan,) * n if one is None else one.quantiles for one in grids]).reshape(len(grids), n),
    )


def coarse_voxels(reader: GridReader, n_rows: int, size: int = COARSE) -> np.ndarray:
    """Means over blocks of voxels, (n_rows, size^3); 0 for a subject without a volume."""
    edges = _edges(reader.shape, size)
    n = [len(own) for own in edges]
    counts = [np.diff([*e, m]) for e, m in zip(edges, reader.shape, strict=True)]
    voxels = counts[0][:, None, None] * counts[1][None, :, None] * counts[2][None, None, :]
    found = np.zeros((n_rows, int(np.prod(n))), dtype=np.float32)
    for row in range(n_rows):
        block = reader.read([row])[0, 0]
        for axis in range(3):
            block = np.add.reduceat(block, edges[axis], axis=axis)
        found[row] = (block / voxels).ravel()
    return found


def same_volumes(grids: Sequence[Grid]) -> list[tuple[int, int, float]]:
    """Pairs of grids of one image, also if it was stored again or rescaled, with the correlation of coarse voxels."""
    if len(grids) < 2:
        return []
    x, y, z = grids[0].read().shape
    values = coarse_voxels(GridReader(tuple(grids), (x, y, z)), len(grids)).astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), _TINY)
    r = values @ values.T
    first, second = np.nonzero(np.triu(r > _SAME, 1))
    return [(int(i), int(j), float(r[i, j])) for i, j in zip(first, second, strict=True)]


def coarse_blocks(shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Column of `coarse_voxels` of each voxel, (x, y, z), and the number of blocks along each axis."""
    edges = _edges(shape, COARSE)
    n = tuple(len(own) for own in edges)
    places = [np.searchsorted(own, np.arange(m), side="right") - 1 for own, m in zip(edges, shape, strict=True)]
    return np.ravel_multi_index(tuple(np.meshgrid(*places, indexing="ij")), n), n


def n_coarse(shape: tuple[int, int, int]) -> int:
    """Number of columns of `coarse_voxels` for grids of this shape."""
    return int(np.prod(_coarse_shape(shape, COARSE)))


def _coarse_shape(shape: tuple[int, ...], size: int) -> list[int]:
    return [min(size, m) for m in shape]


def _edges(shape: tuple[int, ...], size: int) -> list[np.ndarray]:
    """First voxel of each block along each axis."""
    n = _coarse_shape(shape, size)
    return [np.linspace(0, m, k, endpoint=False).astype(int) for m, k in zip(shape, n, strict=True)]


def _grid(file: str, subject: str, cohort: Cohort, settings: ImageSettings) -> Grid | None:
    if not file:
        return None
    if file in cohort.grids:
        return cohort.grids[file]
    if cohort.volume_cache:
        return stored_grid(file, subject, settings, Path(cohort.volume_cache))
    return gridded(file, subject, settings)


def _labels(
    label_map: str, file: str, subject: str, cohort: Cohort, grid: Grid | None, settings: ImageSettings
) -> LabelGrid | None:
    if not label_map or grid is None:
        return None
    if cohort.volume_cache:
        return stored_labels(label_map, file, subject, grid, settings, Path(cohort.volume_cache))
    return labels_on_grid(label_map, subject, grid, settings)


def _summary(numbers: VolumeNumbers) -> np.ndarray:
    return np.column_stack([numbers.volumes, numbers.quantiles])


def _scale(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of columns; infinite for a constant column, which is uninformative."""
    mean, spread = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(spread > _TINY * np.maximum(np.abs(mean), 1.0), spread, np.inf)
