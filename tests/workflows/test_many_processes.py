"""Several processes, kills, full disks: the right exit code, no remaining process, no overwritten dataset."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectome_tl.errors import ConnectomeTLError, InternalError, InterruptedRunError, OutputError, UsageError
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.track.mrtrix import changed_by_mrtrix
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.folder import alone
from connectome_tl.workflows.scans import pool
from connectome_tl.workflows.scans.connectomes import build_connectomes
from connectome_tl.workflows.scans.scan import Done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Names of two empty scans."""
    for subject in ("sub-01", "sub-02"):
        for ending in ("_dwi.nii.gz", "_dwi.bval", "_dwi.bvec", "_seg-x_dseg.nii.gz"):
            file = tmp_path / "bids" / subject / "dwi" / f"{subject}{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "raw"}')
    (tmp_path / "bids" / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    return tmp_path / "bids"


def made_by(make: Callable[[Scan], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every scan is processed by `make`; returns the names of started ones."""
    begun: list[str] = []

    def process(scan: Scan, _: object) -> Done:
        begun.append(scan.name)
        make(scan)
        return Done(scan.name, "computed", {})

    monkeypatch.setattr("connectome_tl.workflows.scans.pool.process_scan", process)
    return begun


def test_results_are_never_written_over_a_dataset(folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (tmp_path / "qsiprep").mkdir()
    (tmp_path / "qsiprep" / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "QSIPrep"}]}')
    for out in (folder, folder / "sub-01" / "results", tmp_path / "qsiprep"):
        with pytest.raises(UsageError, match=str(out)):
            build_connectomes(folder, out)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert len(list((tmp_path / "qsiprep").iterdir())) == 1


@pytest.mark.parametrize(
    ("error", "kind", "goes_on"),
    [
        (OutputError("could not write"), OutputError, False),
        (OSError(errno.ENOSPC, "No space left on device"), OutputError, False),
        (MemoryError("30 GB"), InterruptedRunError, True),
        (ValueError("a bug"), InternalError, True),
    ],
)
def test_a_failure_that_is_not_the_scans_has_its_own_exit_code(
    error: Exception, kind: type[ConnectomeTLError], goes_on: bool, folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def make(scan: Scan) -> None:
        if scan.name == "sub-01":
            raise error

    begun = made_by(make, monkeypatch)
    with pytest.raises(kind, match=r"sub-01|could not write"):
        build_connectomes(folder, tmp_path / "out")
    assert begun == ["sub-01", "sub-02"][: 1 + goes_on]


def test_a_scan_that_another_process_makes_is_waited_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = made_by(lambda _: None, monkeypatch)
    run = threading.Thread(target=build_connectomes, args=(folder, tmp_path / "out"))
    with alone(tmp_path / "out", "sub-02"):
        run.start()
        run.join(0.5)
        assert begun == ["sub-01"]
        with alone(tmp_path / "out", "sub-02", wait=False) as held:
            assert not held
    run.join(10)
    assert begun == ["sub-01", "sub-02"]


def _workers_of(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]


def _has_begun(worker: int) -> bool:
    """Whether a worker has read its arguments: it then has a thread that waits for the end of its parent."""
    return len(list(Path(f"/proc/{worker}/task").iterdir())) > 1


def _until(said: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not said():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes as Linux shows them")
def test_killed_or_interrupted_no_worker_is_left_and_the_exit_code_says_run_again(tmp_path: Path) -> None:
    small = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)
    root = write_phantom(tmp_path / "bids", n_subjects=2, n_sessions=2, settings=small)
    (root / "config.yaml").write_text(
        "parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz\n"
    )
    command = [sys.executable, "-m", "connectome_tl.cli", "connectomes", str(root), str(tmp_path / "out")]
    command += ["participant", "--config", str(root / "config.yaml"), "--n-cpus", "2"]
    for victim, number, code, said in (
        ("worker", signal.SIGKILL, 75, "a worker was killed"),
        ("main", signal.SIGTERM, 75, "interrupted"),
        ("main", signal.SIGKILL, -signal.SIGKILL, ""),
    ):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        _until(lambda p=process.pid: len(_workers_of(p)) == 2)  # type: ignore[misc]
        workers = _workers_of(process.pid)
        if number == signal.SIGKILL:  # nothing can hold it while a worker starts
            _until(lambda w=workers: all(map(_has_begun, w)))  # type: ignore[misc]
        os.kill(workers[0] if victim == "worker" else process.pid, number)
        assert process.wait(timeout=60) == code
        _until(lambda w=workers: not any(Path(f"/proc/{p}/fd/0").exists() for p in w))  # type: ignore[misc]
        assert process.stderr is not None
        with process.stderr as stream:
            text = stream.read()
        assert said in text
        assert "Traceback" not in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_until_all_workers_have_their_arguments(
    number: signal.Signals, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Interrupted(BaseException): ...

    def interrupt(*_: object) -> None:
        raise Interrupted

    submit = pool.ProcessPoolExecutor.submit

    def submit_and_interrupt(*arguments: Any, **named: Any) -> Any:
        signal.raise_signal(number)
        started.append(submit(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(pool.ProcessPoolExecutor, "submit", submit_and_interrupt)
    other = get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(Interrupted):
            build_connectomes(folder, tmp_path / "out", n_workers=2)
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert len(started) == 2
    assert other.is_alive()  # other processes of the calling program go on
    other.kill()
    other.join()


_INTERRUPTED = """
import os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from connectome_tl.workflows.scans.pool import _begin, _signals_held
if __name__ == "__main__":
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background start with it ignored
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_begin)
    try:
        with _signals_held():
            waiting = [pool.submit(abs, -i) for i in range(2)]
            os.killpg(0, signal.SIGINT)
    except KeyboardInterrupt:
        print("interrupted", [one.result() for one in waiting])
    pool.shutdown()
"""


@pytest.mark.slow
def test_an_interrupt_of_the_terminal_reaches_the_main_process_only(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(_INTERRUPTED)
    command = [sys.executable, "main.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("interrupted [0, 1]\n", "")


def test_a_handler_that_python_did_not_install_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[int] = []
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda number, _: installed.append(number))
    with pool._signals_held():
        pass
    assert installed == []


def test_a_killed_command_of_mrtrix_is_not_bad_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dwi = Dwi(np.ones((2, 2, 2, 1)), np.eye(4), np.zeros(1), np.zeros((1, 3)), np.ones((2, 2, 2), bool))
    for script, kind in (("kill -KILL $$", InterruptedRunError), ("echo No space left >&2; exit 1", OutputError)):
        (tmp_path / "dwidenoise").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "dwidenoise").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        with pytest.raises(kind, match="dwidenoise"):
            changed_by_mrtrix("dwidenoise", dwi)
