"""Folders as labs leave them: everything missing, doubled or misnamed is listed, with names."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.inputs import Inventory, take_inventory, usable


def lay(root: Path, *names: str, text: str = "") -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def scan_files(subject: str, session: str | None = None) -> list[str]:
    place = f"sub-{subject}" if session is None else f"sub-{subject}/ses-{session}"
    name = place.replace("/", "_")
    return [
        *(f"{place}/dwi/{name}_dwi.{ending}" for ending in ("nii.gz", "bval", "bvec")),
        *(f"{place}/anat/{name}_{kind}.nii.gz" for kind in ("T1w", "T2w")),
    ]


def said(inventory: Inventory) -> str:
    return "\n".join(str(p) for p in [*inventory.problems, *(q for scan in inventory.scans for q in scan.problems)])


def test_a_good_folder_has_nothing_to_complain_about(tmp_path: Path) -> None:
    lay(tmp_path, "dataset_description.json", *scan_files("01", "a"), *scan_files("01", "b"), *scan_files("02"))
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    inventory = take_inventory(tmp_path)
    assert said(inventory) == ""
    assert [scan.name for scan in inventory.scans] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02"]
    first = inventory.scans[0]
    assert first.anatomical is not None
    assert first.anatomical.name == "sub-01_ses-a_T2w.nii.gz"  # newborns: T2w first
    assert not first.preprocessed
    assert [s.name for s in take_inventory(tmp_path, participants=["01"], sessions=["ses-b"]).scans] == ["sub-01_ses-b"]
    assert len(usable(inventory)) == 3


def test_what_is_missing_doubled_and_misnamed_is_all_listed(tmp_path: Path) -> None:
    lay(tmp_path, *scan_files("01"), *scan_files("02"), *scan_files("03"), *scan_files("004"), *scan_files("04"))
    (tmp_path / "sub-01/dwi/sub-01_dwi.bvec").unlink()
    (tmp_path / "sub-02/dwi/sub-02_dwi.nii.gz").unlink()
    lay(tmp_path, "sub-03/dwi/sub-03_run-2_dwi.nii.gz", "sub-03/anat/sub-09_T2w.nii.gz", "sub-03/anat/scan (1).nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\nsub-01\nsub-77\nsub-02\nsub-03\nsub-04\n")
    (tmp_path / "sub-01/sub-01_scans.tsv").write_text("filename\tage\ndwi/sub-02_dwi.nii.gz\t1\n")
    text = said(take_inventory(tmp_path))
    for expected in (
        "sub-01, file", "b-vectors are missing", "there is no diffusion image", "sub-02_dwi.bval, sub-02_dwi.bvec",
        "more than one diffusion image", "sub-03_run-2_dwi.nii.gz", "a file of sub-09 lies in the folder of sub-03",
        "not a BIDS name", "sub-77: is in participants.tsv but has no folder", "sub-01: stands twice",
        "sub-004: has a folder but is not", "differ only in zeros", "scans.tsv names a file", "dataset_description",
    ):  # fmt: skip
        assert expected in text, expected


def test_gradients_at_the_top_are_inherited(tmp_path: Path) -> None:
    lay(tmp_path, "dataset_description.json", "dwi.bval", "dwi.bvec", "sub-01/dwi/sub-01_dwi.nii.gz")
    scan = take_inventory(tmp_path).scans[0]
    assert scan.problems == ()
    assert scan.bval == tmp_path / "dwi.bval"


def test_qsiprep_is_preprocessed_and_its_world_table_is_preferred(tmp_path: Path) -> None:
    lay(tmp_path, "dataset_description.json", text='{"GeneratedBy": [{"Name": "QSIPrep"}]}')
    stem = "sub-01/ses-1/dwi/sub-01_ses-1_space-ACPC_desc-"
    lay(tmp_path, *(f"{stem}preproc_dwi.{e}" for e in ("nii.gz", "bval", "bvec", "b")), f"{stem}brain_mask.nii.gz")
    lay(tmp_path, "sub-01/ses-1/dwi/sub-01_ses-1_space-ACPC_seg-AAL_dseg.nii.gz")
    inventory = take_inventory(tmp_path)
    scan = inventory.scans[0]
    assert inventory.kind == "qsiprep"
    assert (scan.preprocessed, scan.bvec_axes, scan.problems) == (True, "image", ())
    assert scan.table is not None
    assert scan.bvec is None
    assert scan.mask is not None
    assert scan.parcellation is not None


def test_a_dhcp_release_is_recognised(tmp_path: Path) -> None:
    stem = "sub-CC00063AN06/ses-15102/{}/sub-CC00063AN06_ses-15102_desc-"
    dwi = "derivatives/dhcp_dmri_shard_pipeline/" + stem.format("dwi")
    lay(tmp_path, *(f"{dwi}preproc_dwi.{e}" for e in ("nii.gz", "bval", "bvec")), f"{dwi}brain_mask.nii.gz")
    anat = "derivatives/dhcp_anat_pipeline/" + stem.format("anat")
    lay(tmp_path, f"{anat}restore_T2w.nii.gz", f"{anat}brain_mask.nii.gz", f"{anat}drawem87_dseg.nii.gz")
    inventory = take_inventory(tmp_path)
    assert inventory.kind == "dhcp"
    scan = inventory.scans[0]
    assert scan.preprocessed
    assert scan.problems == ()
    assert scan.anatomical is not None
    assert scan.anatomical.name.endswith("desc-restore_T2w.nii.gz")
    assert scan.anatomical_mask is not None


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, *scan_files("01"))
    with pytest.raises(MissingInputError, match="sub-99"):
        take_inventory(tmp_path, participants=["99"])
    with pytest.raises(MissingInputError, match="folder not found"):
        take_inventory(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match="no subject"):
        take_inventory(tmp_path / "empty")


@pytest.mark.data
def test_real_broken_folders_are_described(shared_data: Path) -> None:
    inventory = take_inventory(shared_data / "bme_x_bids")
    text = said(inventory)
    for subject in ("sub-0003", "sub-0004", "sub-0005", "sub-0006"):
        assert f"{subject}/ses-V01/{subject}_ses-V01_scans.tsv: scans.tsv names a file that is not there" in text
    assert text.count("there is no diffusion image") == len(inventory.scans) == 10
    with pytest.raises(DataError, match="no scan of this folder can be used"):
        usable(inventory)
    one = said(take_inventory(shared_data / "mrtrix_bids_sub01"))
    assert "there is no diffusion image" in one
    assert "sub-01_dwi.bval, sub-01_dwi.bvec without their image" in one


def test_two_thousand_sessions_are_listed_quickly(tmp_path: Path) -> None:
    for i in range(1000):
        lay(tmp_path, *scan_files(f"{i:04d}", "a"), *scan_files(f"{i:04d}", "b"))
    start = time.process_time()
    assert len(take_inventory(tmp_path).scans) == 2000
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("files", "place"),
    [
        (["dwi/sub-01_label-WM_probseg", "dwi/sub-01_label-GM_probseg", "dwi/sub-01_label-CSF_probseg"], "dwi"),
        (["anat/sub-01_5TT"], "anat"),
        (["anat/sub-01_desc-drawem9_dseg"], "anat"),
        (["anat/sub-01_space-MNIInfant_5TT"], None),  # not in the subject
        (["anat/sub-01_label-WM_probseg", "anat/sub-01_label-GM_probseg"], None),  # not whole
    ],
)
def test_tissue_maps_are_found_with_their_space(files: list[str], place: str | None, tmp_path: Path) -> None:
    lay(tmp_path, "dataset_description.json", *scan_files("01"), *(f"sub-01/{file}.nii.gz" for file in files))
    (scan,) = take_inventory(tmp_path).scans
    assert [path.name for path in scan.tissues] == ([f"{Path(f).name}.nii.gz" for f in files] if place else [])
    if place:
        assert scan.tissues_in == place
        assert set(scan.files()) >= {f"tissue_{k + 1}" for k in range(len(files))}


def test_a_lesion_mask_beside_the_anatomical_image_is_found(tmp_path: Path) -> None:
    lay(tmp_path, "dataset_description.json", *scan_files("01"), "sub-01/anat/sub-01_label-lesion_mask.nii.gz")
    (scan,) = take_inventory(tmp_path).scans
    assert scan.lesion is not None
    assert "lesion" in scan.files()
