"""Tractography engine `mrtrix3`: MRtrix3's own FODs, iFOD2 and SIFT2.

Tournier et al. 2019 (doi:10.1016/j.neuroimage.2019.116137); SIFT2: Smith et al. 2015
(doi:10.1016/j.neuroimage.2015.06.092). Weights are multiplied by mu. Their sum is called a fibre bundle capacity only
with a common response and normalised intensities (Smith et al. 2022, doi:10.52294/ApertureNeuro.2022.2.NEOD9565), see
`weight_name`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.commands import ran_well, run_to_end
from connectome_tl.imaging.preprocess.tissues import Tissues
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.imaging.track.reconstruction import Orientations, Response
from connectome_tl.imaging.track.streamlines import read_streamlines
from connectome_tl.settings.imaging import ConnectomesSettings

COMMANDS = ("dwi2fod", "tckgen", "tcksift2")


def commands_of(settings: ConnectomesSettings) -> tuple[str, ...]:
    """The commands of MRtrix3 that these settings call."""
    steps = (settings.preprocessing.denoise, settings.preprocessing.gibbs)
    used = tuple(step for step in steps if step in ("dwidenoise", "mrdegibbs"))
    if settings.engine != "mrtrix3":
        return used
    return (*used, *COMMANDS, *(("mtnormalise",) if settings.reconstruction.normalise else ()))


def version_of(commands: tuple[str, ...]) -> dict[str, str]:
    """MRtrix3's version, for provenance; empty if none of its commands is used.

    Raises:
        MissingInputError: it is not installed.
    """
    if not commands:
        return {}
    require(commands)
    said = subprocess.run([commands[0], "-version"], capture_output=True, text=True, check=False).stdout
    return {"mrtrix3": said.split("\n", 1)[0].strip("= ").removeprefix(commands[0]).strip() or "unknown"}


def require(commands: tuple[str, ...]) -> None:
    """Check that all commands are installed.

    Raises:
        MissingInputError: lists missing commands.
    """
    absent = [command for command in commands if shutil.which(command) is None]
    if absent:
        raise MissingInputError(
            "these settings need MRtrix3 on the PATH",
            expected=", ".join(commands),
            got=f"without {', '.join(absent)}",
            remedy="Install MRtrix3, or use --engine dipy and dipy's own denoise and gibbs.",
        )


def changed_by_mrtrix(command: str, dwi: Dwi, n_threads: int = 1) -> Dwi:
    """The volumes processed by a command (dwidenoise, mrdegibbs).

    Raises:
        MissingInputError: it is not installed. DataError: it failed.
    """
    require((command,))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volume(folder / "in.nii", dwi.data, dwi.affine)
        _run([command, "in.nii", "out.nii"], folder, dwi, 0, n_threads)
        data = read_volume(folder / "out.nii", subject=dwi.subject, n_dimensions=(4,)).data
    return replace(dwi, data=data)


def weight_name(settings: ConnectomesSettings) -> str:
    """Name of the sum of an edge's weights."""
    if settings.engine != "mrtrix3":
        if settings.tracking.weights == "fibre_density":
            return "cross-section in mm2 of fibre like the response"
        return "streamlines, not fibre density"
    common = settings.reconstruction.response_file is not None and settings.reconstruction.normalise
    return "fibre bundle capacity" if common else "sum of SIFT2 weights times mu, not comparable between subjects"


