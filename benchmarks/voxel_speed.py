"""Speed of training on volumes: ResNet-10 beside a plain MONAI loop, reading again, and memory.

On the CPU: CPU seconds per training step of both loops (`voxel_loops.py`) in one process, in turns, with the ratio of
their medians; CPU seconds to make the grids of some NIfTI files, and of the second start; peak memory of a process that
trains on 50 and on 2,000 volumes. On a GPU: see `voxel_speed_gpu.py`; it ends within a minute.

With --state a stopped benchmark goes on where it was. One thread.

    python benchmarks/voxel_speed.py --state speed.jsonl      # at most 2 CPU hours
    python benchmarks/voxel_speed.py --quick
    python benchmarks/voxel_speed.py --sizes 96 --norms batch --state speed.jsonl
    python benchmarks/voxel_speed.py --device cuda
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from voxel_loops import Case, Run, Stored, network, our_stamps, plain_stamps

from connectome_tl.nn.voxel.precision import fastest
from connectome_tl.training.threads import one_thread

BATCH = 4
STEPS = {48: 8, 96: 4, 128: 3}  # that are counted, of each loop in each round
ROUNDS = 2
VOLUMES = (50, 2000)


class State:
    """Numbers by name, kept in a file if there is one."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        lines = file.read_text("utf-8").splitlines() if file is not None and file.is_file() else []
        self.known = {key: value for line in lines for key, value in json.loads(line).items()}

    def keep(self, key: str, value: object) -> None:
        self.known[key] = value
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps({key: value}) + "\n")


def steps_of(case: Case, state: State, n_steps: int, rounds: int) -> None:
    """Time both loops in turns and print medians and their ratio."""
    shape = (case.batch, 1, *(case.size,) * 3)
    key = str(case)
    if f"{key} precision" not in state.known:
        torch.manual_seed(0)
        state.keep(f"{key} precision", fastest(network(case.norm), shape, tries=1))
    precision = str(state.known[f"{key} precision"])
    stored = Stored(2 * case.batch, case.size)
    times: dict[str, list[float]] = {"ours": [], "MONAI": []}
    for k in range(rounds):
        for name in times:
            place = f"{key} {name} {k}"
            if place not in state.known:
                run = Run(n_steps + 1, precision=precision if name == "ours" else "float32")
                n = 2 * case.batch
                stamps = our_stamps(case, stored, n, run) if name == "ours" else plain_stamps(case, stored, run)
                state.keep(place, [b - a for a, b in pairwise(stamps)])
            times[name] += state.known[place]  # type: ignore[operator]
    ours, other = median(times["ours"]), median(times["MONAI"])
    print(
        f"{key}: ours ({precision}) {ours:.2f} CPU s per step, MONAI {other:.2f}, ratio {other / ours:.2f}", flush=True
    )


def second_start(state: State, size: int, n: int) -> None:
    """CPU seconds of two processes, one after the other, until all grids are there: from NIfTI files and again."""
    if "start" not in state.known:
        with tempfile.TemporaryDirectory() as home:
            _images(Path(home), n, size)
            command = [sys.executable, __file__, "--gridded", home, "--sizes", str(size)]
            runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(2)]
            state.keep("start", [float(run.stdout.split()[-1]) for run in runs])
    first, second = state.known["start"]  # type: ignore[misc]
    ratio = first / second
    print(f"start from {n} files of {size}^3: {first:.2f} CPU s, again {second:.3f}, ratio {ratio:.1f}", flush=True)


def _images(home: Path, n: int, size: int) -> None:
    from connectome_tl.imaging.read.images import write_volume

    base = Stored(1, size).volumes[0].astype(np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for i in range(n):
        write_volume(home / "images" / f"{i}.nii.gz", base * (1 + i / n), affine)


def _gridded(home: Path, size: int) -> float:
    """CPU seconds of this process, imports excluded, until the grids of a folder's images are there."""
    from connectome_tl.imaging.volumes.cache import stored_grid
    from connectome_tl.settings.images.volumes import ImageSettings

    start = time.process_time()
    for file in sorted((home / "images").iterdir()):
        stored_grid(str(file), file.name, ImageSettings(size=size, voxel=2.0, shape="note"), home / "grids").read()
    return time.process_time() - start


def memory(state: State, counts: Sequence[int]) -> None:
    """Peak memory of processes that train on few and on many volumes."""
    held = []
    for n in counts:
        if f"memory {n}" not in state.known:
            command = [sys.executable, __file__, "--memory", str(n)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            state.keep(f"memory {n}", float(found.split()[-1]))
        held.append(float(state.known[f"memory {n}"]))  # type: ignore[arg-type]
    told = ", ".join(f"{n} volumes {mib:.0f} MiB" for n, mib in zip(counts, held, strict=True))
    print(f"peak memory of gridding and training at 32^3: {told}, ratio {held[-1] / held[0]:.2f}", flush=True)


def train_on(n: int) -> None:
    """Grid and train on this many volumes, and print the peak memory in MiB."""
    from connectome_tl.features.volumes import read_volumes
    from connectome_tl.imaging.volumes.cache import stored_grid
    from connectome_tl.settings.images.volumes import ImageSettings
    from connectome_tl.simulation.volume_cohorts import write_volumes
    from connectome_tl.simulation.volumes import VolumeSettings

    with tempfile.TemporaryDirectory() as home, one_thread():
        cohort = write_volumes(n, VolumeSettings(size=16), home, name="s")
        image = ImageSettings(size=32, voxel=5.0, shape="note")
        for file, subject in zip(cohort.volumes, cohort.ids, strict=True):
            stored_grid(file, subject, image, Path(home))
        reader, _, _ = read_volumes(replace(cohort, volume_cache=home), cohort.ids, image)
        our_stamps(Case(32, BATCH, "group"), reader, n, Run(n // BATCH), width=1 / 8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sizes", type=int, nargs="*", default=sorted(STEPS))
    parser.add_argument("--norms", nargs="*", choices=("batch", "group"), default=("batch", "group"))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each loop; %(default)s by default")
    parser.add_argument("--only", choices=("steps", "start", "memory"))
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--gridded", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory is not None:
        train_on(given.memory)
        return
    if given.gridded is not None:
        print(_gridded(given.gridded, given.sizes[0]))
        return
    if given.device == "cuda":
        from voxel_speed_gpu import measure

        measure(given.quick)
        return
    state, start = State(given.state), time.process_time()
    with one_thread():
        if given.only in (None, "steps"):
            for size in (16,) if given.quick else given.sizes:
                for norm in given.norms:
                    steps_of(Case(size, BATCH, norm), state, STEPS.get(size, 2), 1 if given.quick else given.rounds)
        if given.only in (None, "start"):
            second_start(state, *((32, 3) if given.quick else (96, 20)))
        if given.only in (None, "memory"):
            memory(state, (8, 24) if given.quick else VOLUMES)
    spent = time.process_time() - start + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    print(f"{spent:.0f} CPU s, torch {torch.__version__}")


if __name__ == "__main__":
    main()
