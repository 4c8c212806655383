"""An atlas carried by a registration in another contrast: mean Dice before and after, CPU seconds, dipy beside ANTs.

    python benchmarks/registration.py [--pairs 3] [--first 0] [--phantom] [--engine dipy|ants]

The fixed image is the neonatal T2w template, bent by a known smooth warp (a turn, a stretch and waves, 5 to 9 mm on
average over the brain) with noise of 5 % of its mean; the moving one is the T1w template, then the T2w template with
its contrast inverted. Labels are those of M-CRIB and of the UNC-AAL atlas, laid into the template by the outlines
alone; the same warp moves them, so truth is known. The method was chosen on warps of seeds 100 and 101; those
of 0 and 900 were run in between, and nothing was chosen on them; other seeds are new.
Needs the folders infant_templates and neonatal_atlases in CONNECTOME_TL_DATA (or ../shared/data); where they are
absent the phantom's heads take their place (same and inverted contrast). ANTs is left out without antspyx.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.ndimage import gaussian_filter

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, read_labels, read_volume
from connectome_tl.imaging.register.contrast import likeness
from connectome_tl.imaging.register.gate import check
from connectome_tl.imaging.register.registration import coarse, register
from connectome_tl.imaging.register.warps import Warp, carry_image, carry_labels
from connectome_tl.settings.imaging import RegistrationSettings
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head

ROOT = Path(__file__).parents[1]
Pair = tuple[str, Volume, Volume, dict[str, tuple[Volume, np.ndarray]]]  # name, fixed, moving, labels and their truth


def mean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    numbers = np.unique(truth[truth > 0])
    both = np.bincount(found[found == truth], minlength=numbers.max() + 1)[numbers]
    one, two = (np.bincount(image.ravel(), minlength=numbers.max() + 1)[numbers] for image in (found, truth))
    return float(np.mean(2 * both / (one + two)))


def bend(image: Volume, seed: int) -> Warp:
    """A turn of some degrees, a stretch of some percent, and smooth waves."""
    rng = np.random.default_rng(seed)
    brain = image.data > 0
    points = (
        np.stack(np.meshgrid(*(np.arange(n) for n in image.shape), indexing="ij"), axis=-1) @ image.affine[:3, :3].T
    )
    points += image.affine[:3, 3]
    middle = points[brain].mean(axis=0)
    angles = np.deg2rad(rng.uniform(-6, 6, 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    linear = turn @ np.diag(rng.uniform(0.94, 1.06, 3))
    waves = np.stack(
        [gaussian_filter(rng.normal(size=image.shape), 18.0 / image.zooms, mode="nearest") for _ in range(3)], axis=-1
    )
    waves *= 4.0 / np.linalg.norm(waves, axis=-1)[brain].mean()
    moved = (points - middle) @ linear.T + middle + rng.uniform(-4, 4, 3) + waves
    return Warp(np.eye(4), moved, image.affine)


def laid_into(labels: Volume, image: Volume) -> Volume:
    """Labels stretched along the axes until their outline is the brain's; where regions lie matters little here."""
    ends = []
    for volume in (labels, image):
        at = np.argwhere(volume.data > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        ends.append((at.mean(axis=0), at.std(axis=0)))
    (here, spread), (there, wide) = ends
    scale = spread / wide
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.diag(scale), here - scale * there
    carried = carry_labels(Warp(affine), labels, image)
    return Volume(np.where(image.data > 0, carried.data, 0), image.affine)


def newborn_pairs(data: Path, first: int, n: int) -> Iterator[Pair]:
    t1, t2 = (
        coarse(read_volume(data / f"infant_templates/tpl-UNCBCP4DInfant_cohort-00_desc-brain_{c}.nii.gz"), 1.2)
        for c in ("T1w", "T2w")
    )
    t1, t2 = (Volume(np.where(image.data > 5, image.data, 0), image.affine) for image in (t1, t2))
    atlases = {
        name: laid_into(read_labels(data / "neonatal_atlases" / file), t1)
        for name, file in (("mcrib", "MCRIB_in_dHCPext.nii.gz"), ("unc_aal", "AAL_UNCneo_in_extdhcp40wk.nii.gz"))
    }
    for seed in range(first, first + n):
        warp = bend(t2, seed)
        clean = carry_image(warp, t2, t2)
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 0.05 * clean.data[clean.data > 0].mean(), clean.shape)
        brain = clean.data > 5
        fixed = Volume(np.where(brain, clean.data + noise, 0).astype(np.float32), t2.affine)
        points = np.argwhere(brain) @ t2.affine[:3, :3].T + t2.affine[:3, 3]
        far = np.linalg.norm(warp.places[brain] - points, axis=1).mean()  # type: ignore[index]
        truth = {name: (atlas, carry_labels(warp, atlas, fixed).data) for name, atlas in atlases.items()}
        yield f"T1w to T2w, {far:.1f} mm", fixed, t1, truth
        inverted = Volume(np.where(t2.data > 0, 250 - t2.data, 0), t2.affine)
        yield f"inverted T2w, {far:.1f} mm", fixed, inverted, truth


