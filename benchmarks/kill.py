"""Kill a run repeatedly at random times, and check that it resumes to the same bytes.

A study of about a minute is run twice without interruption (same seed: same bytes), then killed by SIGKILL at
moments drawn uniformly over the duration of the uninterrupted run. A killed run is started again by the same command.
A run that ends before its kill is compared with the uninterrupted one, file by file outside `log/`, and the next one
starts in a new folder. Every second kill includes the worker processes (as a scheduler does); the others leave them
orphaned (as `kill -9` does).

    python benchmarks/kill.py [--kills 50] [--seed 0] [--n-jobs 2] [--images]

`--images` kills a small study of simulated volumes instead.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.provenance import write_text
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.workflows.demos.study import demo_settings
from connectome_tl.workflows.demos.volumes import HEALTHY, NEWBORNS, image_demo_settings

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass
class Tally:
    """Stages at which runs were killed, and whether the runs resumed."""

    kills: int = 0
    finished: int = 0
    wrong: list[str] = field(default_factory=list)
    places: Counter[str] = field(default_factory=Counter)


def write_study(home: Path, n_jobs: int) -> Path:
    """The demo, with fewer permutations, as files."""
    study = simulate_study(seed=0)
    for name, cohort in (("older", study.source), ("pool", study.pool), ("target", study.target)):
        write_cohort(cohort, home / "cohorts" / name)
    settings = demo_settings().model_copy(update={"n_jobs": n_jobs, "permutations": 9})
    return write_text(home / "study" / "study.yaml", dump_settings(settings))


def write_images(home: Path, n_jobs: int) -> Path:
    """The demo on volumes, smaller, as files."""
    write_volume_cohort(40, replace(HEALTHY, size=16), home / "cohorts" / "healthy", name="healthy", seed=1)
    newborns = replace(NEWBORNS, size=16)
    write_volume_cohort(30, newborns, home / "cohorts" / "newborns", name="newborn", outcomes=("injury",), seed=2)
    settings = image_demo_settings()
    stages = settings.stages
    assert stages.pretrain is not None
    pretrain, finetune = (
        stage.model_copy(update={"training": stage.training.model_copy(update={"steps": steps})})
        for stage, steps in ((stages.pretrain, 40), (stages.finetune, 20))
    )
    changed = {
        "n_jobs": n_jobs,
        "stages": stages.model_copy(update={"pretrain": pretrain, "finetune": finetune}),
        "image": settings.image.model_copy(update={"size": 16, "voxel": 10.0}),
    }
    return write_text(home / "study" / "study.yaml", dump_settings(settings.model_copy(update=changed)))


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "connectome_tl.cli", "run", str(study), "--out", str(out)]
    with open(out.with_suffix(".err"), "wb") as said:
        return subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=said, env=ENVIRONMENT, start_new_session=True
        )  # a separate session, so that its workers and no other process are killed with it


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file of a run except its log."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if not name.startswith("log/")
    }


def place(out: Path) -> str:
    """Stage of a killed run, from the files it has written."""
    if (out / "scores.json").exists():
        return "writing results"
    if any((out / "models" / "permuted").glob("*.json")):
        return "permutations"
    if any((out / "models").glob("*.json")):
        return "fits"
    return "before the first fit"


def undisturbed(study: Path, out: Path) -> float:
    """Wall seconds of an uninterrupted run."""
    begun = time.monotonic()
    code = start(study, out).wait()
    if code:
        sys.exit(f"the uninterrupted run failed with {code}:\n{out.with_suffix('.err').read_text()}")
    return time.monotonic() - begun


def kill(process: subprocess.Popen[bytes], *, with_workers: bool) -> None:
    if with_workers:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def attack(study: Path, home: Path, expected: dict[str, str], seconds: float, n_kills: int, seed: int) -> Tally:
    """Run, kill and resume until `n_kills` kills have succeeded; every run is completed."""
    rng, tally, number = np.random.default_rng(seed), Tally(), 0
    while tally.kills < n_kills:
        number += 1
        out = home / f"run{number}"
        while True:
            process = start(study, out)
            try:
                code = process.wait(timeout=float(rng.uniform(0, seconds)) if tally.kills < n_kills else None)
                break
            except subprocess.TimeoutExpired:
                kill(process, with_workers=tally.kills % 2 == 0)
                tally.kills += 1
                tally.places[place(out)] += 1
                print(f"\r{tally.kills} kills, {tally.finished} runs ended", end="", file=sys.stderr)
        if code:
            tally.wrong.append(f"{out.name}: exit code {code}: {out.with_suffix('.err').read_text()[-300:]}")
            continue
        tally.finished += 1
        found = contents(out)
        tally.wrong += [
            f"{out.name}: {name}" for name in sorted(found.keys() | expected.keys())
            if found.get(name) != expected.get(name)
        ]  # fmt: skip
    print(file=sys.stderr)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--n-jobs", type=int, default=2, help="processes of each run")
    parser.add_argument("--images", action="store_true", help="a study of volumes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        study = (write_images if given.images else write_study)(home, given.n_jobs)
        seconds = undisturbed(study, home / "first")
        expected = contents(home / "first")
        undisturbed(study, home / "second")
        same = contents(home / "second") == expected
        print(f"an uninterrupted run: {seconds:.0f} s, {len(expected)} files outside log/, {given.n_jobs} processes")
        print(f"a second one with the same seed: {'the same bytes' if same else 'DIFFERENT bytes'}", flush=True)
        tally = attack(study, home, expected, seconds, given.kills, given.seed)
        where = ", ".join(f"{n} {name}" for name, n in tally.places.most_common())
        whole = not tally.wrong and tally.finished > 0
        print(f"{tally.kills} SIGKILLs ({where}); every run resumed and ended: {whole}")
        print(f"{tally.finished} runs ended; files that differ from the uninterrupted run: {len(tally.wrong)}")
        for line in tally.wrong[:20]:
            print(f"  {line}")
        sys.exit(1 if tally.wrong or not same else 0)


if __name__ == "__main__":
    main()