def track_with_mrtrix(
    dwi: Dwi,
    response: Response,
    settings: ConnectomesSettings,
    *,
    tissues: Tissues | None = None,
    n_threads: int = 1,
) -> tuple[list[np.ndarray], np.ndarray, Orientations | None]:
    """Streamlines (n_points, 3) in mm, their SIFT2 weights times mu, (n_streamlines,), and the densities.

    Step and angle are iFOD2's defaults; number, lengths, cut-off and seed are from the settings. Tracking uses one
    thread, so that it is reproducible. Densities are returned only if they are kept (`keep_orientations`).

    Args:
        tissues: tissue maps on the grid of the data, for anatomically constrained tracking (`-act`).
        n_threads: number of threads of the steps whose result does not depend on it.

    Raises:
        MissingInputError: MRtrix3 is not installed. DataError: one of its commands failed, or intensities
            are to be normalised with one tissue.
    """
    require(commands_of(settings))
    tracking = settings.tracking
    two = response.fluid is not None
    normalise = settings.reconstruction.normalise
    if normalise and not two:
        raise DataError(
            "normalising intensities needs two tissues", expected="two weighted shells", subject=dwi.subject,
            file=dwi.file, remedy="Set reconstruction.normalise: false.",
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volume(folder / "dwi.nii", dwi.data, dwi.affine)
        write_volume(folder / "mask.nii", dwi.mask, dwi.affine)
        bvals = np.where(dwi.is_b0, 0.0, dwi.bvals)  # MRtrix3 takes b above 10 for weighted
        np.savetxt(folder / "grad.b", np.column_stack([dwi.directions, bvals]))
        np.savetxt(folder / "fibre.txt", response.fibre)
        densities = ["fibre.txt", "fod.nii"]
        if response.fluid is not None:
            np.savetxt(folder / "fluid.txt", response.fluid[:, None])
            densities += ["fluid.txt", "fluid.nii"]
        order = str(settings.reconstruction.sh_order)
        lmax = ["-lmax", f"{order},0" if two else order]
        algorithm = "msmt_csd" if two else "csd"
        _run(
            ["dwi2fod", algorithm, "-mask", "mask.nii", "-grad", "grad.b", *lmax, "dwi.nii", *densities],
            folder,
            dwi,
            0,
            n_threads,
        )
        if normalise:
            _run(["mtnormalise", "-mask", "mask.nii", "fod.nii", "n.nii", "fluid.nii", "f.nii"], folder, dwi, 0)
            (folder / "n.nii").replace(folder / "fod.nii")
        lengths = ["-minlength", str(tracking.min_length_mm), "-maxlength", str(tracking.max_length_mm)]
        seeds = ["-seed_image", "mask.nii", "-mask", "mask.nii", "-cutoff", str(tracking.fod_cutoff)]
        count = [
            "-select",
            str(tracking.n_streamlines),
            "-seeds",
            str(tracking.max_seeds_per_streamline * tracking.n_streamlines),
        ]
        act = []
        if tissues is not None:
            write_volume(folder / "5tt.nii", tissues.five(), tissues.affine)
            act = ["-act", "5tt.nii"]
        follow = ["tckgen", "-algorithm", "iFOD2", *act, *seeds, *lengths, *count, "fod.nii", "t.tck"]
        _run(follow, folder, dwi, tracking.seed)
        _run(["tcksift2", *act, "-out_mu", "mu.txt", "t.tck", "fod.nii", "w.txt"], folder, dwi, tracking.seed)
        found = read_streamlines(folder / "t.tck")
        weights = np.loadtxt(folder / "w.txt", ndmin=1) * float(np.loadtxt(folder / "mu.txt"))
        orientations = _densities(folder, dwi, normalise) if settings.keep_orientations else None
    lines = [found.points[a : a + n].copy() for a, n in zip(found.first, found.n_points, strict=True)]
    return lines, weights, orientations


def _densities(folder: Path, dwi: Dwi, normalised: bool) -> Orientations:
    """Read the output of dwi2fod or mtnormalise."""
    fluid_file = folder / ("f.nii" if normalised else "fluid.nii")
    fibres = read_volume(folder / "fod.nii", subject=dwi.subject, n_dimensions=(4,)).data
    fluid = read_volume(fluid_file, subject=dwi.subject).data if fluid_file.is_file() else None
    return Orientations(fibres, fluid, dwi.mask, dwi.affine)


def _run(command: list[str], folder: Path, dwi: Dwi, seed: int, n_threads: int = 1) -> None:
    environment = {**os.environ, "MRTRIX_RNG_SEED": str(1 + seed)}
    words = [command[0], "-quiet", "-nthreads", str(n_threads if n_threads > 1 else 0), *command[1:]]
    done = run_to_end(words, folder, environment)
    ran_well(done, f"MRtrix3's {command[0]}", subject=dwi.subject, file=dwi.file)