def phantom_pairs(first: int, n: int) -> Iterator[Pair]:
    anatomy = make_anatomy(PhantomSettings(voxel=2.0, anatomical_voxel=2.0))
    template = make_head(anatomy, still=True)
    labels = Volume(template.labels.astype(np.int32), template.affine)
    for seed in range(first, first + n):
        head = make_head(anatomy, seed=seed + 1)
        for name in ("same", "inverted"):
            image = np.where(head.mask, head.t2w if name == "same" else 1400 - head.t2w, 0)
            fixed = Volume(image.astype(np.float32), head.t2w_affine)
            yield (
                f"phantom, {name}",
                fixed,
                Volume(template.t2w, template.t2w_affine),
                {"phantom": (labels, head.labels.astype(np.int32))},
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="seed of the first warp")
    parser.add_argument("--phantom", action="store_true", help="the phantom's heads, whether or not there are data")
    parser.add_argument("--engine", choices=["dipy", "ants"])
    options = parser.parse_args()
    engines = [engine for engine in ("dipy", "ants") if options.engine in (None, engine)]
    if find_spec("ants") is None:
        engines = [engine for engine in engines if engine != "ants"]
        print("without ANTs: antspyx is not installed")
    data = Path(os.environ.get("CONNECTOME_TL_DATA", ROOT.parent / "shared" / "data"))
    known = not options.phantom and (data / "infant_templates").is_dir() and (data / "neonatal_atlases").is_dir()
    pairs = newborn_pairs(data, options.first, options.pairs) if known else phantom_pairs(options.first, options.pairs)
    print(f"{'pair':24s}{'atlas':10s}{'engine':8s}{'before':>8s}{'after':>8s}{'CPU s':>8s}{'alike':>8s}  gate")
    for name, fixed, moving, atlases in pairs:
        for engine in engines:
            settings = RegistrationSettings.model_validate({"engine": engine})
            start = time.process_time()
            warp = register(fixed, moving, settings)
            seconds = time.process_time() - start
            alike = likeness(fixed, carry_image(warp, moving, fixed))
            covered = carry_labels(warp, Volume((moving.data > 0).astype(np.int32), moving.affine), fixed).data > 0
            for atlas, (labels, truth) in atlases.items():
                carried = carry_labels(warp, labels, fixed)
                before = mean_dice(carry_labels(Warp(np.eye(4)), labels, fixed).data, truth)
                try:
                    gate = check(carried, labels, fixed.data > 0, covered, settings, alike)
                    said = f"passed: masks {gate.mask_dice:.2f}, worst share x{gate.worst_volume_ratio:.1f}"
                except DataError as error:
                    said = f"stopped: {error.problems[0].what}"
                after = mean_dice(carried.data, truth)
                row = f"{name:24s}{atlas:10s}{engine:8s}{before:8.2f}{after:8.2f}{seconds:8.1f}{alike:8.2f}  {said}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
