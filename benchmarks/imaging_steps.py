"""Every step of one participant on a phantom of 52 x 64 x 56 x 65: CPU seconds beside MRtrix3's and ANTs' commands.

    python benchmarks/imaging_steps.py [--streamlines 20000] [--dipy-defaults]

Heads move by 1 mm and 1 degree along each axis between volumes, so that motion correction has something to do and
its error is known. The affine brings a template onto a head of other place and size; its accuracy is the mean Dice of
the labels it carries. `--dipy-defaults` adds dipy's own affine and Gibbs correction (minutes). One thread, but for the
last line: the whole command on one raw scan, wall clock on two CPUs.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import numpy as np

from connectome_tl.imaging.denoising import denoised, without_bias, without_ringing
from connectome_tl.imaging.dwi import Dwi
from connectome_tl.imaging.gradient_check import lengths_of_tables
from connectome_tl.imaging.images import Volume, write_volume
from connectome_tl.imaging.motion import residual_mm, without_motion
from connectome_tl.imaging.reconstruction import deconvolve, estimate_response
from connectome_tl.imaging.registration import register, register_affine
from connectome_tl.imaging.structural import dwi_mask
from connectome_tl.imaging.tensor import fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.imaging.tractography import track
from connectome_tl.imaging.warps import Warp, carry_labels
from connectome_tl.settings.imaging import ReconstructionSettings, RegistrationSettings, TrackingSettings
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head, random_poses, template_labels
from connectome_tl.simulation.phantom_folder import write_phantom

T = TypeVar("T")
# Half axes and a margin of 9 mm make 52 x 64 x 56 voxels of 2 mm.
SIZE = PhantomSettings(
    half_axes=(43.0, 55.0, 47.0),
    voxel=2.0,
    region_radius=8.0,
    bundle_radius=(3.0, 7.0),
    shells=((0.0, 5), (400.0, 8), (1000.0, 20), (2600.0, 32)),
    seed=7,
)
CONFIG = """\
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
template:
  image: template/tpl-Phantom_T2w.nii.gz
  labels: template/tpl-Phantom_atlas-Phantom_dseg.nii.gz
  mask: template/tpl-Phantom_desc-brain_mask.nii.gz
"""
AFFINE_S, MOTION_S, PARTICIPANT_MIN = 30.0, 90.0, 6.0
spent: dict[str, float] = {}


def cpu(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def timed(name: str, work: Callable[[], T], command: list[object] | None = None, rival: float | None = None) -> T:
    """Print what a step costs beside another program's command, or beside seconds measured elsewhere."""
    result, spent[name] = cpu(work)
    line = f"{name:30s} {spent[name]:7.1f}"
    if command and shutil.which(str(command[0])):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [str(word) for word in (command[0], "-quiet", "-force", "-nthreads", 0, *command[1:])], check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        line += f" {after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:9.1f}  {command[0]}"
    elif rival is not None:
        line += f" {rival:9.1f}  ANTs"
    print(line, flush=True)
    return result


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    numbers = np.unique(truth[truth > 0])
    both = [((found == n) & (truth == n)).sum() * 2 / max((found == n).sum() + (truth == n).sum(), 1) for n in numbers]
    return float(np.mean(both))


def registrations(folder: Path, *, slow: bool) -> None:
    anatomy = make_anatomy(SIZE)
    template, head = make_head(anatomy, still=True), make_head(anatomy, seed=1)
    _, atlas = template_labels(anatomy)
    fixed, moving = Volume(head.t2w, head.t2w_affine), Volume(template.t2w, template.t2w_affine)
    labels = Volume(atlas.astype(np.int32), template.t2w_affine)
    grid = Volume(head.fibre, head.affine)
    a, b = (write_volume(folder / f"{k}.nii", v.data, v.affine) for k, v in (("fixed", fixed), ("moving", moving)))
    settings = RegistrationSettings()
    mrregister = ["mrregister", "-type", "affine", "-affine", folder / "affine.txt", b, a]
    found = timed("affine registration", lambda: register_affine(fixed, moving, settings), mrregister)
    bent = timed("affine and SyN", lambda: register(fixed, moving, settings))

    def overlap(warp: Warp) -> float:
        return dice(carry_labels(warp, labels, grid).data, head.labels)

    scores = {"untouched": overlap(Warp(np.eye(4))), "affine": overlap(found), "affine and SyN": overlap(bent)}
    if find_spec("ants"):
        with_ants, seconds = cpu(lambda: register(fixed, moving, settings.model_copy(update={"engine": "ants"})))
        print(f"{'  the same by ANTs':30s} {seconds:7.1f}")
        scores["ANTs"] = overlap(with_ants)
    if slow:
        from dipy.align import affine_registration

        (_, matrix), seconds = cpu(
            lambda: affine_registration(
                moving.data, fixed.data, moving_affine=moving.affine, static_affine=fixed.affine
            )
        )
        print(f"{'  affine as dipy comes':30s} {seconds:7.1f}")
        scores["dipy's default affine"] = overlap(Warp(matrix))
    print("mean Dice of labels: " + ", ".join(f"{name} {score:.3f}" for name, score in scores.items()))


