"""Volumes and label maps of a cohort on one grid, for `connectome-tl segment`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import families_of
from connectome_tl.errors import DataError, UsageError
from connectome_tl.features.volumes import GridReader, read_volumes
from connectome_tl.imaging.volumes.cache import grid_key, image_hash
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.segmentation import SegmentationRecord
from connectome_tl.training.images.lazy import LazyVolumes, read_lazily
from connectome_tl.training.images.rows import VolumeRows
from connectome_tl.workflows.images.grids import CACHE, made_grids
from connectome_tl.workflows.images.labels import check_one_scheme, made_labels


@dataclass(frozen=True, eq=False)
class SegmentData:
    """Subjects with a volume, on the grid; classes are places in `values` from 1."""

    cohort: Cohort
    reader: GridReader
    rows: VolumeRows
    values: tuple[int, ...]
    labelled: tuple[str, ...]
    image: ImageSettings

    @property
    def families(self) -> dict[str, int]:
        return dict(zip(self.cohort.ids, families_of(self.cohort, self.cohort.ids).tolist(), strict=True))

    def content(self, ids: Sequence[str]) -> list[tuple[str, ...]]:
        """What a fit on these subjects depends on."""
        files = [(i, self.cohort.volumes[at], self.cohort.volume_labels[at]) for i, at in self._places(ids)]
        return [(i, grid_key(volume, self.image), image_hash(labels)) for i, volume, labels in files]

    def _places(self, ids: Sequence[str]) -> list[tuple[str, int]]:
        return list(zip(ids, self.cohort.positions(ids).tolist(), strict=True))


def with_volumes(cohort: Cohort, file: Path) -> Cohort:
    """The subjects with a volume.

    Raises:
        UsageError: there are none.
    """
    there = [i for i, volume in zip(cohort.ids, cohort.volumes, strict=False) if volume]
    if not there:
        raise UsageError(f"cohort {cohort.name!r} has no volumes", file=file)
    return cohort.take(there)


def read_data(
    cohort: Cohort,
    image: ImageSettings,
    folder: Path,
    device: str,
    earlier: SegmentationRecord | None,
    progress: Callable[[int, int], None],
) -> SegmentData:
    """Volumes and label maps on the grid, kept in `folder`.

    Args:
        earlier: record of the network that is applied, if there is one.

    Raises:
        MissingInputError, DataError: files that cannot be used; a label map with no label of another;
            volumes of another contrast, or label maps with other labels, than those of `earlier`.
    """
    contrasts = {cohort.volume_contrast, "" if earlier is None else earlier.contrast} - {""}
    if len(contrasts) > 1:
        raise DataError("the network was trained on another contrast", got=" and ".join(sorted(contrasts)))
    cache = folder / CACHE
    fixed_by = "" if earlier is None else "the earlier call"
    grids = made_grids([cohort], image, cache, fixed_by=fixed_by, progress=progress)
    maps = made_labels(cohort, grids, image, cache)
    if earlier is None:
        check_one_scheme(cohort, maps)
    cohort = replace(cohort, volume_cache=str(cache))
    reader = read_volumes(cohort, cohort.ids, image)[0]
    values = tuple(reader.label_values.tolist())
    if earlier is not None:
        values = _known(values, earlier.labels, cohort)
    labels = LazyVolumes(
        (cohort.n_subjects, *reader.shape), lambda index: torch.from_numpy(_classes(reader, index, values))
    )
    rows = VolumeRows(
        cohort.ids,
        read_lazily(reader, range(cohort.n_subjects), reader.shape),
        np.full(cohort.n_subjects, np.nan),
        labels=labels if maps else None,
        device=torch.device(device),
    )
    return SegmentData(cohort, reader, rows, values, tuple(i for i in cohort.ids if i in maps), image)


def _known(values: Sequence[int], known: tuple[int, ...], cohort: Cohort) -> tuple[int, ...]:
    """The labels of the network; a Dice with label maps of another scheme would be meaningless."""
    others = [str(value) for value in values if value not in known]
    if others:
        raise DataError(
            f"label maps of cohort {cohort.name!r} have labels that the network was not trained on",
            expected=", ".join(map(str, known)),
            got=", ".join(others),
            remedy="Give label maps of the same classes, or remove `volumes.labels` from cohort.yaml to segment only.",
        )
    return known


def _classes(reader: GridReader, rows: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Label maps (n, x, y, z) of these row numbers as places in `values` from 1; other labels are 0."""
    known = np.isin(reader.label_values, values)
    place = np.where(known, np.searchsorted(values, reader.label_values) + 1, 0)
    return np.concatenate([[0], place])[reader.classes(rows.tolist())]
