"""Progress messages of long commands."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from connectome_tl.connectome.morphometric import divergence_network
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.track.streamlines import announced_count, write_tck
from connectome_tl.workflows.data.assemble import assemble_files
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.scans.morphometry import morphometry_files


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


def test_the_time_left_follows_the_share_of_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six of ten fits are short, or were stored: a tenth of the time after 10 s leaves 90 s, not 7 s."""
    clock = [0.0]
    monkeypatch.setattr("connectome_tl.workflows.progress.time.monotonic", lambda: clock[0])
    with Steps(shown=True) as steps, steps.counted("fitting") as progress:
        progress(3, 10, 0.0)
        clock[0] = 10.0
        progress(6, 10, 0.1)
        clock[0] = 50.0
        progress(8, 10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "fitting: 3 of 10, 0 s"
    assert lines[2] == "fitting: 6 of 10, 10 s, about 90 s left"
    assert lines[3] == "fitting: 8 of 10, 50 s, about 12 s left"


def test_nothing_is_said_when_nothing_is_to_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(shown=False) as steps, steps.step("reading"):
        pass
    assert capsys.readouterr().err == ""


def test_commands_of_seconds_are_quiet_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(shown=True, lines=False) as steps, steps.counted("streamlines") as progress:
        progress(1, 2)
    assert capsys.readouterr().err == ""


@pytest.fixture
def one_subject(tmp_path: Path) -> Path:
    data = np.zeros((20, 8, 8), dtype=np.int32)
    data[:6], data[8:12], data[14:] = 1, 2, 3
    write_volume(tmp_path / "parc.nii.gz", data, np.eye(4))
    noise = np.random.default_rng(0).normal(100 + 9 * data, 5).astype(np.float32)
    write_volume(tmp_path / "T1w.nii.gz", noise, np.eye(4))
    write_tck(tmp_path / "t.tck", [np.linspace((1, 1, 1), (x, 1, 1), 9) for x in (9, 9, 18, 18)])
    return tmp_path


@pytest.mark.parametrize("command", ["assemble", "morphometry"])
def test_a_single_subject_shows_its_steps_on_a_terminal_only(
    command: str, one_subject: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> str:
        parcels, out = one_subject / "parc.nii.gz", one_subject / "c.tsv"
        if command == "assemble":
            assemble_files(one_subject / "t.tck", parcels, out, show_progress=True)
        else:
            morphometry_files([one_subject / "T1w.nii.gz"], parcels, out, show_progress=True)
        return capsys.readouterr().err

    assert make() == ""
    monkeypatch.setattr("connectome_tl.workflows.progress.draws", lambda _: True)
    said = make()
    steps = ("streamlines", "4/4") if command == "assemble" else ("measures of the regions", "network", "3/3")
    assert [one for one in steps if one not in said] == []


def test_a_header_states_how_many_streamlines_there_are(one_subject: Path) -> None:
    lines = nib.streamlines.load(one_subject / "t.tck").streamlines
    nib.streamlines.save(nib.streamlines.Tractogram(lines, affine_to_rasmm=np.eye(4)), one_subject / "t.trk")
    (one_subject / "bare.tck").write_bytes(b"mrtrix tracks\ndatatype: Float32LE\nfile: . 60\nEND\n")
    assert [announced_count(one_subject / name) for name in ("t.tck", "t.trk", "bare.tck")] == [4, 4, None]


def test_a_network_of_divergences_tells_how_many_regions_are_through() -> None:
    told: list[tuple[int, int]] = []
    clouds = [np.random.default_rng(k).normal(k, 1, 30) for k in range(4)]
    divergence_network(clouds, list("abcd"), progress=lambda done, total: told.append((done, total)))
    assert told == [(k, 4) for k in range(1, 5)]
