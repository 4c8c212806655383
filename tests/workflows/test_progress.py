"""What a long command says while it works."""

from __future__ import annotations

import pytest

from connectome_tl.workflows.progress import Steps


def test_without_a_terminal_each_step_and_each_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(shown=True) as steps:
        with steps.step("reading"):
            pass
        with steps.counted("fitting") as progress:
            for done in range(1, 201):
                progress(done, 200)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["reading ...", "reading: done, 0 s"]
    assert lines[2] == "fitting ..."
    assert [line.split(",")[0] for line in lines[3:-1]] == [f"fitting: {n} of 200" for n in range(20, 200, 20)]
    assert lines[-1] == "fitting: done, 0 s"


def test_nothing_is_said_when_nothing_is_to_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(shown=False) as steps, steps.step("reading"):
        pass
    assert capsys.readouterr().err == ""
