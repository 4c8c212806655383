"""The recipes for clusters call existing commands with existing options."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from connectome_tl.workflows.scans.folder import FolderRun

from .study_on_disk import Command

CONFIGS = Path(__file__).parents[2] / "configs"
BABS = CONFIGS / "babs" / "connectome_tl.yaml"
SNAKEFILE = CONFIGS / "snakemake" / "Snakefile"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of the workflow, recorded instead of executed."""
    calls: list[dict[str, Any]] = []

    def record(bids_dir: Path, out_dir: Path, **options: Any) -> FolderRun:
        calls.append({"bids_dir": bids_dir, "out_dir": out_dir, **options})
        return FolderRun((), (), None, Path("index.html"))

    monkeypatch.setattr("connectome_tl.workflows.scans.connectomes.build_connectomes", record)
    return calls


def test_the_babs_recipe_passes_options_that_exist(command: Command, asked: list[dict[str, Any]]) -> None:
    recipe = yaml.safe_load(BABS.read_text())
    line = []
    for option, value in recipe["bids_app_args"].items():  # as BABS writes them into its job
        named = {"$SUBJECT_SELECTION_FLAG": (value, "sub-01"), "$SESSION_SELECTION_FLAG": (value, "ses-01")}
        line += shlex.split(" ".join(named.get(option, (option, value or ""))).replace("${PWD}", "/a folder"))
    answer = command("connectomes", "inputs", "outputs", "participant", *line)
    assert answer.code == 0, answer.err
    assert (asked[0]["participants"], asked[0]["sessions"]) == (["sub-01"], ["ses-01"])
    assert asked[0]["config"] == Path("/a folder/code/connectomes.yaml")
    assert {"input_datasets", "zip_foldernames", "cluster_resources", "script_preamble", "job_compute_space"} <= set(
        recipe
    )


def test_the_snakefile_passes_options_that_exist(command: Command, asked: list[dict[str, Any]]) -> None:
    text = SNAKEFILE.read_text()
    lines = re.findall(r'shell:\n\s+"(connectome-tl connectomes .*)"\n?\s*(?:" \{options\} ")?', text)
    sessions = re.findall(r'session=.*f"(.*?) \{', text)
    settings = re.findall(r'options = f"(.*?) \{', text)
    assert (len(lines), len(sessions), len(settings)) == (2, 1, 1)
    for line in lines:
        filled = line.replace("{params.session}", f"{sessions[0]} ses-01").replace(" {options} ", "")
        words = shlex.split(re.sub(r"\{.*?\}", "filled", filled))[1:]
        answer = command(*words, settings[0], "settings.yaml")
        assert answer.code == 0, answer.err
    assert (asked[0]["sessions"], asked[1]["participants"]) == (["ses-01"], ())


@pytest.mark.parametrize(
    ("code", "recorded", "left"),
    [(65, True, 0), (66, True, 0), (66, False, 66), (75, True, 75), (70, False, 70), (0, False, 0)],
)
@pytest.mark.parametrize("subject", ["sub-01", "sub-CTL01"])
def test_a_job_succeeds_on_bad_input_only_if_the_scan_is_recorded_as_failed(
    tmp_path: Path, code: int, recorded: bool, left: int, subject: str
) -> None:
    """Exit code 66 of a missing settings file must not mark every scan as done; `id_prefix` renames scans."""
    (block,) = re.findall(r"^UNLESS_BAD_INPUT = \((.*?)^\)", SNAKEFILE.read_text(), re.M | re.S)
    guard = "".join(ast.literal_eval(line.strip()) for line in block.strip().splitlines())
    (record,) = re.findall(r"record=lambda w: str\((.*)\),\n", SNAKEFILE.read_text())
    pattern = str(eval(record, {"out": Path("out"), "SCANS": {"x": ("sub-01",)}, "w": SimpleNamespace(name="x")}))
    filled = guard.replace("{out:q}", "out").replace("{params.record:q}", shlex.quote(pattern))
    filled = filled.replace("{{", "{").replace("}}", "}")
    for other in ("sub-02", subject):
        (tmp_path / "out" / other / "dwi").mkdir(parents=True)
    (tmp_path / "out" / "sub-02" / "dwi" / "sub-02_failure.json").touch()
    if recorded:
        (tmp_path / "out" / subject / "dwi" / f"{subject}_failure.json").touch()
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", f"(exit {code}) {filled}"], cwd=tmp_path, check=False)
    assert done.returncode == left


@pytest.mark.slow
def test_snakemake_plans_one_job_for_each_scan_and_one_for_the_cohort(tmp_path: Path) -> None:
    snakemake = shutil.which("snakemake")
    if snakemake is None:
        pytest.skip("Snakemake is not installed")
    for place in ("sub-01/ses-01", "sub-01/ses-02", "sub-02"):
        folder = tmp_path / "bids" / place / "dwi"
        folder.mkdir(parents=True)
        (folder / f"{place.replace('/', '_')}_dwi.nii.gz").touch()
    call = [snakemake, "-s", str(SNAKEFILE), "--dry-run", "--cores", "1", "--printshellcmds", "--config"]
    made = subprocess.run([*call, "bids=bids", "out=out"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    jobs = re.findall(r"connectome-tl (connectomes bids out participant.*?) *\|\|", made.stdout + made.stderr)
    assert sorted(" ".join(job.split()[4:]) for job in jobs) == [
        "", "--participant-label sub-01 --session-id ses-01", "--participant-label sub-01 --session-id ses-02",
        "--participant-label sub-02",
    ]  # fmt: skip
