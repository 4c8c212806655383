"""Reading a cohort of 116 regions, as CSV files or as one stack: CPU time per matrix and peak memory.

Every row is a separate process with one thread. Above `--in-memory` bytes the cohort is stored in a file,
and memory does not grow with the number of subjects. All files are made in a temporary folder and removed. Linux only.

    OMP_NUM_THREADS=1 python benchmarks/reading.py [--files 500 5000] [--in-memory 20000000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
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
from connectome_tl.cohort.arrays import matrices
from connectome_tl.cohort.reading import read_cohort

KINDS = ("csv", "npz", "npy", "mat73")
LABELS = {"csv": "CSV files", "npz": "one .npz", "npy": "one .npy", "mat73": "CONN, MATLAB 7.3"}


def write(folder: Path, n_subjects: int, kind: str) -> None:
    names = load_atlas("aal116").names
    rng = np.random.default_rng(0)
    n_regions = len(names)
    ids = [f"s{i:05d}" for i in range(n_subjects)]
    stack = None
    if kind != "csv":
        shape = (n_subjects, n_regions, n_regions)
        stack = np.lib.format.open_memmap(folder / "all.npy", mode="w+", dtype=np.float32, shape=shape)
    for i, subject in enumerate(ids):
        upper = np.triu(rng.gamma(1, 20, (n_regions, n_regions)).astype(np.float32), 1)
        if stack is not None:
            stack[i] = upper + upper.T
            continue
        rows = zip(names, (upper + upper.T).tolist(), strict=True)
        lines = [f"{name},{','.join(map(str, row))}" for name, row in rows]
        (folder / f"{subject}.csv").write_text("\n".join(["," + ",".join(names), *lines]) + "\n")
    if kind == "npz":
        np.savez(folder / "all.npz", weights=stack, regions=np.array(names))
    if kind == "mat73":
        write_mat73(folder / "all.mat", stack, names)
    (folder / "participants.tsv").write_text("\n".join(["participant_id", *ids]) + "\n")
    source = {"files": "{id}.csv"} if kind == "csv" else {"stack": f"all.{kind.removesuffix('73')}"}
    source |= {} if kind == "csv" else {"rows": "participants.tsv"}
    settings = {"participants": "participants.tsv", "connectomes": {**source, "atlas": "aal116", "transform": "log1p"}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(settings))


def write_mat73(path: Path, stack: np.ndarray, names: Sequence[str]) -> None:
    """Z (n, n, n_subjects) and names in the layout of MATLAB's `save -v7.3`."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        z = file.create_dataset("Z", stack.shape, "f8", chunks=(1, *stack.shape[1:]), compression="gzip")
        for i, matrix in enumerate(stack):
            z[i] = matrix
        z.attrs["MATLAB_class"] = np.bytes_("double")
        cell = file.create_dataset("names", (len(names), 1), h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        for i, name in enumerate(names):
            letters = file.create_dataset(f"#refs#/{i}", data=np.frombuffer(name.encode("utf-16-le"), "u2")[:, None])
            letters.attrs["MATLAB_class"] = np.bytes_("char")
            cell[i, 0] = letters.ref


def bar(files: Sequence[Path], what: str) -> Iterable[Path]:
    return track(files, what)


def peak() -> float:
    """Highest resident memory of this process so far, MiB (ru_maxrss would count the parent's too)."""
    said = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in said.splitlines() if line.startswith("VmHWM"))) / 1024


def read(folder: Path, in_memory: int) -> None:
    """One row of the table."""
    matrices.IN_MEMORY = in_memory
    before = peak()
    started = time.process_time()
    cohort = read_cohort(folder / "cohort.yaml", track=bar if sys.stderr.isatty() else None)
    spent = time.process_time() - started
    after = peak()
    where = "in a file" if isinstance(cohort.weights, np.memmap) else "in memory"
    print(
        f"{cohort.n_subjects:>6} subjects, {1000 * spent / cohort.n_subjects:5.2f} CPU ms each, matrices"
        f" {cohort.weights.nbytes / 2**20:4.0f} MiB {where}, peak memory {before:4.0f} MiB before, {after:4.0f} after"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--in-memory", type=int, default=20_000_000)
    parser.add_argument("--folder", type=Path, help="read this folder and print one row (used by the script itself)")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        read(arguments.folder, arguments.in_memory)
        return
    for kind in arguments.kinds:
        for n_files in arguments.files:
            with tempfile.TemporaryDirectory() as place:
                write(Path(place), n_files, kind)
                command = [sys.executable, __file__, "--folder", place, "--in-memory", str(arguments.in_memory)]
                print(f"{LABELS[kind]:>17}", end=" ", flush=True)
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
