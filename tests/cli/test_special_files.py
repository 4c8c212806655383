"""Pipes, devices and loops of links instead of an input file: a one-line error, without waiting or memory use."""

from __future__ import annotations

import os
import signal
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import yaml

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.files import read_bytes, regular_file
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.read.names import walk
from connectome_tl.imaging.track.streamlines import write_tck
from connectome_tl.workflows.data.convert import convert_folder

from .study_on_disk import Command

_SECONDS = 20  # a pipe without a writer would block for ever


@pytest.fixture(autouse=True)
def no_wait() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the command waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


KINDS = {"fifo": fifo, "endless": endless, "loop": loop, "dangling": dangling}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    data = np.zeros((20, 4, 4), dtype=np.int16)
    data[:3], data[17:] = 1, 2
    write_volume(tmp_path / "parc.nii.gz", data, np.eye(4))
    write_volume(tmp_path / "fa.nii", np.full(data.shape, 0.25, dtype=np.float32), np.eye(4))
    write_tck(tmp_path / "t.tck", [np.linspace((1, 1, 1), (18, 1, 1), 9)])
    np.save(tmp_path / "m.npy", np.ones((2, 2)))
    (tmp_path / "w.txt").write_text("1\n")
    (tmp_path / "labels.tsv").write_text("index\tname\n1\ta\n2\tb\n")
    return tmp_path


COMMANDS = {
    "tractogram": "assemble BAD.tck parc.nii.gz --out o.tsv",
    "trackvis": "assemble BAD.trk parc.nii.gz --out o.tsv",
    "trx": "assemble BAD.trx parc.nii.gz --out o.tsv",
    "parcellation": "assemble t.tck BAD.nii.gz --out o.tsv",
    "parcellation of FreeSurfer": "assemble t.tck BAD.mgz --out o.tsv",
    "weights": "assemble t.tck parc.nii.gz --out o.tsv --weights BAD.txt",
    "weights of numpy": "assemble t.tck parc.nii.gz --out o.tsv --weights BAD.npy",
    "labels": "assemble t.tck parc.nii.gz --out o.tsv --labels BAD.tsv",
    "mean": "assemble t.tck parc.nii.gz --out o.tsv --measure mean=BAD.nii",
    "matrix": "convert BAD.csv --out o.tsv",
    "matrix of numpy": "convert BAD.npy --out o.tsv",
    "matrix of MATLAB": "convert BAD.mat --out o.tsv",
    "graph": "convert BAD.graphml --out o.tsv",
    "labels of a matrix": "convert m.npy --labels BAD.tsv --out o.tsv",
    "cohort": "cohort BAD.yaml",
    "study": "run BAD.yaml --out r",
    "atlas image": "atlas install aal90 --image BAD.nii.gz",
    "image of a region": "morphometry parc.nii.gz BAD.nii --out o.tsv",
    "settings of scans": "connectomes . out participant --config BAD.yaml",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", COMMANDS)
def test_any_input_may_be_no_regular_file(
    role: str, kind: str, inputs: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inputs)
    arguments = COMMANDS[role].split()
    name = next(part for part in arguments if "BAD" in part).removeprefix("mean=")
    KINDS[kind](inputs / name)
    answer = command(*arguments)
    assert answer.code in (65, 66), answer
    assert "BAD" in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.strip().splitlines()) <= 2
    assert not (inputs / "o.tsv").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cohorts_tables_may_be_no_regular_files(kind: str, tmp_path: Path, command: Command) -> None:
    KINDS[kind](tmp_path / "participants.tsv")
    settings = {"participants": "participants.tsv", "connectomes": {"files": "{id}.csv", "atlas": "aal90"}}
    settings["age"] = {"column": "age", "unit": "weeks", "reference": "postmenstrual"}
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(settings))
    answer = command("cohort", tmp_path / "cohort.yaml")
    assert answer.code in (65, 66), answer
    assert "participants.tsv" in answer.err


def test_the_door_names_what_stands_there_and_takes_no_memory(tmp_path: Path) -> None:
    fifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="the list of weights is a named pipe"):
        regular_file(tmp_path / "pipe", what="list of weights")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(DataError, match="a socket"):
            regular_file(tmp_path / "s")
    with pytest.raises(DataError, match="a device"):
        regular_file("/dev/null")
    with pytest.raises(MissingInputError, match="is a folder"):
        regular_file(tmp_path)
    loop(tmp_path / "loop")
    with pytest.raises(MissingInputError, match="broken link"):
        regular_file(tmp_path / "loop")
    with pytest.raises(DataError, match="cannot be read"):
        regular_file("a\0b")
    with pytest.raises(DataError, match="cannot be read"):
        regular_file("x" * 5000)
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(50 << 30)
    tracemalloc.start()
    with pytest.raises(DataError, match="too large"):
        read_bytes(tmp_path / "sparse")
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_name_with_a_byte_that_is_no_character_is_written_and_said(inputs: Path, command: Command) -> None:
    """File names are bytes; Python represents invalid ones as surrogates."""
    strange = inputs / os.fsdecode(b"t\xff.tck")
    (inputs / "t.tck").rename(strange)
    out = inputs / os.fsdecode(b"o\xfe.tsv")
    answer = command("assemble", strange, inputs / "parc.nii.gz", "--out", out)
    assert answer.code == 0, answer
    assert out.is_file()
    assert b"t\\udcff.tck" in out.with_suffix(".json").read_bytes()
    answer = command("assemble", inputs / os.fsdecode(b"none\xff.tck"), inputs / "parc.nii.gz", "--out", out)
    assert answer.code == 66
    assert "tractogram not found" in answer.err


def test_links_to_the_folder_they_lie_in_are_not_followed(tmp_path: Path) -> None:
    for subject in ("sub-01", "sub-02"):
        anat = tmp_path / subject / "anat"
        anat.mkdir(parents=True)
        (anat / f"{subject}_T2w.nii.gz").touch()
        for name in ("up", "same"):
            (anat / name).symlink_to(anat if name == "same" else tmp_path / subject)
    (tmp_path / "sub-01" / "other").symlink_to(tmp_path / "sub-02")
    (tmp_path / "sub-02" / "other").symlink_to(tmp_path / "sub-01")
    found = list(walk(tmp_path, []))
    assert {file.path.name for file in found} == {"sub-01_T2w.nii.gz", "sub-02_T2w.nii.gz"}
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(MissingInputError):
        convert_folder(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_a_scans_files_and_tables_may_be_no_regular_files(kind: str, tmp_path: Path, command: Command) -> None:
    dwi = tmp_path / "bids" / "sub-01" / "dwi"
    dwi.mkdir(parents=True)
    for ending in ("nii.gz", "bvec"):
        (dwi / f"sub-01_dwi.{ending}").touch()
    KINDS[kind](dwi / "sub-01_dwi.bval")
    KINDS[kind](tmp_path / "bids" / "participants.tsv")
    KINDS[kind](tmp_path / "bids" / "sub-01" / "sub-01_sessions.tsv")
    (tmp_path / "config.yaml").write_text("parcellation: p.nii.gz\n")
    answer = command("connectomes", tmp_path / "bids", tmp_path / "out", "--config", tmp_path / "config.yaml")
    assert answer.code in (65, 66), answer
    for name in ("participants.tsv", "sub-01_sessions.tsv", "sub-01_dwi.bval"):
        assert name in answer.err
