"""Terminal output of `assemble` and `atlas install`, and limits set by options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.track.streamlines import write_tck

from .study_on_disk import Command


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data = np.zeros((20, 4, 4), dtype=np.int16)
    data[:3], data[8:10], data[17:] = 1, 9, 2
    write_volume(tmp_path / "parc.nii.gz", data, np.eye(4))
    lines = [np.linspace((1, 1, 1), (x, 1, 1), 9) for x in (18, 18, 9)]
    write_tck(tmp_path / "t.tck", lines)
    old = (tmp_path / "t.tck").read_bytes().replace(b"count: 3", b"count: 2")
    (tmp_path / "t.tck").write_bytes(old)
    (tmp_path / "labels.tsv").write_text("index\tname\n1\ta\n2\tb\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ASSEMBLE = ("assemble", "t.tck", "parc.nii.gz", "--out", "o.tsv", "--labels", "labels.tsv")


def test_labels_beyond_the_table_are_refused_or_said_with_their_share(inputs: Path, command: Command) -> None:
    answer = command(*ASSEMBLE)
    assert answer.code == 65
    assert "16.7% in 1 label: 9 (16.7%)" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    answer = command(*ASSEMBLE, "--max-unlisted-ends", "0.2")
    assert answer.code == 0
    assert "note: labels of the image that are not in the table receive 16.7%" in answer.err
    assert "note: the header of t.tck counts 2 streamlines; all 3 of the file were read" in answer.err
    assert "3 streamlines = 2 in edges + 1 unassigned" in answer.out
    assert command(*ASSEMBLE, "--max-unlisted-ends", "2").code == 64
    assert command(*ASSEMBLE, "--max-misplaced", "-1").code == 64


def test_every_missing_input_is_named_at_once_in_the_order_of_the_command(inputs: Path, command: Command) -> None:
    absent = ("no.tck", "none.nii", "nowhere.tsv", "w.txt")
    answer = command("assemble", *absent[:2], "--out", "o.tsv", "--labels", absent[2], "--weights", absent[3])
    assert answer.code == 66
    lines = answer.err.strip().splitlines()[1:]
    assert all(name in line for name, line in zip(absent, lines, strict=True))


def test_install_says_which_labels_are_not_used(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTOME_TL_ATLASES", str(tmp_path / "home"))
    atlas = load_atlas("aal90")
    low = np.array([-90.0, -126, -72])
    data = np.zeros((91, 109, 91), dtype=np.int16)
    for region in atlas.regions:
        data[tuple(np.round((np.array([region.x, region.y, region.z]) - low) / 2).astype(int))] = region.index
    data[3, 3, 3] = 131
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = low
    answer = command("atlas", "install", "aal90", "--image", write_volume(tmp_path / "a.nii.gz", data, affine))
    assert answer.code == 0
    assert "note: labels beyond the table, which are left out, 1: 131" in answer.err
