"""Completion scripts and schemas of settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from connectome_tl.cli.entry import app
from connectome_tl.workflows.init.examples import configs_folder
from connectome_tl.workflows.init.schema import schema_of

from .study_on_disk import Command


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_the_command(shell: str) -> None:
    found = CliRunner().invoke(app, ["completion", shell])
    assert found.exit_code == 0
    assert "connectome-tl" in found.output


def test_bash_completes_commands() -> None:
    environment = {
        **os.environ,
        "_CONNECTOME_TL_COMPLETE": "complete_bash",
        "COMP_WORDS": "connectome-tl co",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "connectome_tl.cli"], env=environment, capture_output=True, text=True, check=False
    )
    assert {"connectomes", "convert", "cohort", "completion"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("study", "example/study.yaml"),
        ("cohort", "example/cohort.yaml"),
        ("connectomes", "connectomes.yaml"),
        ("morphometry", "morphometry.yaml"),
        ("tune", "tune/images.yaml"),
    ],
)
def test_the_examples_fit_the_schema_and_a_wrong_key_does_not(kind: str, name: str) -> None:
    schema = json.loads(json.dumps(schema_of(kind)))
    jsonschema.Draft202012Validator.check_schema(schema)
    given = yaml.safe_load((configs_folder() / name).read_text("utf-8"))
    jsonschema.validate(given, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**given, "no_such_key": 1}, schema)


def test_a_schema_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "study.schema.json"
    found = CliRunner().invoke(app, ["schema", "study", "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert json.loads(out.read_text())["type"] == "object"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tune", "s.yaml", "--out", "t", "--trials", "0"), "'--trials': must be at least 1"),
        (("tune", "s.yaml", "--out", "t", "--trials", "x"), "'--trials': a whole number is needed"),
        (("completion", "foo"), "'shell': 'foo' is not one of"),
    ],
)
def test_wrong_values_of_options_are_refused_in_words(command: Command, words: tuple[str, ...], said: str) -> None:
    answer = command(*words)
    assert answer.code == 64
    assert said in answer.err


def test_a_table_given_as_settings_is_answered_with_the_command(command: Command, tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text("id,age\na,1\n")
    answer = command("cohort", tmp_path / "sheet.csv")
    assert answer.code == 64
    assert "connectome-tl init FOLDER --from TABLE" in answer.err


@pytest.mark.parametrize("words", [("--out", ""), ("--out", " "), ("--out=",)])
def test_an_empty_output_is_not_the_current_folder(
    command: Command, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("schema", "study", *words)
    assert done.code == 64
    assert "--out is empty" in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("predict", "bundle", "c.yaml", "--out"), ("cohort", "c.yaml", "--report")])
def test_an_output_never_replaces_an_input(command: Command, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: c\n")
    (tmp_path / "link.html").symlink_to("c.yaml")
    file = tmp_path / "c.yaml"
    done = command(*(file if word == "c.yaml" else word for word in words), tmp_path / "link.html")
    assert done.code == 64
    assert "names an input of the command" in done.err
    assert file.read_text() == "name: c\n"


@pytest.mark.parametrize(
    "words",
    [
        ("init", "new", "--answer", "atlas=aal90"),
        ("init", "new", "--atlas", "aal90"),
        ("cohort", "c.yaml", "--study", "s.yaml"),
    ],
)
def test_options_without_effect_are_refused(
    command: Command, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*words)
    assert done.code == 64
    assert " need" in done.err
    assert not list(tmp_path.iterdir())
