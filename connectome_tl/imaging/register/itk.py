"""Read and write ITK transforms: affine text files and displacement fields.

ITK uses LPS axes. A file `from-A_to-B` resamples images of A to B: it maps points of B to points of A, as `Warp` does
for its fixed and moving image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.register.warps import Warp, points_of_warp
from connectome_tl.provenance import write_text

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_HEAD = "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"


def write_transform(stem: Path, warp: Warp) -> Path:
    """Write `STEM.txt` where the warp is affine, else `STEM.nii.gz`, a displacement field in mm.

    The field has the voxels of the registration; where it is undefined, it contains the affine part.
    """
    if warp.places is None or warp.grid is None:
        matrix = warp.affine if warp.before is None else warp.affine @ warp.before
        lps = _LPS @ matrix @ _LPS
        numbers = " ".join(f"{value:.12g}" for value in (*lps[:3, :3].ravel(), *lps[:3, 3]))
        return write_text(Path(f"{stem}.txt"), f"{_HEAD}Parameters: {numbers}\nFixedParameters: 0 0 0\n")
    shape = warp.places.shape[:3]
    grid = warp.grid if warp.before is None else np.linalg.inv(warp.before) @ warp.grid
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = voxels @ grid[:3, :3].T + grid[:3, 3]
    moved = (points_of_warp(warp, points) - points) * np.diag(_LPS)[:3]
    field = moved.reshape(*shape, 1, 3).astype(np.float32)
    return write_volume(Path(f"{stem}.nii.gz"), field, grid, intent="vector")
