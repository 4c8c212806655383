"""Kill and repeat `connectomes` at random times, and check that the files are the same.

    python benchmarks/kill_connectomes.py [--kills 20] [--seed 0]

A phantom of about a minute is processed once without interruption. Then the same command is killed by SIGKILL at
random moments and started again each time, until it finishes. The killed process alternates: the whole process
group, the main process alone (its workers must end by themselves), one of its two workers, and the group while the
cohort's page and tables are written. All files outside
`log/` are compared byte by byte. Linux only: it looks for processes in /proc.
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

VICTIMS = ("group", "main", "worker", "page")
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


def workers_of(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]


def strike(process: subprocess.Popen[bytes], victim: str, out: Path, wait: float, rng: np.random.Generator) -> bool:
    """Kill the victim after `wait` seconds (`page`: once the last part of the command has begun); False if too late."""
    table = out / "failures.tsv"  # the first of the tables and the page to be written
    before = table.stat().st_ino if table.exists() else 0
    end = time.perf_counter() + wait
    while process.poll() is None and (victim == "page" or time.perf_counter() < end):
        if victim == "page" and table.exists() and table.stat().st_ino != before:
            time.sleep(float(rng.uniform(0, 0.05)))
            break
        time.sleep(0.002)
    if process.poll() is not None:
        return False
    workers = workers_of(process.pid)
    if victim == "main":
        process.kill()
    elif victim == "worker" and workers:
        os.kill(int(rng.choice(workers)), signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    end = time.perf_counter() + 20
    while any(Path(f"/proc/{w}/fd/0").exists() for w in workers):
        assert time.perf_counter() < end, "a worker continued after the command was killed"
        time.sleep(0.01)
    return True


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
            return subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )

        whole, killed = Path(name) / "whole", Path(name) / "killed"
        begun = time.perf_counter()
        assert start(whole).wait() == 0
        seconds = time.perf_counter() - begun
        print(f"uninterrupted: {seconds:.0f} s, {len(files_of(whole))} files", flush=True)
        hits = dict.fromkeys(VICTIMS, 0)
        n_starts = 0
        while sum(hits.values()) < options.kills:
            victim = VICTIMS[sum(hits.values()) % len(VICTIMS)]
            process = start(killed)
            n_starts += 1
            struck = strike(process, victim, killed, float(rng.uniform(0.02, 0.4) * seconds), rng)
            hits[victim] += struck
            if not struck or victim == "page":  # all is computed: remove a result, so that there is work again
                marks = sorted(killed.rglob("*_provenance.json"))
                for at in rng.permutation(len(marks))[:3]:
                    marks[at].unlink()
        left = sum(1 for path in killed.rglob("*.part"))
        assert start(killed).wait() == 0
        a, b = files_of(whole), files_of(killed)
    different = sorted(file for file in a.keys() | b.keys() if a.get(file) != b.get(file))
    told = ", ".join(f"{victim} {count}" for victim, count in hits.items())
    print(f"killed ({told}) in {n_starts} starts; {left} unfinished files existed before the last start")
    print("byte-identical outside log/" if not different else f"DIFFERENT: {', '.join(different)}")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
