"""The gate of a registration: rates of refused wrong and accepted correct registrations.

    python benchmarks/gate.py [--bad 300] [--good 150] [--seed 1000] [--whole 80] [--kinds KIND ...]
                              [--metric auto] [--state gate.jsonl] [--quick]

First part: alignments by known transforms, judged by similarity and size alone, as in the gate. Bad: rotations by 90
and 180 degrees, mirror images, other ages, wrong shifts, crops stretched to a whole brain, noise, smooth texture, an
organ other than the brain; the Dice of the labels is printed for each. Good: the correct transform under bias fields
of up to 9, thick slices, crops, noise and small errors. Second part (--whole): the whole step, from image to gate, on
heads in normal position, some with a bias field, rotated heads (one that was rotated back is judged by its Dice),
mirrored heads, other ages (4 to 9 weeks apart), and texture in the shape of a brain; with --kinds "left turned",
rotated heads whose orientation is not searched. --metric is that of ANTs.
The limits were chosen on seeds 0 to 99; the default seeds are new. With --state a stopped benchmark resumes. Real
heads of CONNECTOME_TL_DATA are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from anatomies import Head, adult, bend, bent, bias_field, fetus, mean_dice, newborn, places_of
from scipy.ndimage import gaussian_filter

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.gate import check
from connectome_tl.imaging.register.likeness import local_likeness
from connectome_tl.imaging.register.orientation import all_turns, turned_about
from connectome_tl.imaging.register.registration import side_mm
from connectome_tl.imaging.register.template_fit import fit_template
from connectome_tl.imaging.register.warps import Warp, carry_image, carry_labels
from connectome_tl.settings.imaging import RegistrationSettings

SETTINGS = RegistrationSettings()
BAD = ("turn", "mirror", "age", "shift", "crop", "noise", "texture", "organ")
GOOD = ("bias", "slices", "crop", "noise", "small error")
WHOLE = ("right", "mirrored", "biased", "other age", "turned", "texture")  # every second one should pass
YOUNG_OLD = ((23, 30), (24, 30), (22, 31), (24, 32), (21, 29))


def any_head(rng: np.random.Generator) -> Head:
    """An adult, a newborn or a fetus."""
    kind = int(rng.integers(0, 3))
    if kind == 0:
        return adult(int(rng.integers(0, 10)))
    return newborn("T2w") if kind == 1 else fetus(int(rng.integers(23, 35)))


def about(head: Head, matrix: np.ndarray, shift: np.ndarray | float = 0.0) -> Warp:
    """A linear map in mm about the centre of a brain."""
    affine = turned_about(np.eye(3), head.image)
    middle = places_of(head.image)[head.image.data > 0].mean(axis=0)
    affine[:3, :3] = matrix
    affine[:3, 3] = middle - matrix @ middle + shift
    return Warp(affine)


def filled(head: Head, values: np.ndarray) -> Volume:
    """Other intensities in the shape of a brain."""
    return Volume(np.where(head.image.data > 0, values, 0).astype(np.float32), head.image.affine)


def smooth_noise(shape: tuple[int, ...], rng: np.random.Generator, voxels: float) -> np.ndarray:
    noise = gaussian_filter(rng.normal(size=shape), voxels)
    return np.asarray(500 + 100 * noise / noise.std())


def organ(head: Head, rng: np.random.Generator) -> np.ndarray:
    """Bright ducts in a homogeneous mass, as in a liver or a kidney."""
    ducts = np.abs(gaussian_filter(rng.normal(size=head.image.shape), 3.0))
    return np.asarray(400 + 500 * (ducts < np.quantile(ducts, 0.08)) + rng.normal(0, 15, head.image.shape))


def bad_case(kind: str, rng: np.random.Generator) -> tuple[Volume, Volume, float, float]:
    """Subject's image, transformed template, Dice of labels, size ratio."""
    head = any_head(rng)
    subject = bent(head, int(rng.integers(1 << 30)), noise=0.03)
    identity = Warp(np.eye(4))
    if kind in ("noise", "texture", "organ"):
        shape = head.image.shape
        made = {"noise": rng.normal(500, 120, shape), "texture": smooth_noise(shape, rng, rng.uniform(1.0, 3.0))}
        values = made[kind] if kind in made else organ(head, rng)
        return filled(subject, np.maximum(values, 1)), carry_image(identity, head.image, subject.image), 0.0, 1.0
    template, size = head, 1.0
    if kind == "age":
        young, old = (fetus(week) for week in YOUNG_OLD[int(rng.integers(0, len(YOUNG_OLD)))])
        subject, template = (young, old) if rng.random() < 0.5 else (old, young)
        grown = side_mm(template.image) / side_mm(subject.image)
        size = grown**-3
        warp = about(subject, np.eye(3) * grown)
        middles = [places_of(h.image)[h.image.data > 0].mean(axis=0) for h in (subject, template)]
        warp.affine[:3, 3] += middles[1] - middles[0]
    elif kind == "turn":
        warp = about(head, all_turns()[int(rng.integers(1, 24))])
    elif kind == "mirror":
        warp = about(head, np.diag([-1.0, 1, 1]))
    elif kind == "shift":
        direction = rng.normal(size=3)
        warp = about(
            head, np.eye(3), direction / np.linalg.norm(direction) * rng.uniform(0.15, 0.3) * side_mm(head.image)
        )
    else:  # a cropped brain scaled to the whole template
        stretch = np.eye(3)
        stretch[2, 2] = rng.uniform(1.4, 2.0)
        warp = about(head, stretch)
        size = float(1 / np.linalg.det(stretch))
    dice = mean_dice(carry_labels(warp, template.labels, subject.labels).data, subject.labels.data)
    return subject.image, carry_image(warp, template.image, subject.image), dice, size


