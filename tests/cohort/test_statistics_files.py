"""Tables of Stata and SPSS: the cells that their own export to text shows, or one message."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError

TABLE = pd.DataFrame(
    {
        "id": ["001", "002", "003"],
        "sex": [1.0, 2.0, np.nan],
        "weight": np.array([3.2, 1.15, np.nan], dtype="float32"),
        "cog": [95, 110, 70],
        "visit": [datetime.datetime(2020, 3, 1), datetime.datetime(2021, 12, 31), None],
    }
)
LABELS = {"sex": {1: "male", 2: "female"}, "cog": {70: "floor"}}
CELLS = [
    ["001", "male", "3.2", "95", "2020-03-01"],
    ["002", "female", "1.15", "110", "2021-12-31"],
    ["003", "", "", "floor", ""],
]


def stata(path: Path, table: pd.DataFrame = TABLE, labels: dict[str, dict[int, str]] = LABELS) -> Path:
    table.to_stata(path, write_index=False, value_labels=labels, version=118)
    return path


def spss(path: Path, **more: object) -> Path:
    pyreadstat = pytest.importorskip("pyreadstat")
    pyreadstat.write_sav(TABLE.round({"weight": 3}), str(path), variable_value_labels=LABELS, **more)
    return path


def test_a_stata_file_is_read_with_its_labels_and_typed_digits(tmp_path: Path) -> None:
    notes: list[str] = []
    for name in ("t.dta", "t.csv"):  # recognised by content, not by name
        table = read_table(stata(tmp_path / name), notes)
        assert table.columns.tolist() == TABLE.columns.tolist()
        assert table.to_numpy().tolist() == CELLS
    assert notes[0] == "t.dta: codes were replaced by their labels: sex, cog"


@pytest.mark.parametrize("version", [114, 117, 118, 119])
def test_stata_files_of_all_releases_are_read(tmp_path: Path, version: int) -> None:
    TABLE.to_stata(tmp_path / "t.dta", write_index=False, value_labels=LABELS, version=version)  # type: ignore[call-overload]
    assert read_table(tmp_path / "t.dta").to_numpy().tolist() == CELLS


def test_an_spss_file_is_read_with_its_labels_and_declared_missing_values(tmp_path: Path) -> None:
    notes: list[str] = []
    file = spss(tmp_path / "t.sav", missing_ranges={"cog": [110]})
    rows = read_table(file, notes).to_numpy().tolist()
    assert [row[:2] for row in rows] == [row[:2] for row in CELLS]
    assert [row[3] for row in rows] == ["95", "", "floor"]
    assert [row[4] for row in rows] == ["2020-03-01", "2021-12-31", ""]
    assert notes == ["t.sav: codes were replaced by their labels: sex, cog"]


def test_without_pyreadstat_an_spss_file_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    (tmp_path / "t.sav").write_bytes(b"$FL2" + bytes(200))
    with pytest.raises(UsageError, match=r"connectome-tl\[spss\].*\.csv"):
        read_table(tmp_path / "t.sav")


def test_a_crash_of_the_reader_of_spss_files_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random changes of bytes crash pyreadstat 1.3."""
    (tmp_path / "pyreadstat.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    (tmp_path / "t.sav").write_bytes(b"$FL2" + bytes(200))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyreadstat", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with pytest.raises(DataError, match=r"this SPSS file cannot be read: damaged.*\.csv file"):
        read_table(tmp_path / "t.sav")


def test_equal_labels_of_two_codes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sex.*\.csv file"):
        read_table(stata(tmp_path / "t.dta", labels={"sex": {1: "known", 2: "known"}}))


@pytest.mark.parametrize("cut", [3, 40, 300, 0.5, 0.9, 0.99])
def test_a_damaged_file_is_one_message(tmp_path: Path, cut: float) -> None:
    data = stata(tmp_path / "t.dta").read_bytes()
    (tmp_path / "t.dta").write_bytes(data[: int(cut if cut > 1 else cut * len(data))])
    with pytest.raises(ConnectomeTLError):
        read_table(tmp_path / "t.dta")


@pytest.mark.parametrize(
    "data", [b"<stata_dta><header>" + b"\xff" * 20, b"\x72\x02\x01\x00" + bytes(range(128, 255)), b"<stata_dta>"]
)
def test_the_beginning_of_a_stata_file_is_one_message(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=r"t\.csv: this Stata file cannot be read: \w.*\.csv file"):
        read_table(tmp_path / "t.csv", [])


def test_the_beginning_of_an_spss_file_is_one_message(tmp_path: Path) -> None:
    pytest.importorskip("pyreadstat")
    (tmp_path / "t.csv").write_bytes(b"$FL2@(#) SPSS DATA FILE" + bytes(300))
    with pytest.raises(DataError, match=r"t\.csv: this SPSS file cannot be read: \w.*\.csv file"):
        read_table(tmp_path / "t.csv", [])
