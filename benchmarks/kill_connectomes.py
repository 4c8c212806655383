"""`connectomes` killed at random moments and run again: do the same files come out?

    python benchmarks/kill_connectomes.py [--kills 20] [--seed 0]

A phantom of about a minute is made once undisturbed. Then the same command (its whole process group) gets
SIGKILL at random moments, is started again each time, and at last may finish. All files outside `log/` are
compared byte by byte.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), region_radius=6.0)
CONFIG = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz
tracking: {n_streamlines: 5000}
reconstruction: {response_voxels: 60}
keep_tractogram: true
"""


def files_of(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] != "log"
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as name:
        root = write_phantom(Path(name) / "bids", n_subjects=3, n_sessions=2, settings=SMALL)
        (root / "config.yaml").write_text(CONFIG)

        def start(out: Path) -> subprocess.Popen[bytes]:
            command = [str(Path(sys.executable).with_name("connectome-tl")), "connectomes", str(root), str(out)]
            command += ["participant", "--config", str(root / "config.yaml"), "--n-cpus", "2"]
            return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)

        whole, killed = Path(name) / "whole", Path(name) / "killed"
        begun = time.perf_counter()
        assert start(whole).wait() == 0
        seconds = time.perf_counter() - begun
        print(f"undisturbed: {seconds:.0f} s, {len(files_of(whole))} files")
        n_killed = n_starts = 0
        while n_killed < options.kills:
            process = start(killed)
            n_starts += 1
            try:
                process.wait(timeout=float(rng.uniform(0.02, 0.4) * seconds))
                for mark in sorted(killed.rglob("*_provenance.json"))[:3]:
                    mark.unlink()  # it had finished: give it something to do again
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                n_killed += 1
        left = sum(1 for path in killed.rglob("*.part"))
        assert start(killed).wait() == 0
        a, b = files_of(whole), files_of(killed)
    different = sorted(file for file in a.keys() | b.keys() if a.get(file) != b.get(file))
    print(f"{n_killed} times killed in {n_starts} starts; {left} unfinished files lay about before the last one")
    print("byte-identical outside log/" if not different else f"DIFFERENT: {', '.join(different)}")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