def good_case(kind: str, rng: np.random.Generator) -> tuple[Volume, Volume, float, float]:
    head = any_head(rng)
    seed = int(rng.integers(1 << 30))
    warp = bend(head.image, seed)
    noise = {"noise": rng.uniform(0.05, 0.12)}.get(kind, 0.05)
    subject = bent(head, seed, noise=noise)
    image = subject.image.data
    if kind == "bias":
        image = image * bias_field(subject.image, seed, rng.uniform(2, 9))
    elif kind == "crop":
        axis, share = int(rng.integers(0, 3)), rng.uniform(0.05, 0.3)
        rank = np.argsort(np.argsort(places_of(subject.image)[..., axis][image > 0])) / (image > 0).sum()
        cut = np.zeros(image.shape)
        cut[image > 0] = rank
        image = np.where(cut > share, image, 0)
    found = Volume(image.astype(np.float32), subject.image.affine)
    labels = subject.labels
    if kind == "slices":  # thick along one axis: every second or third slice, each the mean of the slices it replaces
        n, axis = int(rng.integers(2, 4)), int(rng.integers(0, 3))
        step = [n if k == axis else 1 for k in range(3)]
        mean = np.mean([np.roll(image, -k, axis=axis) for k in range(n)], axis=0)
        every = tuple(slice(None, None, k) for k in step)
        affine = subject.image.affine @ np.diag([*step, 1.0])
        affine[:3, 3] += subject.image.affine[:3, axis] * (n - 1) / 2
        found = Volume(np.where(image[every] > 0, mean[every], 0).astype(np.float32), affine)
        labels = carry_labels(Warp(np.eye(4)), subject.labels, found)
    if kind == "small error":
        off = rng.normal(size=3)
        off *= 0.5 * subject.image.zooms.mean() / np.linalg.norm(off)
        assert warp.places is not None
        warp = Warp(warp.affine, warp.places + off, warp.grid)
    dice = mean_dice(carry_labels(warp, head.labels, labels).data, labels.data)
    return found, carry_image(warp, head.image, found), dice, 1.0


def aligned(kind: str, good: bool, seed: int) -> dict[str, object]:
    rng = np.random.default_rng([seed, good])
    start = time.process_time()
    fixed, carried, dice, size = (good_case if good else bad_case)(kind, rng)
    made = time.process_time()
    alike = local_likeness(fixed, carried)
    seconds = time.process_time() - made
    stopped = alike < SETTINGS.min_likeness or max(size, 1 / size) > SETTINGS.max_size_ratio
    return {
        "part": "good" if good else "bad", "kind": kind, "seed": seed, "dice": round(dice, 3),
        "likeness": round(alike, 4), "stopped": bool(stopped), "cpu_s": round(seconds, 3),
        "made_s": round(made - start, 2),
    }  # fmt: skip


