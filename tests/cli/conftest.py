"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .study_on_disk import Answer, Command, write_study


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("run", "study.yaml", ...)`, in this process."""
    from connectome_tl import cli

    monkeypatch.setenv("CONNECTOME_TL_DEBUG", "")  # put back after the test: --debug sets it
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)  # the test runner keeps its own handlers

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Answer(left.value.code, said.out, said.err)

    return call


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "data")
