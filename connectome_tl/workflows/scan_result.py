"""What all scans of a run share, and what is found for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from connectome_tl.connectome.assemble import Assembly, RegionTable
from connectome_tl.imaging.dwi import Dwi
from connectome_tl.imaging.images import Volume
from connectome_tl.imaging.reconstruction import Response
from connectome_tl.settings.imaging import ConnectomesSettings

EXPLORATORY = "exploratory: susceptibility, eddy currents and motion within volumes were not corrected"


@dataclass(frozen=True)
class Plan:
    """What all scans of a run share. Paths are absolute.

    Attributes:
        regions: rows of every connectome; None takes the labels of each parcellation (which must agree).
        template: role (image, labels, mask) to path; empty without a template.
        response: file of the declared group response.
    """

    settings: ConnectomesSettings
    regions: RegionTable | None
    atlas_name: str
    template: Mapping[str, Path]
    out: Path
    n_threads: int = 1
    response: Path | None = None


@dataclass(frozen=True, eq=False)
class ScanResult:
    """Everything that was found for one scan.

    Attributes:
        images: scalar maps by name, each (x, y, z) on the grid of `dwi`.
        streamlines: (n_points, 3) mm each.
        passed: (x, y, z) streamlines through each voxel.
        b0_snr: of the unweighted volumes as they came; None with fewer than three.
        mask_dice: of the registration; None without one.
    """

    name: str
    preprocessed: bool
    dwi: Dwi
    images: Mapping[str, np.ndarray]
    labels: Volume
    streamlines: list[np.ndarray]
    assembly: Assembly
    response: Response
    warnings: tuple[str, ...]
    passed: np.ndarray
    b0_snr: float | None
    mask_dice: float | None
