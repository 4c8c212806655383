"""A database of trials that another program has locked: said at once, waited for, and refused in the end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuning_cases import tuned_study, write_study

from connectome_tl.errors import OutputError
from connectome_tl.evaluation.tuning.storage import is_locked, wait_while_locked
from connectome_tl.workflows.study.tune import tune_study


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "trials.sqlite"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("CREATE TABLE other (number INTEGER)")
    connection.execute("BEGIN EXCLUSIVE")
    yield file
    connection.close()


def test_a_lock_of_another_program_is_noticed_and_refused_after_the_wait(locked: Path) -> None:
    url = f"sqlite:///{locked}"
    assert is_locked(url, 0.1)
    with pytest.raises(OutputError, match="locked by another program"):
        wait_while_locked(url, 0.1)


@pytest.mark.parametrize("url", ["sqlite:///absent.sqlite", "postgresql://host/trials", "no url"])
def test_what_is_no_locked_file_is_not_waited_for(url: str) -> None:
    assert not is_locked(url)


def test_a_file_that_is_no_database_is_not_locked(tmp_path: Path) -> None:
    file = tmp_path / "trials.sqlite"
    file.write_text("this is text, not a database; " * 100)
    assert not is_locked(f"sqlite:///{file}")


def test_a_search_says_that_it_waits(locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []

    def refuse(url: str) -> None:
        waited.append(url)
        raise OutputError("locked")

    monkeypatch.setattr("connectome_tl.evaluation.tuning.storage.wait_while_locked", refuse)
    study = write_study(tmp_path / "study", tuned_study(trials=1))
    with pytest.raises(OutputError, match="locked"):
        tune_study(study, tmp_path / "out", storage=f"sqlite:///{locked}")
    assert waited == [f"sqlite:///{locked}"]
