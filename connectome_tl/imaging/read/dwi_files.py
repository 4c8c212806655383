"""Write diffusion data with BIDS names: image, b-values, b-vectors in FSL's convention."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.provenance import write_text


def write_dwi(folder: Path, stem: str, dwi: Dwi) -> list[Path]:
    """Write `STEM_dwi.nii.gz`, `.bval` and `.bvec`; `read_dwi` returns the same data and directions."""
    vectors = dwi.voxel_directions.copy()
    if np.linalg.det(dwi.affine[:3, :3]) > 0:
        vectors[:, 0] *= -1
    rows = "".join(" ".join(f"{value:.7f}" for value in row) + "\n" for row in vectors.T)
    return [
        write_volume(folder / f"{stem}_dwi.nii.gz", dwi.data, dwi.affine),
        write_text(folder / f"{stem}_dwi.bval", " ".join(f"{b:g}" for b in dwi.bvals) + "\n"),
        write_text(folder / f"{stem}_dwi.bvec", rows),
    ]