def whole(kind: str, seed: int, settings: RegistrationSettings) -> dict[str, object]:
    """From image to gate."""
    rng = np.random.default_rng([seed, 2])
    weeks = int(rng.integers(23, 34))
    template = fetus(weeks)
    subject = bent(template, seed) if rng.random() < 0.5 else fetus(weeks + 1)
    if kind in ("turned", "left turned"):
        turn = turned_about(all_turns()[int(rng.integers(1, 24))], subject.image)
        subject = _under(subject, turn @ subject.image.affine)
        if kind == "left turned":
            settings = settings.model_copy(update={"orientation": "header"})
    elif kind == "biased":
        image = subject.image.data * bias_field(subject.image, seed, rng.uniform(2, 9))
        subject = Head(subject.name, Volume(image.astype(np.float32), subject.image.affine), subject.labels)
    elif kind == "mirrored":
        mirror = turned_about(np.diag([-1.0, 1, 1]), subject.image)
        subject = _under(subject, mirror @ subject.image.affine)
    elif kind == "other age":
        young = int(rng.integers(21, 29))
        ages = (young, min(young + int(rng.integers(4, 10)), 34))
        subject, template = (fetus(week) for week in ages[:: 1 if rng.random() < 0.5 else -1])
    elif kind == "texture":
        values = smooth_noise(subject.image.shape, rng, 1.5)
        subject = Head("texture", filled(subject, values), subject.labels)
    start, dice, said, alike, was_turned = time.process_time(), 0.0, "", 0.0, False
    try:
        fit = fit_template(subject.image, template.image, settings, contrasts=("T2w", "T2w"))
        alike, was_turned = fit.likeness, bool(fit.warnings())
        carried = carry_labels(fit.warp, template.labels, subject.image)
        dice = 0.0 if kind == "texture" else mean_dice(carried.data, subject.labels.data)
        brain = carry_labels(
            fit.warp, Volume((template.image.data > 0).astype(np.int32), template.image.affine), carried
        )
        check(carried, template.labels, subject.image.data > 0, brain.data > 0, settings, fit)
    except DataError as error:
        said = "; ".join(problem.what for problem in error.problems)
    return {
        "part": "whole", "kind": kind, "seed": seed, "dice": round(dice, 3), "likeness": round(alike, 4),
        "stopped": bool(said), "cpu_s": round(time.process_time() - start, 1), "said": said, "turned": was_turned,
    }  # fmt: skip


def _under(head: Head, affine: np.ndarray) -> Head:
    """The same voxels with another header."""
    return Head(head.name, Volume(head.image.data, affine), Volume(head.labels.data, affine))


def report(rows: pd.DataFrame) -> None:
    print(f"limits: likeness {SETTINGS.min_likeness}, size {SETTINGS.max_size_ratio:g} times")
    print(f"{'':8s}{'kind':14s}{'n':>5s}{'stopped':>9s}{'likeness, 5 to 95 %':>24s}{'Dice':>8s}{'CPU s':>9s}")
    for (part, kind), of_kind in rows.groupby(["part", "kind"], sort=False):
        low, high = of_kind["likeness"].quantile([0.05, 0.95])
        shares = f"{len(of_kind):5d}{of_kind['stopped'].mean():9.1%}{low:16.3f} {high:7.3f}"
        print(f"{part:8s}{kind:14s}{shares}{of_kind['dice'].mean():8.2f}{of_kind['cpu_s'].mean():9.2f}")
    for name, some in (("alignments", rows[rows["part"] != "whole"]), ("whole step", rows[rows["part"] == "whole"])):
        if len(some):
            low, high = some[some["dice"] < 0.5], some[some["dice"] > 0.8]
            print(
                f"{name}: Dice below 0.5 stopped {low['stopped'].sum()} of {len(low)}, "
                f"above 0.8 passed {(~high['stopped']).sum()} of {len(high)}, CPU {some['cpu_s'].sum():.0f} s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bad", type=int, default=300)
    parser.add_argument("--good", type=int, default=150)
    parser.add_argument("--whole", type=int, default=80, help="heads through the whole step; about 15 CPU seconds each")
    parser.add_argument("--kinds", nargs="+", choices=(*WHOLE, "left turned"), default=WHOLE, help="of these heads")
    parser.add_argument("--metric", choices=("auto", "mutual", "local"), default=SETTINGS.ants_metric)
    parser.add_argument("--seed", type=int, default=1000, help="of the first case")
    parser.add_argument("--state", type=Path, help="file of finished parts; a stopped benchmark resumes from it")
    parser.add_argument("--quick", action="store_true", help="two of each kind of alignment, no whole step")
    asked = parser.parse_args()
    n_bad, n_good, n_whole = (16, 10, 0) if asked.quick else (asked.bad, asked.good, asked.whole)
    lines = asked.state.read_text().splitlines() if asked.state and asked.state.is_file() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["part"], row["seed"]) for row in rows}
    work: list[tuple[str, int, Callable[[int], dict[str, object]]]] = []
    work += [("bad", k, lambda s, k=k: aligned(BAD[k % len(BAD)], False, s)) for k in range(n_bad)]
    work += [("good", k, lambda s, k=k: aligned(GOOD[k % len(GOOD)], True, s)) for k in range(n_good)]
    settings = SETTINGS.model_copy(update={"ants_metric": asked.metric})
    heads = [asked.kinds[k % len(asked.kinds)] for k in range(n_whole)]
    work += [("whole", k, lambda s, kind=kind: whole(kind, s, settings)) for k, kind in enumerate(heads)]
    for part, k, make in work:
        if (part, asked.seed + k) in done:
            continue
        rows.append(make(asked.seed + k))
        if asked.state is not None:
            with asked.state.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    report(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
