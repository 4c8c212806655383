"""The batch scripts of docs/howto/cluster.md, submitted to a local Slurm."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from postgres_server import postgres_server
from slurm_server import Slurm, slurm_server
from small_study import last_stage, small_cohorts, small_settings

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings
from connectome_tl.settings.study import SplitSettings
from connectome_tl.settings.tuning import TuneSettings

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "cluster.md"
OURS = {"--ntasks=17": "--ntasks=2", "--ntasks=16": "--ntasks=1", "--array=1-8": "--array=1-2"}  # fewer processes
SPACE = {"core.relax": {"choices": [True, False]}}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True))
        yield stack.enter_context(slurm_server(Path(folder), Path(sys.executable).parent))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small study and of the page's scripts, named after the command and option that distinguish them."""
    folder = tmp_path_factory.mktemp("cluster")
    whole = small_settings(steps=1)
    study = small_settings(
        steps=1,
        source=None,
        pool=None,
        stages=last_stage(whole.stages.finetune),
        splits=SplitSettings(repeats=1, outer=2, inner=2, stratum="cognitive"),
        controls=(),
        baselines=("prevalence",),
        refits={"linear": 0},
        tune=TuneSettings.model_validate(
            {"trials": 1, "model": "core", "space": {"core.relax": {"choices": [True, False]}}}
        ),
    )
    write_cohort(small_cohorts().target, folder / "target")
    (folder / "study.yaml").write_text(dump_settings(study))
    for script in re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE.read_text("utf-8"), re.S):
        name = "search" if " tune " in script else "nodes" if "--scheduler " in script else "study"
        for printed, used in OURS.items():
            script = script.replace(printed, used)
        (folder / f"{name}.sh").write_text(script)
    return folder


def submit(slurm: Slurm, home: Path, *words: str) -> dict[str, str]:
    """Exit code of the job, or of each task of the array, by its output."""
    job = slurm.ask("sbatch", "--parsable", *words, cwd=home)
    states = slurm.wait(job)
    outputs = {name: (home / f"slurm-{name}.out").read_text() for name in states}
    assert set(states.values()) == {"COMPLETED 0:0"}, (states, outputs)
    return outputs


def _left_in(folder: Path) -> list[str]:
    """Processes that still have this working directory after a few seconds."""
    end = time.monotonic() + 20
    while True:
        there = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "cwd").readlink() == folder:
                    there.append((process / "cmdline").read_text().replace("\0", " "))
        if not there or time.monotonic() > end:
            return there
        time.sleep(0.2)


def test_fits_go_to_the_nodes_and_later_jobs_find_the_run_finished(slurm: Slurm, home: Path) -> None:
    (_, said), *_ = submit(slurm, home, "nodes.sh").items()
    assert "Report: results/report.html" in said
    assert re.search(r"Register worker|Starting established connection", said)
    assert not _left_in(home), "scheduler and workers end with the job"
    fits = {path: path.stat().st_mtime_ns for path in (home / "results" / "models").iterdir()}
    assert len(fits) >= 4
    (line,) = re.findall(r"^sbatch --array=1-3(%1 study.sh)$", PAGE.read_text("utf-8"), re.M)
    later = submit(slurm, home, *f"--array=1-2{line}".split())
    assert len(later) == 2
    assert all("Report: results/report.html" in said and "fitting" not in said for said in later.values()), later
    assert {path: path.stat().st_mtime_ns for path in (home / "results" / "models").iterdir()} == fits


def test_the_tasks_of_an_array_search_one_database(slurm: Slurm, home: Path) -> None:
    script = home / "search.sh"
    with postgres_server() as url:
        script.write_text(script.read_text().replace("postgresql://tuner@db.example.org/trials", f"'{url}'"))
        assert len(submit(slurm, home, "search.sh")) == 2
    table = (home / "tuned" / "trials.tsv").read_text().splitlines()
    assert len(table) == 1 + 2  # one trial for each of the two folds, by any task
