"""Every step of one participant on the phantom, CPU seconds, beside MRtrix3's command where there is one.

python benchmarks/imaging_steps.py [--voxel 2.0] [--streamlines 20000]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from connectome_tl.imaging.denoising import denoised, without_bias, without_motion
from connectome_tl.imaging.dwi import Dwi
from connectome_tl.imaging.images import Volume, write_volume
from connectome_tl.imaging.reconstruction import deconvolve, estimate_response
from connectome_tl.imaging.registration import register, register_affine
from connectome_tl.imaging.structural import dwi_mask
from connectome_tl.imaging.tensor import fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.imaging.tractography import track
from connectome_tl.settings.imaging import ReconstructionSettings, RegistrationSettings, TrackingSettings
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head

T = TypeVar("T")


def timed(name: str, work: Callable[[], T], command: list[object] | None = None) -> T:
    start = time.process_time()
    result = work()
    line = f"{name:28s} {time.process_time() - start:7.1f}"
    if command and shutil.which(str(command[0])):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [str(word) for word in (command[0], "-quiet", "-force", "-nthreads", 0, *command[1:])], check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        line += f" {after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:9.1f}  {command[0]}"
    print(line, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--voxel", type=float, default=2.0)
    parser.add_argument("--streamlines", type=int, default=20_000)
    options = parser.parse_args()
    anatomy = make_anatomy(PhantomSettings(voxel=options.voxel))
    template, head = make_head(anatomy, still=True), make_head(anatomy, seed=1)
    dwi = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
    recon = ReconstructionSettings()
    tracking = TrackingSettings(n_streamlines=options.streamlines)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = write_volume(folder / "dwi.nii", dwi.data, dwi.affine)
        mask = write_volume(folder / "mask.nii", dwi.mask, dwi.affine)
        np.savetxt(folder / "grad.b", np.column_stack([dwi.directions, dwi.bvals]))
        grad = ["-grad", folder / "grad.b"]
        print(f"{'x'.join(map(str, dwi.data.shape))}, {int(dwi.mask.sum())} voxels in the brain; one thread")
        print("step                          ours/s MRtrix3/s")
        timed("brain mask", lambda: dwi_mask(dwi), ["dwi2mask", *grad, image, folder / "m.nii"])
        timed("denoising (patch2self)", lambda: denoised(dwi, "patch2self"), ["dwidenoise", image, folder / "d.nii"])
        timed("motion (rigid)", lambda: without_motion(dwi))
        timed("bias field", lambda: without_bias(dwi))
        tensor = timed(
            "tensor",
            lambda: fit_tensor(dwi, tensor_volumes(dwi, max_b=1500)),
            ["dwi2tensor", *grad, "-mask", mask, image, folder / "t.nii"],
        )
        maps = tensor_maps(dwi, tensor)
        response = timed("response", lambda: estimate_response(dwi, maps, recon))
        np.savetxt(folder / "wm.txt", response.fibre)
        fod = folder / "fod.nii"
        fluid: list[object] = []
        if response.fluid is not None:
            np.savetxt(folder / "csf.txt", response.fluid[:, None])
            fluid = [folder / "csf.txt", folder / "csf.nii"]
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
    fixed, moving = Volume(head.t2w, head.t2w_affine), Volume(template.t2w, template.t2w_affine)
    timed("affine registration", lambda: register_affine(fixed, moving, RegistrationSettings()))
    timed("affine and SyN", lambda: register(fixed, moving, RegistrationSettings()))


if __name__ == "__main__":
    main()
