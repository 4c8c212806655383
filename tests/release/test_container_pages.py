"""The commands of docs/howto/containers.md fit the recipes, the descriptor and the command line."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from optional import needs

from connectome_tl.cli.entry import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "containers.md").read_text("utf-8")
LINES = [line for fence in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S) for line in fence.splitlines()]
WITH_VALUE = {"--volume", "--user", "--env", "--gpus", "--bind"}
OF_DOCKER, OF_APPTAINER = {"--rm"}, {"--nv"}


def started(line: str) -> tuple[dict[str, list[str]], str, list[str]]:
    """Options, image and arguments of `docker run` or `apptainer run`."""
    words = shlex.split(line)[2:]
    options: dict[str, list[str]] = {}
    while words[0].startswith("-"):
        name = words.pop(0)
        options.setdefault(name, []).append(words.pop(0) if name in WITH_VALUE else "")
    return options, words[0], words[1:]


RUNS = [line for line in LINES if line.startswith(("docker run", "apptainer run"))]


@pytest.mark.parametrize("line", RUNS)
def test_a_container_is_started_with_our_command_and_known_options(line: str) -> None:
    options, image, arguments = started(line)
    assert set(options) <= WITH_VALUE | (OF_DOCKER if line.startswith("docker") else OF_APPTAINER)
    assert image == ("connectome-tl" if line.startswith("docker") else "connectome-tl.sif")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands[arguments[0]].make_context(arguments[0], arguments[1:])
    if line.startswith("docker"):
        workdir = re.search(r"^WORKDIR (.*)$", (ROOT / "containers" / "Dockerfile").read_text("utf-8"), re.M)
        assert workdir is not None
        assert f"$PWD:{workdir[1]}" in options["--volume"]
        assert options["--user"] == ["$(id -u):$(id -g)"]  # results do not belong to root


def test_the_page_shows_both_programs_and_a_gpu() -> None:
    assert len(RUNS) >= 4
    assert any("--gpus" in line for line in RUNS)
    assert "--nv" in PAGE
    for recipe in ("containers/Dockerfile", "containers/Apptainer.def"):
        assert any(" build " in line and recipe in line for line in LINES)


@needs("boutiques")
def test_boutiques_prints_the_command_that_it_would_run(tmp_path: Path) -> None:
    example, simulate, launch = (shlex.split(line) for line in LINES if line.startswith("bosh "))
    bosh = Path(sys.executable).parent / "bosh"
    found = example.index("containers/boutiques.json")

    def ask(words: list[str]) -> str:
        words = [str(ROOT / word) if word == example[found] else word for word in words]
        done = subprocess.run([bosh, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert example[-2:] == [">", "invocation.json"]
    invocation = ask(example[1:-2])
    assert {"bids_dir", "out_dir", "level"} <= set(json.loads(invocation))
    (tmp_path / "invocation.json").write_text(invocation)
    assert re.search(r"connectome-tl connectomes \S+ \S+ (participant|group)", ask(simulate[1:]))
    assert launch[1:3] == ["exec", "launch"]  # needs Docker
