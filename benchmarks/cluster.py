"""Fits on a Dask scheduler with two worker processes on this machine, one of them killed in the middle.

Prints whether the store has the same bytes as without a scheduler, and the CPU time of the scheduler per fit.

    python benchmarks/cluster.py                 # 200 fits
    python benchmarks/cluster.py --quick         # 24 fits
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.settings.training import Stages
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.cluster import on_scheduler
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import BY_NAME, StudyCohorts
from connectome_tl.training.stages import chain


def dask(*arguments: str) -> subprocess.Popen[bytes]:
    """A scheduler or a worker without a nanny, which would restart a killed one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], stdout=quiet, stderr=quiet, env=environment)


def plans(cohorts: StudyCohorts, n_fits: int) -> list[FitPlan]:
    """Closed-form cores of many folds: fits of a few tens of milliseconds, for which overhead is visible."""
    study = StudySettings(
        target=CohortUse(cohort="target/cohort.yaml"),
        stages=Stages(pretrain=None, adapt=None),
        splits=SplitSettings(repeats=-(-n_fits // 4), outer=4),
    )
    names = [task.name for task in cohorts.target.tasks][:1]
    folds = [fold for _, _, fold in make_split_plan(cohorts.target, study.splits).folds()][:n_fits]
    return [chain(study, cohorts, BY_NAME["core"], fold, names, seed=0) for fold in folds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    n_fits = 24 if parser.parse_args().quick else 200
    cohorts = StudyCohorts({"target": simulate_study(seed=0, n_source=4, n_pool=4, n_target=48).target})
    wanted, known = plans(cohorts, n_fits), cohorts.by_name()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    processes = [dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")]
    processes += [dask("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]
    killed: list[int] = []

    def kill(done: int, total: int, _: float | None = None) -> None:
        if done >= total // 2 and not killed:
            os.kill(processes[1].pid, signal.SIGKILL)
            killed.append(done)

    with tempfile.TemporaryDirectory() as name:
        here, there = Path(name) / "here", Path(name) / "there"
        try:
            started, spent = time.perf_counter(), time.process_time()
            fit(wanted, known, store=FitStore(here))
            alone, alone_cpu = time.perf_counter() - started, time.process_time() - spent
            with on_scheduler(address):
                fit(wanted[:2], known)  # workers import the package
                started, spent = time.perf_counter(), time.process_time()
                fit(wanted, known, store=FitStore(there), progress=kill)
                far, far_cpu = time.perf_counter() - started, time.process_time() - spent
        finally:
            for process in processes:
                process.kill()
                process.wait()
        same = {p.name: p.read_bytes() for p in here.iterdir()} == {p.name: p.read_bytes() for p in there.iterdir()}
    print(f"{n_fits} fits, one of two workers killed after {killed[0]}: store {'the same' if same else 'DIFFERS'}")
    print(f"one process: {alone:.1f} s, {alone_cpu:.1f} CPU s; scheduler: {far:.1f} s")
    own, every = (1000 * cpu / n_fits for cpu in (far_cpu, alone_cpu))
    print(f"CPU time of the calling process per fit: {own:.1f} ms (a fit takes {every:.1f} ms)")


if __name__ == "__main__":
    main()
