"""Compare assembly with dipy and MRtrix3: CPU seconds of one thread, including reading the tractogram.

    python benchmarks/assembly.py [--streamlines 200000] [--repeats 5] [--voxel 1.25]

Streamlines are smooth random curves between labelled blobs, so no real data are needed. Every row first
checks that the matrices are equal. Each run is a separate process, whose CPU time is measured
(resource.getrusage), less the time the same interpreter takes to import the same libraries.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.track.streamlines import write_tck

OURS = """
import sys
from connectome_tl.connectome.assemble import assemble, regions_of_image
from connectome_tl.imaging.read.images import read_labels
from connectome_tl.imaging.track.sampling import reduce_streamlines
from connectome_tl.imaging.track.streamlines import read_blocks
from connectome_tl.settings.imaging import AssemblySettings
import time
import nibabel
import numpy as np
started = time.process_time()
labels = read_labels(sys.argv[2])
settings = AssemblySettings(assignment=sys.argv[4], diagonal="keep")
streamlines = reduce_streamlines(read_blocks(sys.argv[1]), lengths=sys.argv[5] == "length")
assembly = assemble(streamlines, labels, regions_of_image(labels), (sys.argv[5],), settings=settings)
print(time.process_time() - started)
np.save(sys.argv[3], assembly.connectome.weights[0])
"""
DIPY = """
import sys
import nibabel as nib
import numpy as np
from dipy.tracking.utils import connectivity_matrix
import time
started = time.process_time()
labels = nib.load(sys.argv[2])
streamlines = nib.streamlines.load(sys.argv[1]).streamlines
matrix = connectivity_matrix(streamlines, labels.affine, np.asarray(labels.dataobj).astype(int), symmetric=True)
print(time.process_time() - started)
np.save(sys.argv[3], matrix[1:, 1:])
"""


def phantom(folder: Path, n_streamlines: int, voxel_mm: float, seed: int = 0) -> tuple[Path, Path]:
    """A tractogram of about 60 points per streamline and 90 blobs in a neonatal field of view."""
    rng = np.random.default_rng(seed)
    size = np.array([110.0, 130.0, 100.0])
    shape = np.ceil(size / voxel_mm).astype(int)
    centres = rng.uniform(12, size - 12, (90, 3))
    grid = np.stack(np.meshgrid(*(np.arange(n) * voxel_mm for n in shape), indexing="ij"), axis=-1)
    labels = np.zeros(shape, dtype=np.int32)
    for number, centre in enumerate(centres, 1):
        labels[((grid - centre) ** 2).sum(axis=-1) < rng.uniform(5, 8) ** 2] = number
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    ends = centres[rng.integers(0, 90, (n_streamlines, 2))] + rng.normal(0, 3.5, (n_streamlines, 2, 3))
    t = np.linspace(0, 1, 60)[:, None]
    bend = rng.normal(0, 8, (n_streamlines, 3))
    curves = [a + (b - a) * t + c * np.sin(np.pi * t) for (a, b), c in zip(ends, bend, strict=True)]
    curves = [np.clip(curve, 0.1, size - 2 * voxel_mm) for curve in curves]  # dipy accepts no point outside the image
    return write_tck(folder / "tracks.tck", curves), write_volume(folder / "labels.nii", labels, affine)


def cpu(command: list[str], repeats: int) -> float:
    """Median CPU seconds (user and system) of a command."""
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def python(code: str, arguments: list[str], repeats: int) -> float:
    """Median of the times that a script prints."""
    run = [sys.executable, "-c", code, *arguments]
    return statistics.median(float(subprocess.check_output(run)) for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streamlines", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--voxel", type=float, default=1.25)
    options = parser.parse_args()
    mrtrix = shutil.which("tck2connectome")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tracks, labels = phantom(folder, options.streamlines, options.voxel)
        print(
            f"{options.streamlines} streamlines of 60 points, {options.voxel} mm voxels, medians of {options.repeats}"
        )
        print("what                  ours/s  dipy/s  dipy/ours  MRtrix3/s  MRtrix3/ours  equal")
        for what, assignment, measure, flags in (
            ("count, end voxel", "endvoxel", "count", ["-assignment_end_voxels"]),
            ("count, radial 4 mm", "radial", "count", []),
            ("length, radial 4 mm", "radial", "length", ["-scale_length", "-stat_edge", "mean"]),
        ):
            out = [str(folder / f"{who}.npy") for who in ("ours", "dipy")]
            files = [str(tracks), str(labels)]
            ours = python(OURS, [*files, out[0], assignment, measure], options.repeats)
            matrix, equal = np.load(out[0]), []
            row = f"{what:20s}  {ours:6.2f}"
            if assignment == "endvoxel":
                other = python(DIPY, [*files, out[1]], options.repeats)
                equal.append(np.array_equal(np.triu(np.load(out[1])), np.triu(matrix)))
                row += f"  {other:6.2f}  {other / ours:9.1f}"
            else:
                row += "       -          -"
            if mrtrix:
                table = str(folder / "mrtrix.csv")
                command = [mrtrix, "-quiet", "-force", "-nthreads", "0", "-symmetric", *flags, *files, table]
                other = cpu(command, options.repeats)
                reference = np.loadtxt(table, delimiter=",")
                equal.append(bool(np.allclose(reference, matrix, rtol=1e-6, atol=1e-9)))
                row += f"  {other:9.2f}  {other / ours:12.1f}"
            print(f"{row}  {all(equal)}")


if __name__ == "__main__":
    main()
