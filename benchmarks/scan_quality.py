"""Detection rate of planted faults of diffusion scans on new seeds, and false alarms on clean data.

    python benchmarks/scan_quality.py --seeds 100 101 102 [--motion | --only-motion] [--out scan_quality.tsv]

Each seed is another subject of the phantom. `--motion` also compares framewise displacement with the planted one
(minutes). With `--out`, results are kept in a table, and those it holds are not computed again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.preprocess.motion import estimate_motion
from connectome_tl.imaging.preprocess.shrinkage import as_mm, displacement
from connectome_tl.imaging.quality.direction_check import direction_warnings
from connectome_tl.imaging.quality.record import scan_quality, usable_volumes
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.simulation.phantom import make_anatomy, make_head, random_poses

_NEAR_MM = 0.1


def planted(clean: Dwi, rng: np.random.Generator) -> Iterator[tuple[str, Dwi, str]]:
    """A kind of fault, data with it, and the expected message (empty: no message)."""
    n, middle = clean.n_volumes, clean.data.shape[2] // 2
    volume = int(rng.integers(0, n))
    z = middle + int(rng.integers(-5, 6))
    yield "clean", clean, ""
    yield "shuffled", _taken(clean, rng.permutation(n)), ""
    for kind, factor in (("dropout to 0.6", 0.6), ("dropout to 0.2", 0.2), ("lost slice", 0.0)):
        data = clean.data.copy()
        data[:, :, z, volume] *= factor
        yield kind, replace(clean, data=data), f"signal dropout in volume {volume + 1} (slice {z + 1})"
    data = clean.data.copy()
    size = 4 * data[..., volume][clean.mask].mean()
    data[:, :, z, volume] = np.abs(data[:, :, z, volume] + size * np.cos(2.1 * np.arange(data.shape[0]))[:, None])
    yield "spike", replace(clean, data=data), f"volume {volume + 1} (slice {z + 1})"
    data = clean.data.copy()
    data[..., volume] *= 2
    yield "bright volume", replace(clean, data=data), f"too bright in volume {volume + 1}"
    data = clean.data.copy()
    data[..., volume] = 0
    yield "zero volume", replace(clean, data=data), f"left out: {volume + 1}"
    for shift in (-1, 1):
        moved = replace(clean, bvals=np.roll(clean.bvals, shift), directions=np.roll(clean.directions, shift, axis=0))
        yield f"table shifted by {shift}", moved, "shifted by 1 volume"
    directions, weighted = clean.directions.copy(), ~clean.is_b0
    directions[weighted] = np.roll(directions[weighted], 1, axis=0)
    yield "vectors shifted", replace(clean, directions=directions), "b-vectors are shifted by 1 volume"
    yield "all shells 1000", replace(clean, bvals=np.where(weighted, 1000.0, 0.0)), "volumes of one b-value"
    directions = clean.directions.copy()
    directions[weighted] = directions[rng.permutation(np.flatnonzero(weighted))]
    yield "vectors shuffled", replace(clean, directions=directions), "b-vectors may not belong"
    data = clean.data.copy()
    data[:, :, z, ::4] *= 0.3
    yield "every fourth volume", replace(clean, data=data), f"signal dropout in volume 1 (slice {z + 1}), volume 5 "
    swapped = np.select([clean.bvals == 400, clean.bvals == 2600], [2600.0, 400.0], clean.bvals)
    yield "shells swapped", replace(clean, bvals=swapped), "the signal rises"


def _taken(dwi: Dwi, order: np.ndarray) -> Dwi:
    return replace(dwi, data=dwi.data[..., order], bvals=dwi.bvals[order], directions=dwi.directions[order])


def said(dwi: Dwi) -> str:
    try:
        kept, empty, check = usable_volumes(dwi)
    except DataError as error:
        return str(error)
    warnings = scan_quality(kept, empty, check, None).warnings
    return "; ".join([*warnings, *direction_warnings(kept, np.flatnonzero(~empty))])


class Kept:
    """Rows `part, seed, right, CPU seconds` of a table that a stopped run continues; no file without a path."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
        rows = [line.split("\t") for line in lines]
        self.found = {(row[0], int(row[1])): row[2] == "1" for row in rows if len(row) == 4}
        self.cpu = sum(float(row[3]) for row in rows if len(row) == 4)
        self._start = time.process_time()

    def add(self, part: str, seed: int, right: bool) -> None:
        self.found[part, seed] = right
        used, self._start = time.process_time() - self._start, time.process_time()
        self.cpu += used
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{part}\t{seed}\t{int(right)}\t{used:.2f}\n")

    def of(self, part: str, seeds: list[int]) -> list[bool]:
        return [right for (kind, seed), right in self.found.items() if kind == part and seed in seeds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--motion", action="store_true")
    parser.add_argument("--only-motion", action="store_true", help="no other faults")
    parser.add_argument("--out", type=Path, help="table of results, continued if it exists")
    parser.add_argument("--quick", action="store_true", help="one seed")
    given = parser.parse_args()
    if given.quick:
        given.seeds = given.seeds[:1]
    anatomy = make_anatomy()
    given.motion |= given.only_motion
    kept, kinds = Kept(given.out), list[str]()
    for seed in () if given.only_motion else given.seeds:
        head = make_head(anatomy, seed=seed)
        clean = Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)
        for kind, dwi, wanted in planted(clean, np.random.default_rng(seed)):
            kinds += [kind] if kind not in kinds else []
            if (kind, seed) in kept.found:
                continue
            told = said(dwi)
            kept.add(kind, seed, wanted in told if wanted else not told)
            if not kept.found[kind, seed]:
                print(f"seed {seed}, {kind}: {told or 'nothing said'}")
    for kind in kinds:
        found = kept.of(kind, given.seeds)
        print(f"{kind:20} {sum(found)} of {len(found)} as expected")
    near: list[bool] = []
    for size in (0.0, 0.3, 0.65, 2.0, 4.0) if given.motion else ():
        part = f"motion {size:g}"
        for seed in given.seeds:
            if (part, seed) in kept.found:
                continue
            poses = random_poses(sum(count for _, count in anatomy.settings.shells), size, seed=seed)
            head = make_head(anatomy, seed=seed, poses=poses)
            motion = estimate_motion(Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask))
            true = displacement(as_mm(poses, motion.centre), np.zeros((len(poses), 6)))[1:].mean()
            found_fd = motion.displacement[1:].mean()
            print(f"shifts and rotations of {size} mm, degrees; seed {seed}: FD {found_fd:.3f} mm, planted {true:.3f}")
            kept.add(part, seed, bool(abs(found_fd - true) <= _NEAR_MM))
        near += kept.of(part, given.seeds)
    if near:
        print(f"FD within {_NEAR_MM} mm in {sum(near)} of {len(near)} runs")
    print(f"CPU time {kept.cpu:.0f} s")


if __name__ == "__main__":
    main()
