"""Engine `mrtrix3`: densities, iFOD2 and SIFT2 by MRtrix3's own commands, where they are on the PATH.

Tournier et al. 2019 (doi:10.1016/j.neuroimage.2019.116137); SIFT2: Smith et al. 2015
(doi:10.1016/j.neuroimage.2015.06.092). Weights come multiplied by mu. They are a fibre bundle capacity only
with a common response and normalised intensities, and are not called so here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.dwi import Dwi
from connectome_tl.imaging.images import write_volume
from connectome_tl.imaging.reconstruction import estimate_response
from connectome_tl.imaging.streamlines import read_streamlines
from connectome_tl.imaging.tensor import TensorMaps
from connectome_tl.settings.imaging import ConnectomesSettings

COMMANDS = ("dwi2fod", "tckgen", "tcksift2")


def require_mrtrix() -> None:
    """Say at once which commands are missing.

    Raises:
        MissingInputError: with their names.
    """
    absent = [command for command in COMMANDS if shutil.which(command) is None]
    if absent:
        raise MissingInputError(
            "engine mrtrix3 needs MRtrix3 on the PATH",
            expected=", ".join(COMMANDS),
            got=f"without {', '.join(absent)}",
            remedy="Install MRtrix3, or use --engine dipy.",
        )


def track_with_mrtrix(dwi: Dwi, maps: TensorMaps, settings: ConnectomesSettings) -> tuple[list[np.ndarray], np.ndarray]:
    """Streamlines (n_points, 3) in mm and their SIFT2 weights times mu, (n_streamlines,).

    Step and angle are iFOD2's own defaults; number, lengths, cut and seed are the settings'. One thread,
    so that the same seed gives the same streamlines.

    Raises:
        MissingInputError: MRtrix3 is not installed. DataError: one of its commands failed.
    """
    require_mrtrix()
    tracking = settings.tracking
    response = estimate_response(dwi, maps, settings.reconstruction)
    two = response.fluid is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volume(folder / "dwi.nii", dwi.data, dwi.affine)
        write_volume(folder / "mask.nii", dwi.mask, dwi.affine)
        np.savetxt(folder / "grad.b", np.column_stack([dwi.directions, dwi.bvals]))
        np.savetxt(folder / "fibre.txt", response.fibre)
        densities = ["fibre.txt", "fod.nii"]
        if response.fluid is not None:
            np.savetxt(folder / "fluid.txt", response.fluid[:, None])
            densities += ["fluid.txt", "fluid.nii"]
        order = str(settings.reconstruction.sh_order)
        lmax = ["-lmax", f"{order},0" if two else order]
        algorithm = "msmt_csd" if two else "csd"
        _run(
            ["dwi2fod", algorithm, "-mask", "mask.nii", "-grad", "grad.b", *lmax, "dwi.nii", *densities], folder, dwi, 0
        )
        lengths = ["-minlength", str(tracking.min_length_mm), "-maxlength", str(tracking.max_length_mm)]
        seeds = ["-seed_image", "mask.nii", "-mask", "mask.nii", "-cutoff", str(tracking.fod_cutoff)]
        count = [
            "-select",
            str(tracking.n_streamlines),
            "-seeds",
            str(tracking.max_seeds_per_streamline * tracking.n_streamlines),
        ]
        _run(
            ["tckgen", "-algorithm", "iFOD2", *seeds, *lengths, *count, "fod.nii", "t.tck"], folder, dwi, tracking.seed
        )
        _run(["tcksift2", "-out_mu", "mu.txt", "t.tck", "fod.nii", "w.txt"], folder, dwi, tracking.seed)
        found = read_streamlines(folder / "t.tck")
        weights = np.loadtxt(folder / "w.txt", ndmin=1) * float(np.loadtxt(folder / "mu.txt"))
    lines = [found.points[a : a + n].copy() for a, n in zip(found.first, found.n_points, strict=True)]
    return lines, weights


def _run(command: list[str], folder: Path, dwi: Dwi, seed: int) -> None:
    environment = {**os.environ, "MRTRIX_RNG_SEED": str(1 + seed)}
    done = subprocess.run(
        [command[0], "-quiet", "-nthreads", "0", *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        raise DataError(f"MRtrix3's {command[0]} failed: {said}", subject=dwi.subject, file=dwi.file)
