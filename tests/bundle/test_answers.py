"""The output of `--json` for a finished run and its bundle has the fields listed in the guide."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from connectome_tl import cli
from connectome_tl.evaluation import planning
from tests.cli.test_terminal import KEYS, documented


def test_results_of_runs_and_bundles_are_documented(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(planning, "N_STUDIES", 4)
    for name in ("run", "older", "pool", "target"):
        shutil.copytree(home / name, tmp_path / name)
    shutil.copy(home / "study.yaml", tmp_path)
    elsewhere = home / "elsewhere" / "cohort.yaml"
    calls: dict[str, tuple[object, ...]] = {
        "run": (tmp_path / "study.yaml", "--out", tmp_path / "run"),
        "report": (tmp_path / "run",),
        "bundle": (tmp_path / "run", "--out", tmp_path / "bundle"),
        "predict": (home / "bundle", elsewhere, "--out", tmp_path / "predicted.tsv"),
        "validate": (home / "bundle", elsewhere, "--out", tmp_path / "validated"),
        "power": ("--n", "33"),
    }
    for name, words in calls.items():
        with pytest.raises(SystemExit) as left:
            cli.main([name, *map(str, words), "--json", "--quiet"])
        said = capsys.readouterr()
        assert left.value.code == 0, said.err
        (line,) = said.out.splitlines()
        found = json.loads(line)
        assert found.keys() == KEYS
        assert (found["command"], found["problems"]) == (name, [])
        assert found["result"].keys() == documented()[name] - {"forecast"}, name
        assert said.err == "", name
