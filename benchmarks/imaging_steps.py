"""CPU seconds of every step for one phantom (52 x 64 x 56 x 65), compared with MRtrix3 and ANTs.

    python benchmarks/imaging_steps.py [--streamlines 20000] [--slow] [--quick] [--out FOLDER] [--only SECTION ...]

Most lines also print the accuracy of each engine against the known truth, in the order of the columns. Heads move by 1
mm and 1 degree along each axis between volumes; a smooth bias field is added for the line of its correction; a template
is registered to a head of other position and size, and judged by the mean Dice of its labels. The column of an engine
without such a step is empty. MRtrix3 is called by its commands, ANTs through antspyx. `--slow` adds dipy's affine and
motion correction, ANTs' motion correction and MRtrix3's gradient check (many minutes). One thread, except for the
section `participant`: the whole command on one raw scan with two threads, its CPU time, wall clock and memory.

With `--out`, a section that ended is not computed again by the same version of the imaging code; `preprocessing`
comes before `reconstruction`. `--quick` takes a small phantom and asks for no times: it shows that all sections run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import numpy as np

import connectome_tl
from connectome_tl.connectome.assemble import RegionTable, assemble
from connectome_tl.imaging.preprocess.denoising import denoised, without_bias, without_ringing
from connectome_tl.imaging.preprocess.gradient_check import lengths_of_tables
from connectome_tl.imaging.preprocess.motion import residual_mm, without_motion
from connectome_tl.imaging.preprocess.structural import brain_mask, dwi_mask
from connectome_tl.imaging.preprocess.tissues import segment_tissues
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import Volume, read_labels, read_volume, write_volume
from connectome_tl.imaging.register import ants as antspyx
from connectome_tl.imaging.register.registration import register, register_affine
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.imaging.track.free_water import fit_free_water
from connectome_tl.imaging.track.reconstruction import deconvolve, estimate_response
from connectome_tl.imaging.track.sampling import reduce_streamlines
from connectome_tl.imaging.track.streamlines import read_blocks, write_tck
from connectome_tl.imaging.track.tensor import fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.imaging.track.tractography import track
from connectome_tl.provenance import content_hash, file_hash, write_json
from connectome_tl.settings.imaging import ReconstructionSettings, RegistrationSettings, TrackingSettings
from connectome_tl.simulation.phantom import (
    Head,
    PhantomSettings,
    make_anatomy,
    make_head,
    random_poses,
    template_labels,
)
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
QUICK = PhantomSettings(
    n_regions=6,
    n_edges=5,
    half_axes=(20.0, 24.0, 18.0),
    voxel=3.0,
    anatomical_voxel=2.5,
    region_radius=6.0,
    shells=((0.0, 2), (700.0, 10), (1400.0, 12), (2600.0, 12)),
    seed=7,
)
SECTIONS = ("preprocessing", "reconstruction", "registration", "participant")
CONFIG = """\
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
template:
  image: template/tpl-Phantom_T2w.nii.gz
  labels: template/tpl-Phantom_atlas-Phantom_dseg.nii.gz
  mask: template/tpl-Phantom_desc-brain_mask.nii.gz
