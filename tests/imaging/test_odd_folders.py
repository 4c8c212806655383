"""Folders with files of operating systems, archives and users: nothing is ignored silently."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from connectome_tl.imaging.read import names
from connectome_tl.imaging.read.inputs import Inventory, take_inventory
from connectome_tl.imaging.read.tables import unfetched


def lay(root: Path, *files: str, text: str = "0 1000 1000") -> None:
    for name in files:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def scan_files(subject: str) -> list[str]:
    place = f"sub-{subject}/{{}}/sub-{subject}_{{}}"
    return [*(place.format("dwi", f"dwi.{e}") for e in ("nii.gz", "bval", "bvec")), place.format("anat", "T2w.nii.gz")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lay(tmp_path, *scan_files("01"), *scan_files("02"))
    lay(tmp_path, "dataset_description.json", text='{"Name": "x", "BIDSVersion": "1.8.0"}')
    lay(tmp_path, "participants.tsv", text="participant_id\nsub-01\nsub-02\n")
    return tmp_path


def told(inventory: Inventory) -> list[str]:
    return [str(p) for p in [*inventory.problems, *(q for scan in inventory.scans for q in scan.problems)]]


def test_hidden_folders_and_empty_lines_are_nothing(root: Path) -> None:
    lay(root, "sub-01/.cache/sub-01_acq-old_dwi.nii.gz", "sub-01/anat/.tmp/sub-01_run-2_T2w.nii.gz")
    lay(root, "sub-01/anat/._sub-01_T2w.nii.gz", "sub-01/dwi/sub-01_sbref.nii.gz")
    (root / "participants.tsv").write_text("participant_id\nsub-01\n\n  \nsub-02\n")
    inventory = take_inventory(root)
    assert told(inventory) == []
    assert [scan.name for scan in inventory.scans] == ["sub-01", "sub-02"]


def test_a_folder_that_is_written_with_a_capital_is_named(root: Path) -> None:
    lay(root, "Sub-03/dwi/Sub-03_dwi.nii.gz")
    (line,) = told(take_inventory(root))
    assert "Sub-03: BIDS names are case-sensitive; expected sub-03" in line
    assert "rename the folder" in line


def test_a_folder_that_cannot_be_opened_is_named_with_its_subject(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = root / "sub-02" / "dwi"
    entries = names._entries

    def refusing(folder: str | Path) -> list[os.DirEntry[str]]:
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return entries(folder)

    monkeypatch.setattr(names, "_entries", refusing)
    inventory = take_inventory(root)
    lines = told(inventory)
    assert any(
        "subject sub-02, file" in line and "the folder cannot be opened: Permission denied" in line for line in lines
    )
    assert any("chmod a+rx dwi" in line for line in lines)
    assert [bool(scan.problems) for scan in inventory.scans] == [False, True]


def test_a_file_that_may_not_be_read_is_told_before_anything_is_computed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root / "sub-01" / "dwi" / "sub-01_dwi.bval"
    assert unfetched(file, "sub-01") is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "sub-01_dwi.bval: no permission to read the file. Ask its owner" in str(unfetched(file, "sub-01"))


@pytest.mark.parametrize("kind", ["T1w", "T2w"])
def test_a_phase_image_is_no_anatomical_image(root: Path, kind: str) -> None:
    anat = root / "sub-01" / "anat"
    (anat / "sub-01_T2w.nii.gz").unlink()
    lay(root, f"sub-01/anat/sub-01_part-mag_{kind}.nii.gz", f"sub-01/anat/sub-01_part-phase_{kind}.nii.gz")
    inventory = take_inventory(root)
    assert told(inventory) == []
    assert inventory.scans[0].anatomical == anat / f"sub-01_part-mag_{kind}.nii.gz"
    (anat / f"sub-01_part-mag_{kind}.nii.gz").unlink()
    assert take_inventory(root).scans[0].anatomical is None


def test_unweighted_runs_are_known_whatever_separates_their_b_values(root: Path) -> None:
    stem = "sub-01/dwi/sub-01"
    for ending in ("nii.gz", "bval", "bvec"):
        os.rename(root / f"{stem}_dwi.{ending}", root / f"{stem}_dir-AP_dwi.{ending}")
    lay(root, *(f"{stem}_dir-PA_dwi.{ending}" for ending in ("nii.gz", "bval", "bvec")), text="0, 0, 5")
    inventory = take_inventory(root)
    assert told(inventory) == []
    assert inventory.scans[0].dwi == root / f"{stem}_dir-AP_dwi.nii.gz"


def test_of_an_image_in_two_file_formats_one_has_to_be_removed(root: Path) -> None:
    lay(root, "sub-01/dwi/sub-01_dwi.nii")
    (line,) = told(take_inventory(root))
    assert line.endswith("more than one diffusion image; got sub-01_dwi.nii, sub-01_dwi.nii.gz. Leave one.")


TABLES = [
    ("participants.tsv", "participant_id,age\nsub-01,3\n", "has no column participant_id.*separates columns by tabs"),
    ("participants.tsv", "participant_id\nsub-01\nsub-02\nsub-01\n", "sub-01: occurs twice.*missing in the cohort"),
    ("sub-01/sub-01_scans.tsv", "filename\ndwi/**x.nii.gz\n", r"names a missing file; got dwi/\*\*x"),
]


@pytest.mark.parametrize(("name", "text", "expected"), TABLES)
def test_tables_are_told_with_what_is_wrong(root: Path, name: str, text: str, expected: str) -> None:

    lay(root, name, text=text)
    assert any(re.search(expected, line) for line in told(take_inventory(root)))


@pytest.mark.parametrize(
    "rows", ["sub-01\tses-a\nsub-01\tses-b\nsub-02\tses-a\n", '"sub-01"\tses-a\r\n"02"\t"ses-a"\r\n']
)
def test_rows_of_sessions_are_no_doubles_and_quotes_no_part_of_names(root: Path, rows: str) -> None:
    lay(root, "participants.tsv", text=f"participant_id\tsession_id\n{rows}")
    assert told(take_inventory(root)) == []


def test_a_subject_that_is_a_link_to_nowhere_is_told(root: Path) -> None:
    (root / "sub-03").symlink_to(root / "absent")
    assert any("subject sub-03" in line and "a broken link" in line for line in told(take_inventory(root)))
