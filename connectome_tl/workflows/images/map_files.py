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


def write_background(folder: Path, task: str, background: np.ndarray, inside: np.ndarray, affine: np.ndarray) -> None:
    """Write the mean volume of the mapped subjects, NaN outside the head."""
    shown = np.where(inside, background, np.nan).astype(np.float32)
    write_volume(_background(folder, task), shown, affine)


def read_map_images(run_dir: Path) -> MapImages | None:
    """The maps of a run folder, those of `maps` or else of `explain`, with their arrays; None where there are none.

    Raises:
        DataError: the summary was changed by hand, or by another version.
    """
    places = (run_dir / FOLDER, run_dir / "explanations" / FOLDER)
    folder = next((place for place in places if (place / SUMMARY).is_file()), None)
    if folder is None:
        return None
    file = folder / SUMMARY
    try:
        record = VolumeMapsRecord.model_validate(read_json(file))
    except ValueError as error:
        remedy = "Run `connectome-tl maps` again."
        raise DataError("not a summary of maps", file=file, remedy=remedy) from error
    images = {one.file: read_volume(folder / one.file).data for one in record.maps}
    behind = {one.task: read_volume(_background(folder, one.task)) for one in record.maps}
    inside = {task: np.isfinite(volume.data) for task, volume in behind.items()}
    backgrounds = {task: np.where(inside[task], volume.data, 0) for task, volume in behind.items()}
    return MapImages(record, images, backgrounds, inside, {task: volume.affine for task, volume in behind.items()})


def _background(folder: Path, task: str) -> Path:
    return folder / f"{task}_background.nii.gz"