reconstruction: {{response_voxels: {voxels}}}
tracking: {{n_streamlines: {streamlines}}}
"""
AFFINE_S, MOTION_S, PARTICIPANT_MIN = 30.0, 90.0, 6.0
verdicts: dict[str, bool] = {}
lines: list[str] = []  # of the present section


def cpu(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def mrtrix(*command: object) -> float | None:
    """CPU seconds of a command of MRtrix3; None where it is not installed."""
    if shutil.which(str(command[0])) is None:
        return None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [*(str(word) for word in command), "-quiet", "-force", "-nthreads", "0"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def with_ants(work: Callable[[Any], T]) -> tuple[T | None, float | None]:
    if find_spec("ants") is None:
        return None, None
    ants = antspyx._ants()
    return cpu(lambda: work(ants))


def row(step: str, ours: float | None, theirs: float | None = None, ants: float | None = None, told: str = "") -> None:
    cells = "".join(f"{'' if seconds is None else f'{seconds:.2f}':>9s}" for seconds in (ours, theirs, ants))
    say(f"{step:30s}{cells}  {told}".rstrip())


def say(line: str) -> None:
    lines.append(line)
    print(line, flush=True)


def section(name: str, folder: Path, key: str, work: Callable[[], None]) -> None:
    """Compute a section, or print it from the folder if it ended there with the same key."""
    file = folder / f"{name}.json"
    stored = json.loads(file.read_text()) if file.is_file() else {}
    if stored.get("key") == key:
        print("\n".join(stored["lines"]), flush=True)
        verdicts.update(stored["verdicts"])
        return
    lines.clear()
    known, before = set(verdicts), cpu_seconds()
    work()
    say(f"  {name}: {cpu_seconds() - before:.0f} CPU seconds in all")
    own = {what: true for what, true in verdicts.items() if what not in known}
    write_json(file, {"key": key, "lines": lines, "verdicts": own})


def cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def scores(kind: str, *values: float | None) -> str:
    return f"{kind} " + ", ".join(f"{value:.3f}" for value in values if value is not None)


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    numbers = np.unique(truth[truth > 0])
    both = [((found == n) & (truth == n)).sum() * 2 / max((found == n).sum() + (truth == n).sum(), 1) for n in numbers]
    return float(np.mean(both))


def preprocessing(head: Head, clean: np.ndarray, poses: np.ndarray, folder: Path, size: float, *, slow: bool) -> None:
    """Mask, noise, ringing, motion, bias. Writes the data for reconstruction."""
    raw = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
    image, mask = folder / "dwi.nii", folder / "mask.nii"
    brain, seconds = cpu(lambda: dwi_mask(raw))
    rival = mrtrix("dwi2mask", image, folder / "m.nii", "-grad", folder / "grad.b")
    other = dice(read_volume(folder / "m.nii").data > 0, head.mask) if rival else None
    row("brain mask", seconds, rival, told=scores("Dice", dice(brain, head.mask), other))

    def left(data: np.ndarray) -> float:
        return float(np.sqrt(np.square(data - clean)[head.mask].mean() / np.square(head.dwi - clean)[head.mask].mean()))

    dwi, seconds = cpu(lambda: denoised(raw, "mppca"))
    rival = mrtrix("dwidenoise", image, folder / "d.nii", "-mask", mask)
    other = left(read_volume(folder / "d.nii", n_dimensions=(4,)).data) if rival else None
    row("noise, MP-PCA", seconds, rival, told=scores("error left, fraction of the raw error", left(dwi.data), other))
    alternative, seconds = cpu(lambda: denoised(raw, "patch2self"))
    row("noise, Patch2Self (option)", seconds, told=scores("error left", left(alternative.data)))
    _, seconds = cpu(lambda: without_ringing(dwi))
    row("Gibbs (option)", seconds, mrtrix("mrdegibbs", image, folder / "g.nii"))

    def off(found: np.ndarray) -> float:
        return float(residual_mm(found, poses, head.mask, head.affine).mean())

    noisy, before = dwi, off(np.tile(np.eye(4), (raw.n_volumes, 1, 1)))
    (dwi, motion), seconds = cpu(lambda: without_motion(noisy))
    row("motion, rigid", seconds, told=f"{off(motion.poses):.2f} mm left of {before:.2f}; voxels of {size:g}")
    verdicts[f"motion under {MOTION_S:.0f} s"] = seconds < MOTION_S
    verdicts["motion leaves less than half a voxel"] = off(motion.poses) < size / 2
    if slow:
        from dipy.align import motion_correction
        from dipy.core.gradients import gradient_table

        table = gradient_table(raw.bvals, bvecs=raw.voxel_directions, b0_threshold=50)
        (_, found), seconds = cpu(lambda: motion_correction(noisy.data, table, affine=noisy.affine))
        row("  as dipy comes", seconds, told=f"{off(np.moveaxis(found, 2, 0)):.2f} mm left")
        rest = Volume(noisy.data[..., noisy.is_b0].mean(axis=3), noisy.affine)

        def rigid(ants: Any) -> np.ndarray:
            fixed, moved = antspyx._image(ants, rest), []
            for k in range(noisy.n_volumes):
                volume = antspyx._image(ants, Volume(noisy.data[..., k], noisy.affine))
                files = ants.registration(fixed, volume, type_of_transform="Rigid")["fwdtransforms"]
                moved.append(antspyx._affine(ants, files))
            return np.stack(moved)

        there, ants_seconds = with_ants(rigid)
        if there is not None:
            row("  each volume to the mean b0", None, None, ants_seconds, f"{off(there):.2f} mm left")
    bias(raw, head)
    np.savez(folder / "ready.npz", data=dwi.data, directions=dwi.directions)


def bias(raw: Dwi, head: Head) -> None:
    """Multiply by a smooth field of +-20 %; print the remaining field as the spread of the log ratio in the brain."""
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in head.mask.shape), indexing="ij"))
    field = 1 + 0.2 * place[0] - 0.1 * place[1] * place[2] + 0.1 * place[2] ** 2
    rough = replace(raw, data=(raw.data * field[..., None]).astype(np.float32))
    b0, truth = (d.data[..., raw.is_b0].mean(axis=3) for d in (rough, raw))

    def uneven(found: np.ndarray) -> float:
        return float(np.std(np.log(np.maximum(found / np.maximum(truth, 1e-6), 1e-6)[head.mask])))

    flat, seconds = cpu(lambda: without_bias(rough))

    def n4(ants: Any) -> np.ndarray:
        brain = antspyx._image(ants, Volume(head.mask.astype(np.float32), head.affine))
        found = ants.n4_bias_field_correction(antspyx._image(ants, Volume(b0, head.affine)), mask=brain)
        return np.asarray(found.numpy())

    found, ants_seconds = with_ants(n4)
    after = uneven(flat.data[..., raw.is_b0].mean(axis=3))
    told = scores(f"of {uneven(b0):.3f} left", after, None if found is None else uneven(found))
    row("bias field (option)", seconds, None, ants_seconds, told)


def reconstruction(head: Head, folder: Path, recon: ReconstructionSettings, n_streamlines: int, *, slow: bool) -> None:
    """Tensor to connectome."""
    with np.load(folder / "ready.npz") as ready:
        dwi = Dwi(ready["data"], head.affine, head.bvals, ready["directions"], head.mask)
    image, mask = write_volume(folder / "ready.nii", dwi.data, dwi.affine), folder / "mask.nii"
    np.savetxt(folder / "ready.b", np.column_stack([dwi.directions, dwi.bvals]))
    grad = ("-grad", folder / "ready.b")
    tracking = TrackingSettings(n_streamlines=n_streamlines)
    used = tensor_volumes(dwi, max_b=recon.tensor_max_b)
    low = write_volume(folder / "low.nii", dwi.data[..., used], dwi.affine)
    np.savetxt(folder / "low.b", np.column_stack([dwi.directions, dwi.bvals])[used])
    tensor, seconds = cpu(lambda: fit_tensor(dwi, used))
    rival = mrtrix("dwi2tensor", low, folder / "t.nii", "-grad", folder / "low.b", "-mask", mask)
    maps, told = tensor_maps(dwi, tensor), ""
    if rival:
        mrtrix("tensor2metric", folder / "t.nii", "-fa", folder / "fa.nii", "-mask", mask)
        there = read_volume(folder / "fa.nii").data
        seen = head.mask & np.isfinite(there)
        told = f"median difference of FA {np.median(np.abs(there - maps.fa)[seen]):.1e}"
    row("tensor", seconds, rival, told=told)
    _, seconds = cpu(lambda: fit_free_water(dwi, max_b=recon.tensor_max_b))
    row("free water (option)", seconds)
    _, seconds = cpu(lambda: lengths_of_tables(dwi, maps))
    row("gradient table check", seconds, mrtrix("dwigradcheck", image, *grad, "-mask", mask) if slow else None)
    response, seconds = cpu(lambda: estimate_response(dwi, maps, recon))
    outputs = [folder / f"{tissue}.txt" for tissue in ("sfwm", "gm", "csf")]
    row("response", seconds, mrtrix("dwi2response", "dhollander", image, *outputs, *grad, "-mask", mask))
    np.savetxt(folder / "wm.txt", response.fibre)
    assert response.fluid is not None
    np.savetxt(folder / "csf.txt", response.fluid[:, None])
    fod, tracks = folder / "fod.nii", folder / "t.tck"
    densities, seconds = cpu(lambda: deconvolve(dwi, response, recon))
    tissues = (folder / "wm.txt", fod, folder / "csf.txt", folder / "csf.nii")
    row("deconvolution, two tissues", seconds, mrtrix("dwi2fod", "msmt_csd", image, *tissues, *grad, "-mask", mask))
    write_volume(fod, densities.coefficients, dwi.affine)
    found, seconds = cpu(lambda: track(densities, dwi.mask, tracking).streamlines)
    seeds = ("-seed_image", mask, "-mask", mask, "-cutoff", tracking.fod_cutoff, "-select", n_streamlines)
    rival = mrtrix("tckgen", fod, tracks, *seeds, "-minlength", 10, "-maxlength", 150)
    row(f"tracking, {n_streamlines:,}", seconds, rival, told="found and false: benchmarks/tracking.py")
    write_tck(tracks, found)
    row("weights (SIFT2; option)", None, mrtrix("tcksift2", tracks, fod, folder / "w.txt"))
    parcels = write_volume(folder / "parcels.nii", head.labels.astype(np.int32), head.affine)
    labels = read_labels(parcels)
    names = RegionTable(*zip(*[(str(n), int(n)) for n in np.unique(head.labels) if n > 0], strict=True))
    made, seconds = cpu(lambda: assemble(reduce_streamlines(read_blocks(tracks)), labels, names))
    rival = mrtrix("tck2connectome", tracks, parcels, folder / "c.csv", "-symmetric", "-zero_diagonal")
    told = ""
    if rival:
        same = (np.loadtxt(folder / "c.csv", delimiter=",") == made.connectome.weights[0]).all()
        told = "equal counts" if same else "DIFFERENT COUNTS"
        verdicts["counts equal tck2connectome's"] = bool(same)
    row("assembly, reading included", seconds, rival, told=told)


def registrations(folder: Path, size: PhantomSettings, *, slow: bool) -> None:
    anatomy = make_anatomy(size)
    template, head = make_head(anatomy, still=True), make_head(anatomy, seed=1)
    _, atlas = template_labels(anatomy)
    fixed, moving = Volume(head.t2w, head.t2w_affine), Volume(template.t2w, template.t2w_affine)
    labels, grid = Volume(atlas.astype(np.int32), template.t2w_affine), Volume(head.fibre, head.affine)
    a, b = (write_volume(folder / f"{k}.nii", v.data, v.affine) for k, v in (("fixed", fixed), ("moving", moving)))
    parcels = write_volume(folder / "atlas.nii", labels.data, labels.affine)
    target = write_volume(folder / "grid.nii", grid.data, grid.affine)
    settings = RegistrationSettings()
    brain, seconds = cpu(lambda: brain_mask(fixed))
    row("brain mask, T2w", seconds, None, with_ants(lambda ants: ants.get_mask(antspyx._image(ants, fixed)))[1])

    def atropos(ants: Any) -> object:
        inside = antspyx._image(ants, Volume(brain.astype(np.float32), fixed.affine))
        return ants.atropos(a=antspyx._image(ants, fixed), x=inside, i="kmeans[3]", m="[0.1,1x1x1]")

    _, seconds = cpu(lambda: segment_tissues(fixed, brain, "T2w"))
    row("tissues, T2w (option)", seconds, None, with_ants(atropos)[1])

    def overlap(warp: Warp | None) -> float | None:
        return None if warp is None else dice(carry_labels(warp, labels, grid).data, head.labels)

    def carried(*how: object) -> float:
        mrtrix("mrtransform", parcels, *how, "-template", target, "-interp", "nearest", folder / "carried.nii")
        return dice(read_volume(folder / "carried.nii").data, head.labels)

    def of_ants(kind: str) -> Callable[[Any], Warp]:
        def work(ants: Any) -> Warp:
            f, m = antspyx._image(ants, fixed), antspyx._image(ants, moving)
            return Warp(antspyx._affine(ants, ants.registration(f, m, type_of_transform=kind)["fwdtransforms"]))

        return work

    say(f"{'':59s}mean Dice of the labels, {overlap(Warp(np.eye(4))):.3f} untouched:")
    for kind in ("rigid", "affine"):
        ours, seconds = cpu(partial(register_affine, fixed, moving, settings, rigid=kind == "rigid"))
        rival = mrtrix("mrregister", b, a, "-type", kind, f"-{kind}", folder / "linear.txt")
        theirs = carried("-linear", folder / "linear.txt") if rival else None
        ants, ants_seconds = with_ants(of_ants(kind.capitalize()))
        row(f"{kind} registration", seconds, rival, ants_seconds, scores("Dice", overlap(ours), theirs, overlap(ants)))
    verdicts[f"affine under {AFFINE_S:.0f} s"] = seconds < AFFINE_S
    bent, seconds = cpu(lambda: register(fixed, moving, settings, engine="dipy"))
    warp = folder / "warp.mif"
    rival = mrtrix("mrregister", b, a, "-type", "affine_nonlinear", "-nl_warp_full", warp)
    theirs = carried("-warp_full", warp, "-from", 1) if rival else None
    ants, ants_seconds = with_ants(lambda _: register(fixed, moving, settings, engine="ants"))
    told = scores("Dice", overlap(bent), theirs, overlap(ants))
    row("affine and SyN", seconds, rival, ants_seconds, told)
    if slow:
        from dipy.align import affine_registration

        where = {"moving_affine": moving.affine, "static_affine": fixed.affine}
        (_, matrix), seconds = cpu(lambda: affine_registration(moving.data, fixed.data, **where))
        row("  dipy's affine by default", seconds, told=scores("Dice", overlap(Warp(matrix))))


def participant(folder: Path, size: PhantomSettings, n_streamlines: int, voxels: int) -> None:
    """CPU minutes, minutes of wall clock and peak GiB of the whole command on one raw scan."""
    root = write_phantom(folder / "bids", n_subjects=1, n_sessions=1, settings=size)
    (root / "config.yaml").write_text(CONFIG.format(streamlines=n_streamlines, voxels=voxels))
    shutil.rmtree(folder / "out", ignore_errors=True)  # of a run that was killed
    command = [str(Path(sys.executable).with_name("connectome-tl")), "connectomes", str(root), str(folder / "out")]
    start, before = time.perf_counter(), cpu_seconds()
    words = [sys.executable, *command, "participant", "--config", str(root / "config.yaml"), "--n-cpus", "2"]
    subprocess.run(words, check=True)
    minutes, worked = (time.perf_counter() - start) / 60, (cpu_seconds() - before) / 60
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    say(
        f"whole participant, {n_streamlines:,} streamlines, registered template: {worked:.1f} CPU min, "
        f"{minutes:.1f} min of wall clock, {gigabytes:.1f} GiB at most"
    )
    verdicts[f"whole participant under {PARTICIPANT_MIN:.0f} CPU min"] = worked < PARTICIPANT_MIN


def key_of(options: argparse.Namespace) -> str:
    """Hash of the options and of the imaging code."""
    package = Path(connectome_tl.__file__).parent
    code = sorted([*(package / "imaging").rglob("*.py"), *(package / "simulation").glob("*.py"), Path(__file__)])
    return content_hash(options.streamlines, options.slow, options.quick, [file_hash(file) for file in code])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streamlines", type=int, default=20_000)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    options = parser.parse_args()
    size, many, voxels = (QUICK, 500, 60) if options.quick else (SIZE, 100_000, 300)
    n_streamlines = min(options.streamlines, many)
    recon = ReconstructionSettings(response_voxels=voxels)
    poses = random_poses(sum(count for _, count in size.shells), 1.0, seed=1)
    head = make_head(make_anatomy(size), seed=1, poses=poses)
    key = key_of(options)
    with tempfile.TemporaryDirectory() as name:
        folder = options.out or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        write_volume(folder / "dwi.nii", head.dwi, head.affine)
        write_volume(folder / "mask.nii", head.mask, head.affine)
        np.savetxt(folder / "grad.b", np.column_stack([head.directions, head.bvals]))
        print(f"{' x '.join(map(str, head.dwi.shape))}, {int(head.mask.sum())} voxels in the brain; one thread, CPU s")
        print(f"{'step':30s}{'ours':>9s}{'MRtrix3':>9s}{'ANTs':>9s}", flush=True)

        def prepared() -> None:
            clean = make_head(make_anatomy(replace(size, snr=1e6)), seed=1, poses=poses).dwi
            preprocessing(head, clean, poses, folder, size.voxel, slow=options.slow)

        work: dict[str, Callable[[], None]] = {
            "preprocessing": prepared,
            "reconstruction": lambda: reconstruction(head, folder, recon, n_streamlines, slow=options.slow),
            "registration": lambda: registrations(folder, size, slow=options.slow),
            "participant": lambda: participant(folder, size, many, voxels),
        }
        for part in SECTIONS:
            if part in options.only:
                section(part, folder, key, work[part])
    for what, true in verdicts.items():
        print(f"{'yes' if true else 'NO '}  {what}")
    asked = [true for what, true in verdicts.items() if not options.quick or "under" not in what]
    sys.exit(0 if all(asked) else 1)


if __name__ == "__main__":
    main()