def participant(folder: Path) -> float:
    """Minutes of wall clock for the whole command on one raw scan."""
    root = write_phantom(folder / "bids", n_subjects=1, n_sessions=1, settings=SIZE)
    (root / "config.yaml").write_text(CONFIG)
    command = [str(Path(sys.executable).with_name("connectome-tl")), "connectomes", str(root), str(folder / "out")]
    start = time.perf_counter()
    subprocess.run([*command, "participant", "--config", str(root / "config.yaml"), "--n-cpus", "2"], check=True)
    return (time.perf_counter() - start) / 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streamlines", type=int, default=20_000)
    parser.add_argument("--dipy-defaults", action="store_true")
    options = parser.parse_args()
    anatomy = make_anatomy(SIZE)
    poses = random_poses(sum(count for _, count in SIZE.shells), 1.0, seed=1)
    head = make_head(anatomy, seed=1, poses=poses)
    raw = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
    recon = ReconstructionSettings()
    tracking = TrackingSettings(n_streamlines=options.streamlines)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = write_volume(folder / "dwi.nii", raw.data, raw.affine)
        mask = write_volume(folder / "mask.nii", raw.mask, raw.affine)
        np.savetxt(folder / "grad.b", np.column_stack([raw.directions, raw.bvals]))
        grad = ["-grad", folder / "grad.b"]
        print(f"{' x '.join(map(str, raw.data.shape))}, {int(raw.mask.sum())} voxels in the brain; one thread")
        print("step                           ours/s  theirs/s")
        timed("brain mask", lambda: dwi_mask(raw), ["dwi2mask", *grad, image, folder / "m.nii"])
        dwi = timed(
            "denoising (MP-PCA, dipy)",
            lambda: denoised(raw, "mppca"),
            ["dwidenoise", "-mask", mask, image, folder / "d.nii"],
        )
        timed("denoising (Patch2Self, dipy)", lambda: denoised(raw, "patch2self"))
        if options.dipy_defaults:
            timed("Gibbs (dipy)", lambda: without_ringing(dwi), ["mrdegibbs", image, folder / "g.nii"])
        dwi, motion = timed("motion (rigid)", lambda: without_motion(dwi))
        timed("bias field (off by default)", lambda: without_bias(dwi))
        tensor = timed(
            "tensor",
            lambda: fit_tensor(dwi, tensor_volumes(dwi, max_b=1500)),
            ["dwi2tensor", *grad, "-mask", mask, image, folder / "t.nii"],
        )
        maps = tensor_maps(dwi, tensor)
        timed("gradient table check", lambda: lengths_of_tables(dwi, maps))
        response = timed("response", lambda: estimate_response(dwi, maps, recon))
        np.savetxt(folder / "wm.txt", response.fibre)
        fluid: list[object] = []
        if response.fluid is not None:
            np.savetxt(folder / "csf.txt", response.fluid[:, None])
            fluid = [folder / "csf.txt", folder / "csf.nii"]
        fod = folder / "fod.nii"
        densities = timed(
            "deconvolution, two tissues",
            lambda: deconvolve(dwi, response, recon),
            ["dwi2fod", "msmt_csd", *grad, "-mask", mask, image, folder / "wm.txt", fod, *fluid],
        )
        seeds = ["-seed_image", mask, "-mask", mask, "-cutoff", tracking.fod_cutoff, "-select", options.streamlines]
        timed(
            f"tracking, {options.streamlines}",
            lambda: track(densities, head.mask, tracking),
            ["tckgen", *seeds, fod, folder / "t.tck"],
        )
        registrations(folder, slow=options.dipy_defaults)
        rest = np.tile(np.eye(4), (raw.n_volumes, 1, 1))
        before, after = (residual_mm(p, poses, head.mask, head.affine).mean() for p in (rest, motion.poses))
        print(f"motion: {before:.2f} mm before, {after:.2f} mm after; voxels of {SIZE.voxel} mm")
        minutes = participant(folder)
    print(f"whole participant, 100000 streamlines, registered template: {minutes:.1f} min of wall clock")
    verdicts = {
        f"affine under {AFFINE_S:.0f} s": spent["affine registration"] < AFFINE_S,
        f"motion under {MOTION_S:.0f} s": spent["motion (rigid)"] < MOTION_S,
        "motion leaves less than half a voxel": after < SIZE.voxel / 2,
        f"whole participant under {PARTICIPANT_MIN:.0f} min": minutes < PARTICIPANT_MIN,
    }
    for what, true in verdicts.items():
        print(f"{'yes' if true else 'NO '}  {what}")
    sys.exit(0 if all(verdicts.values()) else 1)


if __name__ == "__main__":
    main()
