"""Reading a cohort of CSV matrices of 116 regions: CPU time per matrix and peak memory.

The stack lies in a file when it is larger than `--in-memory` bytes, so that memory stays flat. One
thread, CPU time. The matrices are made in a temporary folder and removed.

    OMP_NUM_THREADS=1 python benchmarks/reading.py [--files 500] [--in-memory 4000000000]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import yaml
from rich.progress import track

from connectome_tl.atlas import load_atlas
from connectome_tl.cohort import matrices
from connectome_tl.cohort.reading import read_cohort


def write(folder: Path, n_files: int) -> Path:
    names = load_atlas("aal116").names
    rng = np.random.default_rng(0)
    for i in range(n_files):
        upper = np.triu(rng.gamma(1, 20, (len(names), len(names))).astype(np.float32), 1)
        rows = [
            f"{name},{','.join(map(str, row))}" for name, row in zip(names, (upper + upper.T).tolist(), strict=True)
        ]
        (folder / f"s{i:05d}.csv").write_text("\n".join(["," + ",".join(names), *rows]) + "\n")
    ids = [f"s{i:05d}" for i in range(n_files)]
    (folder / "participants.tsv").write_text("\n".join(["participant_id", *ids]) + "\n")
    settings = {
        "participants": "participants.tsv",
        "connectomes": {"files": "{id}.csv", "atlas": "aal116", "transform": "log1p"},
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(settings))
    return folder / "cohort.yaml"


def bar(files: Sequence[Path], what: str) -> Iterable[Path]:
    return track(files, what)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--in-memory", type=int, default=matrices.IN_MEMORY)
    arguments = parser.parse_args()
    matrices.IN_MEMORY = arguments.in_memory
    with tempfile.TemporaryDirectory() as place:
        file = write(Path(place), arguments.files)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.process_time()
        cohort = read_cohort(file, track=bar)
        spent = time.process_time() - started
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    where = "in a file" if isinstance(cohort.weights, np.memmap) else "in memory"
    print(f"{cohort.n_subjects} matrices, {1000 * spent / cohort.n_subjects:.1f} CPU ms each, stack {where}")
    print(f"stack {cohort.weights.nbytes / 2**20:.0f} MiB; peak memory {before:.0f} MiB before, {after:.0f} MiB after")


if __name__ == "__main__":
    main()
