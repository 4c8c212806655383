"""Volumes of a cohort for its report: slices on the grid, and preprocessing steps."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.volumes.foreground import mixed_backgrounds
from connectome_tl.imaging.volumes.grids import Gridded, gridded, head_on
from connectome_tl.plurals import counted
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.results import QualityFinding, VolumeImage
from connectome_tl.workflows.images.grids import same_images, unlike_volumes

LOOKED_AT = ImageSettings(size=56, voxel=3.5, shape="note")
"""Default settings of the pictures, without a study."""


def volume_images(
    cohort: Cohort, settings: ImageSettings | None = None, *, done: Callable[[int, int], None] = lambda *_: None
) -> tuple[tuple[VolumeImage, ...], list[QualityFinding]]:
    """Slices through every volume, and an error for each volume that cannot be converted to a grid.

    Args:
        settings: image settings of a study, or `LOOKED_AT`.
        done: called with the number of processed volumes and the total number.
    """
    asked = settings or LOOKED_AT
    there = [(i, file) for i, file in zip(cohort.ids, cohort.volumes, strict=False) if file]
    subjects, found, grids = [], [], []
    for n, (subject, file) in enumerate(there):
        try:
            made = gridded(file, subject, asked)
        except (DataError, MissingInputError) as error:
            said = "; ".join(str(replace(problem, subject=None)) for problem in error.problems)
            found.append(QualityFinding(level="error", check="volume", message=said, subject=subject))
            continue
        finally:
            done(n + 1, len(there))
        subjects.append(subject)
        grids.append(made)
        found += [QualityFinding(level="warning", check="volume", message=note, subject=subject) for note in made.notes]
    found += [
        QualityFinding(level="warning", check="volume", message=note, subject=subject)
        for subject, note in unlike_volumes(subjects, grids, cohort.age[cohort.positions(subjects)].tolist())
    ]
    found += [
        QualityFinding(level="error", check="volume", message=f"the same image as {other}", subject=one)
        for one, other in same_images(subjects, grids)
    ]
    if mixed := mixed_backgrounds([one.is_stripped for one in grids]):
        found.append(QualityFinding(level="warning", check="volume", message=mixed))
    without = cohort.n_subjects - len(there)
    if without:
        found.append(
            QualityFinding(
                level="note", check="volume", message=f"{counted(without, 'subject has', 'subjects have')} no volume"
            )
        )
    return _images(subjects, grids, asked), found


def _images(subjects: Sequence[str], grids: Sequence[Gridded], settings: ImageSettings) -> tuple[VolumeImage, ...]:
    """Slices of all volumes at one scale, cut to the part of the grid that contains heads."""
    every = [_cuts(made, settings) for made in grids]
    boxes = [_occupied(np.max(view, axis=0)) for view in zip(*every, strict=True)]
    found = []
    for subject, made, cuts in zip(subjects, grids, every, strict=True):
        shown = [cut[box] for cut, box in zip(cuts, boxes, strict=True)]
        height = max(cut.shape[0] for cut in shown)
        row = np.concatenate([np.pad(cut, ((0, height - cut.shape[0]), (0, 0))) for cut in shown], axis=1)
        found.append(
            VolumeImage(
                subject=subject,
                height=row.shape[0],
                width=row.shape[1],
                pixels=base64.b64encode(np.rint(255 * row).astype(np.uint8).tobytes()).decode(),
                text=_text(made, settings),
                flagged=bool(made.notes),
            )
        )
    return tuple(found)


def _cuts(made: Gridded, settings: ImageSettings) -> list[np.ndarray]:
    """Axial, coronal and sagittal slices through the middle of the head, from 0 to 1."""
    values = made.values.astype(np.float32)
    # Show the zeroed background as black, since standardised intensities of dark tissue are below 0.
    inside = head_on(values, np.array(made.affine), settings)
    low, high = (float(q) for q in np.quantile(values[inside], (0.005, 0.995)))
    grey = 0.1 + 0.9 * np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    if settings.outside == "zero":
        grey = np.where(inside, grey, 0.0)
    middle = np.rint(np.argwhere(inside).mean(axis=0)).astype(int)
    return [np.take(grey, middle[axis], axis=axis).T[::-1] for axis in (2, 1, 0)]


def _occupied(cut: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a slice that are not black, with a margin of one voxel."""
    rows, columns = (np.flatnonzero(cut.any(axis=axis)) for axis in (1, 0))
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _text(made: Gridded, settings: ImageSettings) -> str:
    """Short description of the processing."""
    native = " x ".join(f"{edge:.2g}" for edge in made.native)
    grid = " x ".join(map(str, settings.shape3))
    how = {
        "isotropic": f"resampled from {native} mm to {settings.voxel:g} mm, cropped or padded to {grid}",
        "zoom": f"resized from {native} mm to {grid} voxels, its size lost",
        "raw": f"{native} mm as it is, cropped or padded to {grid}",
    }[settings.grid]
    levels = {"zscore": "standardised", "minmax": "scaled to 0 to 1", "none": "left as they are"}[settings.normalise]
    return f"{how}; grey levels {levels}; head {made.head_ml:.0f} ml"
