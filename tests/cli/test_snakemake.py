"""The workflow of configs/snakemake, run by Snakemake on this machine and on a local Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from slurm_server import slurm_server

from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom

RECIPES = Path(__file__).parents[2] / "configs" / "snakemake"
COMMANDS = Path(sys.executable).parent
HEAD = PhantomSettings(n_regions=6, n_edges=5, half_axes=(24.0, 28.0, 22.0), voxel=4.0, region_radius=6.0)
SETTINGS = """\
name: phantom
labels: bids/template/tpl-Phantom_atlas-Phantom_dseg.tsv
parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz
tracking: {n_streamlines: 300}
preprocessing: {denoise: none, motion: none}
"""
PATH = os.pathsep.join([str(COMMANDS), os.environ["PATH"], str(COMMANDS.parent / "snakemake" / "bin")])
SNAKEMAKE = shutil.which("snakemake", path=PATH)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SNAKEMAKE is None, reason="no Snakemake here; `make snakemake` installs it"),
]


def ran(folder: Path, *words: str, code: int = 0, **environment: str) -> str:
    """Output of a program in a folder."""
    environ = {**os.environ, "PATH": PATH, "XDG_CACHE_HOME": str(folder), **environment}
    done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def workflow(folder: Path, *words: str, out: str, **environment: str) -> str:
    """Output of Snakemake, with the page's command."""
    config = ("--config", "bids=bids", f"out={out}", "settings=connectomes.yaml")
    return ran(folder, str(SNAKEMAKE), "-s", str(RECIPES / "Snakefile"), *words, *config, **environment)


def files(folder: Path) -> dict[str, bytes]:
    """Every file except the marks of finished jobs."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.suffix != ".done"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans, one of them without b-values, and the results of one direct call in `direct`."""
    folder = tmp_path_factory.mktemp("a study")
    write_phantom(folder / "bids", n_subjects=2, n_sessions=1, settings=HEAD)
    (folder / "bids" / "sub-02" / "ses-01" / "dwi" / "sub-02_ses-01_dwi.bval").unlink()
    (folder / "connectomes.yaml").write_text(SETTINGS)
    call = ("connectome-tl", "connectomes", "bids", "direct", "participant", "--config", "connectomes.yaml")
    assert "1 of 2 scans failed" in ran(folder, *call, code=66)
    return folder


def test_jobs_give_the_files_of_one_call_and_finished_ones_are_not_repeated(folder: Path) -> None:
    said = workflow(folder, "--cores", "2", out="by jobs")
    assert "4 of 4 steps (100%) done" in said
    assert files(folder / "by jobs") == files(folder / "direct")
    assert "Nothing to be done" in workflow(folder, "--cores", "2", out="by jobs")


def test_slurm_runs_one_job_for_each_scan(folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as place,  # short paths, for sockets
        slurm_server(Path(place), COMMANDS) as slurm,
    ):
        # Jobs of the plugin lose the variable that says where the configuration of this Slurm is.
        srun = Path(place) / "bin" / "srun"
        srun.parent.mkdir()
        real = shutil.which("srun", path=slurm.environment["PATH"])
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={slurm.environment["SLURM_CONF"]} exec {real} "$@"\n')
        srun.chmod(0o755)
        profile = folder / "profile"
        profile.mkdir()
        text = (RECIPES / "slurm" / "config.yaml").read_text()
        (profile / "config.yaml").write_text(text.replace("CHANGE_ME", "all"))
        options = "--slurm-status-command squeue --slurm-init-seconds-before-status-checks 1"
        faster = "--seconds-between-status-checks 2 --latency-wait 5"
        words = ("--workflow-profile", str(profile), *options.split(), *faster.split())
        path = os.pathsep.join([str(srun.parent), PATH, slurm.environment["PATH"]])
        said = workflow(folder, *words, out="by slurm", **{**slurm.environment, "PATH": path})
    assert "4 of 4 steps (100%) done" in said
    assert said.count("has been submitted with SLURM jobid") == 3
    assert files(folder / "by slurm") == files(folder / "direct")
