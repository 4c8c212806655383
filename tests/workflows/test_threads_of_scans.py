"""Cores of a run: the number of parallel scans times threads per scan never exceeds `--n-cpus`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from connectome_tl.config import parse_settings
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.read.inputs import Scan, take_inventory
from connectome_tl.imaging.track import mrtrix
from connectome_tl.settings.imaging import AnyScanSettings, ConnectomesSettings
from connectome_tl.workflows.scans import folder as folder_module
from connectome_tl.workflows.scans import forecast as forecast_module
from connectome_tl.workflows.scans import study as study_module
from connectome_tl.workflows.scans.planning import plan_folder
from connectome_tl.workflows.scans.result import Plan


def made(root: Path, n: int) -> Path:
    for k in range(1, n + 1):
        stem = root / f"sub-{k:02d}" / "dwi" / f"sub-{k:02d}"
        write_volume(f"{stem}_dwi.nii.gz", np.ones((4, 4, 4, 3), dtype=np.float32), np.eye(4))
        Path(f"{stem}_dwi.bval").write_text("0 1000 1000\n")
        Path(f"{stem}_dwi.bvec").write_text("0 1 0\n0 0 1\n0 0 0\n")
        write_volume(f"{stem}_seg-x_dseg.nii.gz", np.ones((4, 4, 4), dtype=np.int16), np.eye(4))
    return root


@pytest.mark.parametrize(("n_cpus", "n", "threads"), [(1, 1, 1), (4, 1, 4), (4, 2, 2), (4, 3, 1), (2, 3, 1)])
def test_what_runs_at_once_fits_the_cores(
    n_cpus: int, n: int, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def noted(scans: list[Scan], plan: Plan[AnyScanSettings], n_workers: int) -> list[object]:
        asked.append((min(n_workers, len(scans)), plan.n_threads))
        return []

    monkeypatch.setattr(folder_module, "process_scans", noted)
    inventory = take_inventory(made(tmp_path / "bids", n))
    plan, scans = plan_folder(parse_settings("", ConnectomesSettings), tmp_path, inventory, tmp_path / "out")
    folder_module.process_folder(plan, scans, inventory, n_cpus)
    ((at_once, each),) = asked
    assert each == threads
    assert at_once * each <= n_cpus


@pytest.mark.parametrize(("n_threads", "said"), [(1, "0"), (3, "3")])  # 0 in MRtrix: no additional thread
def test_programs_of_mrtrix_get_the_threads_of_their_scan(
    n_threads: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def noted(command: list[str], cwd: Path, *_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        write_volume(cwd / "out.nii", np.ones((4, 4, 4, 2), dtype=np.float32), np.eye(4))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(mrtrix.shutil, "which", lambda name: name)
    monkeypatch.setattr(mrtrix, "run_to_end", noted)
    data = np.ones((4, 4, 4, 2), dtype=np.float32)
    dwi = Dwi(data, np.eye(4), np.array([0.0, 1000.0]), np.eye(3)[:2], np.ones((4, 4, 4), dtype=bool))
    mrtrix.changed_by_mrtrix("dwidenoise", dwi, n_threads)
    ((program, *words),) = commands
    assert program == "dwidenoise"
    assert words[words.index("-nthreads") + 1] == said


def test_forecasts_use_the_threads_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def noted(plan: Plan[AnyScanSettings], _: Scan) -> tuple[float, float]:
        asked.append(plan.n_threads)
        return 1.0, 1.0

    monkeypatch.setattr(forecast_module, "cost_of_scan", noted)
    monkeypatch.setattr(folder_module, "process_scans", lambda *_: [])
    inventory = take_inventory(made(tmp_path / "bids", 2))
    plan, scans = plan_folder(parse_settings("", ConnectomesSettings), tmp_path, inventory, tmp_path / "out")
    folder_module.process_folder(plan, scans, inventory, 6, tell=str)
    assert set(asked) == {3}
    asked.clear()
    folder_module.preview(plan, scans, inventory, 6)
    assert set(asked) == {3}
    asked.clear()
    monkeypatch.setattr(study_module, "planned", lambda _: (None, plan, scans, inventory))
    study_module.forecast_of(SimpleNamespace(settings=plan.settings), 6)  # type: ignore[arg-type]
    assert set(asked) == {3}
