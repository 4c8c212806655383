"""Output of commands: one JSON object for programs, the last line with --quiet, no control codes without a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from connectome_tl import __version__
from connectome_tl.atlas import atlas_names
from connectome_tl.cli.entry import app
from connectome_tl.cli.terminal import Terminal
from connectome_tl.workflows.progress import Steps, bar

from .study_on_disk import Answer, Command

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "scripts.md"
FOR_PROGRAMS_ALREADY = {"completion", "schema"}
KEYS = {"command", "version", "exit_code", "result", "problems"}


def commands() -> dict[str, Any]:
    """Every command by its name, including subcommands such as `atlas list`."""
    found: dict[str, Any] = {}
    for name, one in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(one, "commands", None)
        found |= {name: one} if below is None else {f"{name} {inner}": other for inner, other in below.items()}
    return found


def documented() -> dict[str, set[str]]:
    """Fields of `result` by command, as listed in the guide, for all kinds of call."""
    rows = re.findall(r"^\| `([a-z ]+)` \| (.*) \|$", PAGE.read_text("utf-8"), re.M)
    return {name: set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", fields))) for name, fields in rows}


def answered(answer: Answer) -> dict[str, Any]:
    lines = answer.out.splitlines()
    assert len(lines) == 1, answer.out
    found = json.loads(lines[0])
    assert found.keys() == KEYS
    assert found["version"] == __version__
    assert found["exit_code"] == answer.code
    return found


def test_every_command_can_be_quiet_and_answer_a_program() -> None:
    for name, one in commands().items():
        options = {option for param in one.params for option in param.opts}
        assert ({"--json", "--quiet"} <= options) is (name not in FOR_PROGRAMS_ALREADY), name


def test_the_guide_lists_the_fields_of_every_command() -> None:
    assert documented().keys() - KEYS == commands().keys() - FOR_PROGRAMS_ALREADY


@pytest.mark.parametrize("name", sorted(commands().keys() - FOR_PROGRAMS_ALREADY))
def test_wrong_usage_of_any_command_is_an_answer_too(command: Command, name: str) -> None:
    answer = command(*name.split(), "--json", "--no-such-option")
    found = answered(answer)
    assert (answer.code, found["result"]) == (64, None)
    assert "--no-such-option" in found["problems"][0]["what"]
    assert "--no-such-option" in answer.err


def test_a_fault_in_settings_names_file_and_line(command: Command, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("target: {cohort: cohort.yaml}\nsplits:\n  repeat: 3\n")
    answer = command("run", study, "--out", tmp_path / "run", "--json")
    (problem,) = answered(answer)["problems"]
    assert (problem["file"], problem["line"]) == (str(study), 3)
    assert problem["remedy"] == "Did you mean repeats?"
    assert f"file {study}, line 3: splits.repeat: unknown key" in answer.err
    study.write_text("target: {cohort: cohort.yaml}\nsplits: [3\n")
    (problem,) = answered(command("run", study, "--out", tmp_path / "run", "--json"))["problems"]
    assert problem["line"] == 3


def test_what_is_printed_is_documented(command: Command, study: Path, tmp_path: Path) -> None:
    calls: dict[str, tuple[object, ...]] = {
        "atlas list": (),
        "atlas show": ("aal90",),
        "init": (tmp_path / "settings",),
        "cohort": (study.parent / "target" / "cohort.yaml",),
        "convert": (tmp_path / "one.csv", "--out", tmp_path / "one.tsv", "--labels", tmp_path / "labels.tsv"),
    }
    (tmp_path / "one.csv").write_text("0,1\n1,0\n")
    (tmp_path / "labels.tsv").write_text("index\tname\n1\ta\n2\tb\n")
    for name, words in calls.items():
        answer = command(*name.split(), *words, "--json")
        assert answer.code == 0, answer.err
        found = answered(answer)
        assert found["command"] == name
        assert found["result"].keys() == documented()[name], name


def test_quiet_leaves_the_last_line(command: Command, study: Path) -> None:
    loud, quiet = command("atlas", "list"), command("atlas", "list", "--quiet")
    assert (quiet.out, quiet.err) == (f"{len(atlas_names())} atlases\n", "")
    assert loud.out.endswith(quiet.out)
    said = command("cohort", study.parent / "target" / "cohort.yaml", "-q")
    assert re.fullmatch(r".*cohort.yaml: 20 subjects, 8 regions, \d+ errors?, \d+ warnings?\n", said.out)
    assert said.err == ""


def test_quiet_leaves_errors(command: Command) -> None:
    answer = command("cohort", "absent.yaml", "--quiet")
    assert (answer.code, answer.out) == (66, "")
    assert answer.err.startswith("Error: file absent.yaml")


class Screen(io.StringIO):
    """A stream that reports to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for stream, changed, coloured in ((Screen(), False, True), (io.StringIO(), False, False), (Screen(), True, False)):
        if changed:
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", stream)
        Terminal().say("failed", colour=typer.colors.RED)
        assert ("\x1b" in stream.getvalue()) is coloured


def test_a_bar_is_for_terminals_whatever_the_environment_forces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with Steps(shown=True) as steps, steps.counted("fitting") as progress:
        progress(1, 2)
    for _ in bar()([Path("x")] * 300, "reading"):
        pass
    said = capsys.readouterr()
    assert "fitting: 1 of 2" in said.err
    assert "\x1b[2K" not in said.err + said.out
    assert "\x1b[?25l" not in said.err + said.out
    screen = Screen()
    assert list(bar(Console(file=screen, force_terminal=True))([Path("x")] * 300, "reading")) == [Path("x")] * 300
    assert "\x1b[" in screen.getvalue()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_on_a_terminal_without_colour_nothing_is_coloured() -> None:
    ours, theirs = os.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
    line = [sys.executable, "-m", "connectome_tl.cli", "cohort", "absent.yaml"]
    done = subprocess.run(line, stdout=theirs, stderr=theirs, env=environment, check=False)
    os.close(theirs)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 66
    assert "Error: file absent.yaml" in said
    assert not re.search(r"\x1b\[[0-9;]*m", said)
