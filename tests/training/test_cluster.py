"""Fits on a Dask scheduler with two worker processes: the same bytes as locally, and no loss after a killed worker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from optional import needs
from small_study import FLAT, TASKS, last_stage, retrained, small_cohorts, small_settings

from connectome_tl import run_study
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError, DivergedError, InterruptedRunError, OutputError, UsageError
from connectome_tl.settings.study import SplitSettings
from connectome_tl.settings.tuning import TuneSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.cluster import as_worker, current_cluster, on_scheduler
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import BY_NAME
from connectome_tl.training.stages import chain
from connectome_tl.workflows.study.tune import tune_study

pytestmark = [pytest.mark.slow, needs("distributed"), pytest.mark.filterwarnings("default")]
COHORTS = small_cohorts()


class Pool:
    """A scheduler and its workers, each a separate process."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.folder, port = folder, self.address.rpartition(":")[2]
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
        self.workers = [self.worker(), self.worker()]

    def worker(self) -> subprocess.Popen[bytes]:
        # Without a nanny, so that a killed worker is not restarted.
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DASK_TEMPORARY_DIRECTORY": str(self.folder)}
        # Tests of extensions import their modules by name.
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
        with open(self.folder / f"{arguments[0]}.txt", "ab") as log:
            return subprocess.Popen([sys.executable, "-m", "dask", *arguments], stdout=log, stderr=log, env=environment)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    made = Pool(tmp_path_factory.mktemp("dask"))
    try:
        yield made
    finally:
        made.stop()


def plans(n_seeds: int, *, steps: int = 4, first: int = 0) -> list[FitPlan]:
    """Full models of all stages: fits that start from other fits, and mixtures of both."""
    study = small_settings(model=FLAT, steps=steps)
    folds = make_split_plan(COHORTS.target, study.splits).repeats[0]
    seeds = range(first, first + n_seeds)
    return [chain(study, COHORTS, BY_NAME["full"], fold, TASKS, seed=seed) for seed in seeds for fold in folds[:2]]


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_scheduler_gives_the_same_bytes_and_fits_nothing_twice(pool: Pool, tmp_path: Path) -> None:
    wanted = plans(1)
    fit(wanted, COHORTS.by_name(), store=FitStore(tmp_path / "here"))
    done: list[tuple[int, int]] = []
    with on_scheduler(pool.address):
        fit(wanted, COHORTS.by_name(), store=FitStore(tmp_path / "there"), progress=lambda *n: done.append(n[:2]))
        assert stored(tmp_path / "there") == stored(tmp_path / "here")
        cluster = current_cluster()
        assert cluster is not None
        before = len(cluster.client.story())
        again = fit(wanted, COHORTS.by_name(), store=FitStore(tmp_path / "there"))
        assert len(cluster.client.story()) == before
    assert done[-1][0] == done[-1][1] == len(again)
    assert current_cluster() is None


def test_a_worker_killed_in_the_middle_loses_nothing(pool: Pool, tmp_path: Path) -> None:
    wanted = plans(2, steps=40, first=10)
    fit(wanted, COHORTS.by_name(), store=FitStore(tmp_path / "here"))
    victim, killed = pool.workers.pop(0), threading.Event()

    def kill(done: int, _: int, __: float | None = None) -> None:
        if done >= 4 and not killed.is_set():
            os.kill(victim.pid, signal.SIGKILL)
            killed.set()

    with on_scheduler(pool.address):
        fit(wanted, COHORTS.by_name(), store=FitStore(tmp_path / "there"), progress=kill)
    assert killed.is_set()
    assert victim.wait(10) == -signal.SIGKILL
    assert stored(tmp_path / "there") == stored(tmp_path / "here")


def test_what_a_fit_raises_on_a_worker_is_raised_here(pool: Pool) -> None:
    plan = next(member for member in plans(1)[0].lineage() if member.stage == "pretrain")
    with on_scheduler(pool.address), pytest.raises(DivergedError, match="diverged"):
        fit([retrained(plan, learning_rate=1e30, clip_norm=None)], COHORTS.by_name())


def test_no_scheduler_no_worker_and_other_code_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectome_tl.training.cluster._ANSWER", 1)
    with (
        pytest.raises(OutputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"),
        on_scheduler("tcp://127.0.0.1:1"),
    ):
        pass
    with pytest.raises(UsageError, match="tcp://HOST:8786"), on_scheduler("nowhere at all"):
        pass
    with pytest.raises(DataError, match="a Dask worker has other code"), as_worker("a" * 64, lambda: "b" * 64):
        pass
    with on_scheduler(None):
        assert current_cluster() is None


@pytest.mark.parametrize("address", ["", "127.0.0.1", "tcp://host", "http://host:8786", "tcp://host:8786:9"])
def test_an_address_is_checked_before_a_client_is_made(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed.Client", None)  # its deletion would print a traceback
    with pytest.raises(UsageError, match="tcp://HOST:8786"), on_scheduler(address):
        pass


def test_tune_and_run_give_the_same_files_on_a_scheduler(pool: Pool, tmp_path: Path) -> None:
    write_cohort(COHORTS.target, tmp_path / "target")
    study = small_settings(
        model=FLAT,
        steps=1,
        source=None,
        pool=None,
        stages=last_stage(small_settings(steps=1).stages.finetune),
        splits=SplitSettings(repeats=1, outer=2, inner=2, stratum="cognitive"),
        controls=(),
        refits={"linear": 0},
        tune=TuneSettings.model_validate({"trials": 2, "space": {"core.clip": {"low": 1.5, "high": 6.0}}}),
    )
    for where, address in (("here", None), ("there", pool.address)):
        (tmp_path / where).mkdir()
        tune_study(study, tmp_path / where / "tuned", base=tmp_path, scheduler=address)
        run_study(study, tmp_path / where / "run", base=tmp_path, tuned=tmp_path / where / "tuned", scheduler=address)
    for folder in ("tuned", "run"):
        here, there = (files(tmp_path / where / folder) for where in ("here", "there"))
        assert here == there
        assert sum(name.startswith("models/") for name in here) >= 12


def files(folder: Path) -> dict[str, bytes]:
    """Every file except the log and the database, which contain times."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "log")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.suffix != ".sqlite"}


def test_a_scheduler_that_vanishes_is_an_interruption_and_not_a_hang(pool: Pool, tmp_path: Path) -> None:
    """The last test of this pool."""
    wanted = plans(2, steps=3000, first=100)
    threading.Timer(1.5, pool.stop).start()
    with on_scheduler(pool.address), pytest.raises(InterruptedRunError, match="run the same command"):
        fit(wanted, COHORTS.by_name(), store=FitStore(tmp_path / "models"))
