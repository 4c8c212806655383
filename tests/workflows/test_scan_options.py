"""The plan of a run is printed without running it; a filter file selects images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.cli import main
from connectome_tl.errors import UsageError
from connectome_tl.imaging.read.filters import read_filters
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.read.inputs import take_inventory

NAMES = ("acq-a_run-01", "acq-a_run-02", "acq-b_run-01")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bids" / "sub-01" / "dwi"
    for name in NAMES:
        stem = place / f"sub-01_{name}_dwi"
        write_volume(f"{stem}.nii.gz", np.ones((4, 4, 4, 3), dtype=np.float32), np.eye(4))
        stem.with_suffix(".bval").write_text("0 1000 1000\n")
        stem.with_suffix(".bvec").write_text("0 1 0\n0 0 1\n0 0 0\n")
    write_volume(place / "sub-01_seg-x_dseg.nii.gz", np.ones((4, 4, 4), dtype=np.int16), np.eye(4))
    (tmp_path / "bids" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    return tmp_path / "bids"


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ({"acquisition": "a", "run": 2}, "acq-a_run-02"),
        ({"acquisition": "b"}, "acq-b_run-01"),
        ({"acq": ["b", "c"], "direction": None, "suffix": "dwi"}, "acq-b_run-01"),
        ({"acquisition": "*", "run": 2}, "acq-a_run-02"),
        (
            {"acquisition": "Query.ANY", "direction": "Query.NONE", "session": "Query.OPTIONAL", "run": 2},
            "acq-a_run-02",
        ),
        ({"acquisition": "acq-b", "subject": "sub-01", "datatype": "dwi", "extension": [".nii.gz"]}, "acq-b_run-01"),
    ],
)
def test_a_filter_file_says_which_image_is_meant(query: dict[str, object], taken: str, folder: Path) -> None:
    (folder / "filter.json").write_text(json.dumps({"dwi": query}))
    (scan,) = take_inventory(folder, filters=read_filters(folder / "filter.json")).scans
    assert scan.dwi is not None
    assert scan.dwi.name == f"sub-01_{taken}_dwi.nii.gz"
    assert scan.problems == ()
    assert take_inventory(folder).scans[0].problems  # three images without a selection


def test_a_filter_file_of_other_programs_is_read_and_its_mistakes_are_named(folder: Path) -> None:
    file = folder / "filter.json"
    file.write_text('{"bold": {"task": "rest"}, "fmap": {"datatype": "fmap", "direction": "PA"}, "roi": {}}')
    assert read_filters(file) == {"epi": {"datatype": "fmap", "dir": "PA"}}
    file.write_text('{"T1W": {"run": 1}}')
    with pytest.raises(UsageError, match="dwi, fmap, t1w, t2w"):
        read_filters(file)
    file.write_text('{"dwi": {"acqusition": "a"}}')
    with pytest.raises(UsageError, match=r"acquisition, .*; got acqusition"):
        read_filters(file)
    for never in (True, 1.5, {"a": 1}, [], [["b"], {}]):
        file.write_text(json.dumps({"dwi": {"acquisition": never}}))
        with pytest.raises(
            UsageError, match=r'query of acq that no file matches; expected text, a whole number, null, "\*"'
        ):
            read_filters(file)
    file.write_text('{"dwi": {"acquisition": "b", "datatype": "func"}}')
    assert "leaves out all of 3" in "; ".join(map(str, take_inventory(folder, filters=read_filters(file)).problems))
    file.write_text('{"dwi": {"acquisition": "c"}}')
    found = take_inventory(folder, filters=read_filters(file))
    assert 'leaves out all of 3 dwi images; expected acq: "c"' in "; ".join(map(str, found.problems))


def test_a_dry_run_tells_files_and_choices_and_writes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "filter.json").write_text('{"dwi": {"acquisition": "b"}}')
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as left:
        main(["connectomes", str(folder), str(out), "--dry-run", "--bids-filter-file", str(folder / "filter.json")])
    assert left.value.code == 0
    told = capsys.readouterr().out
    for part in ("bids folder", "sub-01: roughly", "dwi: sub-01/dwi/sub-01_acq-b_run-01_dwi.nii.gz", "raw diffusion"):
        assert part in told
    assert "1 scan, 1 at a time" in told
    assert not out.exists()
