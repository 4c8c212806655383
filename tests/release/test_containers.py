"""Container recipes have the steps of README and Makefile; the Boutiques descriptor has the options of the command."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from optional import needs

from connectome_tl import __version__
from connectome_tl.cli.entry import app

ROOT = Path(__file__).parents[2]
DOCKERFILE, APPTAINER = ROOT / "containers" / "Dockerfile", ROOT / "containers" / "Apptainer.def"
DESCRIPTOR = json.loads((ROOT / "containers" / "boutiques.json").read_text("utf-8"))
HADOLINT = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
KNOWN = {"FROM", "RUN", "COPY", "ENV", "WORKDIR", "ENTRYPOINT"}


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with their values."""
    lines = re.sub(r"\\\n", " ", DOCKERFILE.read_text("utf-8")).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip() and not line.startswith("#")]  # type: ignore[misc]


def sections() -> dict[str, list[str]]:
    """Sections of the Apptainer recipe with their lines; the header is ''."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in APPTAINER.read_text("utf-8").splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found[name] = []
        elif line.strip() and not line.startswith("#"):
            found[name].append(line.strip())
    return found


def values(name: str) -> list[str]:
    return [value for key, value in instructions() if key == name]


def prerequisites(target: str) -> list[str]:
    """Prerequisites of a target of the Makefile."""
    found = re.search(rf"^{re.escape(target)}:(.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert found is not None, f"the Makefile has no target {target}"
    return found[1].split()


def test_the_dockerfile_is_of_known_instructions_in_a_sound_order() -> None:
    keys = [key for key, _ in instructions()]
    assert set(keys) <= KNOWN
    assert keys[0] == "FROM"
    assert keys[-1] == "ENTRYPOINT"
    assert keys.count("FROM") == keys.count("ENTRYPOINT") == 1
    assert json.loads(values("ENTRYPOINT")[0]) == ["connectome-tl"]
    (image,) = values("FROM")
    assert re.fullmatch(r"python:\d\.\d+-slim-\w+", image)  # a fixed release, not `latest`
    for source, target in (value.split() for value in values("COPY")):
        assert (source, target[0]) == (".", "/")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path: Path) -> None:
    """It also passes the commands, which the Apptainer recipe shares, through ShellCheck."""
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text("utf-8").replace("--no-install-recommends ", ""))
    done = subprocess.run([HADOLINT, "--no-color", worse], capture_output=True, text=True, check=False)
    assert "DL3015" in done.stdout


def test_packages_are_installed_in_the_layer_that_reads_their_lists() -> None:
    """A separate layer would use an old list from the cache of the builder (hadolint DL3009, DL3015, DL3059)."""
    layers = [value for value in values("RUN") if "apt-get" in value]
    assert len(layers) == 1
    steps = [step.split() for step in layers[0].split("&&")]
    assert [step[:2] for step in steps] == [["apt-get", "update"], ["apt-get", "install"], ["rm", "-rf"]]
    assert {"--yes", "--no-install-recommends"} <= set(steps[1])
    assert steps[2][2] == "/var/lib/apt/lists/*"


def test_both_recipes_run_the_same_steps() -> None:
    parts = sections()
    assert parts["post"] == values("RUN")
    assert parts[""] == ["Bootstrap: docker", f"From: {values('FROM')[0]}"]
    assert parts["files"] == values("COPY")
    assert [line.removeprefix("export ") for line in parts["environment"]] == values("ENV")
    assert parts["runscript"] == ['exec connectome-tl "$@"']


def test_the_steps_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    said = re.search(r"machine with Python (\d\.\d+)\b.*`make`", readme)
    assert said is not None
    assert values("FROM")[0].startswith(f"python:{said[1]}-")
    minimum = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert minimum == f">={said[1]}"
    steps = [shlex.split(step) for value in values("RUN") for step in value.split("&&")]
    packages = [word for step in steps if step[:2] == ["apt-get", "install"] for word in step[2:] if word[0] != "-"]
    assert packages == ["make"]  # exactly what the README requires
    targets = [step[-1] for step in steps if step[0] == "make"]
    assert targets == prerequisites("demo")  # README: `make demo` installs, then runs
    assert targets == ["install"]
    assert "ENV PATH=/opt/connectome-tl/.venv/bin:$PATH" in DOCKERFILE.read_text("utf-8")


@needs("spython")
def test_another_parser_reads_the_same_steps_from_both_recipes() -> None:
    from spython.main.parse.parsers import DockerParser, SingularityParser

    (docker,) = DockerParser(str(DOCKERFILE)).parse().values()
    (apptainer,) = SingularityParser(str(APPTAINER)).parse().values()
    assert apptainer.fromHeader == docker.fromHeader == values("FROM")[0]
    assert set(apptainer.install) == set(values("RUN"))
    assert set(values("RUN")) <= set(docker.install)
    assert set(apptainer.environ) == set(docker.environ) == set(values("ENV"))
    assert apptainer.files[0].split() == docker.files[0] == values("COPY")[0].split()
    assert apptainer.cmd == 'exec connectome-tl "$@"'


def test_recipes_are_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for command in ("docker build --file containers/Dockerfile", "apptainer build"):
        assert command in readme
    for file in (DOCKERFILE, APPTAINER):
        built = next(line for line in file.read_text("utf-8").splitlines() if " build " in line)
        assert built.removeprefix("# ") in readme


@pytest.mark.slow
def test_the_image_builds_and_answers_where_docker_is(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker daemon")
    name = "connectome-tl-test"
    subprocess.run([docker, "build", "--file", DOCKERFILE, "--tag", name, ROOT], check=True)
    said = subprocess.run([docker, "run", "--rm", name, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"connectome-tl {__version__}"


def options() -> dict[str, Any]:
    """Parameters of `connectomes` by option, or by name for arguments."""
    command = typer.main.get_command(app).commands["connectomes"]  # type: ignore[attr-defined]
    named = {}
    for one in command.params:
        if one.param_type_name == "argument":
            named[one.name] = one
        else:
            named |= {option: one for option in one.opts if option.startswith("--")}
    return named


def test_the_descriptor_has_every_option_of_the_command_and_no_other() -> None:
    given = {item.get("command-line-flag", item["id"]): item for item in DESCRIPTOR["inputs"]}
    known = options()
    assert given.keys() == known.keys()
    for name, item in given.items():
        assert (item["type"] == "Flag") is bool(getattr(known[name], "is_flag", False)), name
        if "command-line-flag" not in item:
            assert item["value-key"] in DESCRIPTOR["command-line"]
    assert DESCRIPTOR["tool-version"] == __version__
    assert DESCRIPTOR["schema-version"] == "0.5"


@needs("boutiques")
def test_boutiques_itself_accepts_the_descriptor() -> None:
    from boutiques.validator import validate_descriptor

    assert validate_descriptor(DESCRIPTOR)["name"] == DESCRIPTOR["name"]
    with pytest.raises(Exception, match="command-line"):
        validate_descriptor({key: value for key, value in DESCRIPTOR.items() if key != "command-line"})


def test_the_descriptor_is_consistent() -> None:
    ids = [item["id"] for item in DESCRIPTOR["inputs"]]
    keys = [item["value-key"] for item in DESCRIPTOR["inputs"]]
    assert len(set(ids)) == len(ids)
    assert DESCRIPTOR["command-line"] == " ".join(["connectome-tl connectomes", *keys])
    for file in DESCRIPTOR["output-files"]:
        assert any(key in file["path-template"] for key in keys)
    from connectome_tl import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert {item["code"] for item in DESCRIPTOR["error-codes"]} == codes


def test_the_command_line_of_the_descriptor_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectome_tl.cli import main
    from connectome_tl.workflows.scans.folder import FolderRun

    seen: dict[str, Any] = {}

    def record(bids_dir: Path, out_dir: Path, **asked: Any) -> FolderRun:
        seen.update(asked, bids_dir=bids_dir, out_dir=out_dir)
        return FolderRun((), (), None, Path("index.html"))

    monkeypatch.setattr("connectome_tl.workflows.scans.connectomes.build_connectomes", record)
    line = DESCRIPTOR["command-line"]
    for item in DESCRIPTOR["inputs"]:
        example = str(item.get("value-choices", [2 if item["type"] == "Number" else "here"])[0])
        value = "" if item["type"] == "Flag" else example
        line = line.replace(item["value-key"], f"{item.get('command-line-flag', '')} {value}")
    with pytest.raises(SystemExit) as left:
        main(shlex.split(line)[1:])
    assert left.value.code == 0
    assert (seen["bids_dir"], seen["out_dir"]) == (Path("here"), Path("here"))
    assert (seen["participants"], seen["n_workers"], seen["dry_run"]) == (["here"], 2, True)
