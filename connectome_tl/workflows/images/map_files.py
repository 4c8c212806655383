"""Files of the voxel maps of a run: paths, the mean volume, and reading, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.provenance import read_json
from connectome_tl.report.figures.voxels import MapImages
from connectome_tl.settings.records.volume_maps import VolumeMapsRecord

FOLDER, SUMMARY = "volume_maps", "maps.json"


def write_background(run_dir: Path, task: str, background: np.ndarray, inside: np.ndarray, affine: np.ndarray) -> None:
    """Write the mean volume of the mapped subjects, NaN outside the head."""
    shown = np.where(inside, background, np.nan).astype(np.float32)
    write_volume(_background(run_dir, task), shown, affine)


def read_map_images(run_dir: Path) -> MapImages | None:
    """The maps of a run folder with their arrays, or None where there are none.

    Raises:
        DataError: the summary was changed by hand, or by another version.
    """
    file = run_dir / FOLDER / SUMMARY
    if not file.is_file():
        return None
    try:
        record = VolumeMapsRecord.model_validate(read_json(file))
    except ValueError as error:
        remedy = "Run `connectome-tl maps` again."
        raise DataError("not a summary of maps", file=file, remedy=remedy) from error
    images = {one.file: read_volume(run_dir / FOLDER / one.file).data for one in record.maps}
    behind = {one.task: read_volume(_background(run_dir, one.task)) for one in record.maps}
    inside = {task: np.isfinite(volume.data) for task, volume in behind.items()}
    backgrounds = {task: np.where(inside[task], volume.data, 0) for task, volume in behind.items()}
    return MapImages(record, images, backgrounds, inside, {task: volume.affine for task, volume in behind.items()})


def _background(run_dir: Path, task: str) -> Path:
    return run_dir / FOLDER / f"{task}_background.nii.gz"
