"""Realistic folders: all missing, duplicate or misnamed files are listed by name."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.read.inputs import Inventory, take_inventory, usable


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
        "more than one diffusion image", "sub-03_run-2_dwi.nii.gz", "a file of sub-09 is in the folder of sub-03",
        "not a BIDS name", "sub-77: is in participants.tsv but has no folder", "sub-01: occurs twice",
        "sub-004: has a folder but is not", "differ only in zeros", "names a missing file", "dataset_description",
    ):  # fmt: skip
        assert expected in text, expected


PLACE = "sub-01/ses-a/dwi/sub-01_ses-a"


@pytest.mark.parametrize(
    ("image", "offered", "taken"),
    [
        ("", ["dwi"], "dwi"),
        ("_acq-x_dir-AP", ["acq-x_dwi"], "acq-x_dwi"),
        ("_run-1", ["acq-y_dwi"], None),  # of another acquisition
        ("_run-1", [f"{PLACE}_run-2_dwi"], None),
        ("", ["dwi", "sub-01/sub-01_dwi"], "sub-01/sub-01_dwi"),  # the nearest
        ("_run-1", ["dwi", "sub-01/ses-a/sub-01_ses-a_dwi"], "sub-01/ses-a/sub-01_ses-a_dwi"),
        ("_run-1", ["dwi", f"{PLACE}_dwi"], f"{PLACE}_dwi"),
        ("", ["sub-01/ses-b/dwi/sub-01_ses-b_dwi"], None),
    ],
)
def test_gradients_are_inherited_as_bids_says(
    image: str, offered: list[str], taken: str | None, tmp_path: Path
) -> None:
    lay(tmp_path, "dataset_description.json", f"{PLACE}{image}_dwi.nii.gz")
    lay(tmp_path, *(f"{file}.{ending}" for file in offered for ending in ("bval", "bvec")))
    (scan,) = take_inventory(tmp_path, sessions=["a"]).scans
    assert (scan.bval, scan.bvec) == tuple(
        None if taken is None else tmp_path / f"{taken}.{e}" for e in ("bval", "bvec")
    )
    assert len(scan.problems) == (2 if taken is None else 0)


def test_what_is_no_diffusion_data_of_its_own_is_not_taken_for_it(tmp_path: Path) -> None:
    """Phase images, single-band references, and the unweighted volumes of the other phase encoding."""
    place = "sub-01/dwi/sub-01"
    lay(tmp_path, *(f"{place}_dir-AP_part-mag_dwi.{e}" for e in ("nii.gz", "bval", "bvec")), text="0 1000 1000")
    lay(tmp_path, f"{place}_dir-AP_part-phase_dwi.nii.gz", f"{place}_dir-AP_sbref.nii.gz")
    lay(tmp_path, *(f"{place}_dir-PA_part-mag_dwi.{e}" for e in ("nii.gz", "bval", "bvec")), text="0 0 5")
    (scan,) = take_inventory(tmp_path).scans
    assert scan.problems == ()
    assert scan.dwi == tmp_path / f"{place}_dir-AP_part-mag_dwi.nii.gz"


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize(("entity", "used"), [("acq-b2600_", True), ("", True), ("acq-b1000_", False)])
def test_an_only_image_with_another_entity_than_meant_is_not_used(
    tmp_path: Path, entity: str, used: bool, join: bool
) -> None:
    lay(tmp_path, *(f"sub-01/dwi/sub-01_{entity}dwi.{e}" for e in ("nii.gz", "bval", "bvec")))
    (scan,) = take_inventory(tmp_path, meant={"acq": "b2600"}, join=join).scans
    assert (scan.dwi is not None) == used
    assert used or "matches `dwi`; expected acq-b2600; got sub-01_acq-b1000" in str(scan.problems[0])


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ({}, True),
        ({"IntendedFor": "dwi/sub-01_dwi.nii"}, True),  # stored as .nii.gz
        ({"IntendedFor": "func/sub-01_task-rest_bold.nii.gz"}, False),
        ({"B0FieldIdentifier": ["p1", "p0"], "IntendedFor": "func/sub-01_task-rest_bold.nii.gz"}, True),
        ({"B0FieldIdentifier": "p1", "IntendedFor": "dwi/sub-01_dwi.nii.gz"}, False),
    ],
)
def test_field_maps_belong_to_the_images_of_their_field(tmp_path: Path, said: dict[str, object], given: bool) -> None:
    place = tmp_path / "sub-01"
    lay(tmp_path, *(f"sub-01/dwi/sub-01_dwi.{e}" for e in ("nii.gz", "bval", "bvec")))
    lay(tmp_path, "sub-01/fmap/sub-01_dir-PA_epi.nii.gz")
    (place / "dwi/sub-01_dwi.json").write_text('{"PhaseEncodingDirection": "j-", "B0FieldSource": "p0"}')
    (place / "fmap/sub-01_dir-PA_epi.json").write_text(json.dumps({"PhaseEncodingDirection": "j", **said}))
    (scan,) = take_inventory(tmp_path).scans
    assert bool(scan.opposite) == given


def test_of_several_diffusion_images_the_one_that_is_meant_is_taken_with_its_mask(tmp_path: Path) -> None:
    for entities in ("acq-x_run-01", "acq-y_run-01", "acq-y_run-02"):
        lay(tmp_path, *(f"sub-01/dwi/sub-01_{entities}_dwi.{e}" for e in ("nii.gz", "bval", "bvec")))
        lay(tmp_path, f"sub-01/dwi/sub-01_{entities}_desc-brain_mask.nii.gz")
    assert "Select one by dwi:" in said(take_inventory(tmp_path))
    assert "more than one" in said(take_inventory(tmp_path, meant={"acq": "y"}))
    told = said(take_inventory(tmp_path, meant={"acq": "z"}))
    assert "no diffusion image matches `dwi`; expected acq-z; got sub-01_acq-x_run-01" in told
    (scan,) = take_inventory(tmp_path, meant={"acq": "y", "run": 1}).scans
    assert scan.problems == ()
    assert scan.dwi == tmp_path / "sub-01/dwi/sub-01_acq-y_run-01_dwi.nii.gz"
    assert scan.mask == tmp_path / "sub-01/dwi/sub-01_acq-y_run-01_desc-brain_mask.nii.gz"


def test_of_several_raw_t2w_the_first_is_taken_and_that_is_said(tmp_path: Path) -> None:
    lay(tmp_path, "dataset_description.json", *(name for name in scan_files("01") if "T2w" not in name))
    lay(tmp_path, *(f"sub-01/anat/sub-01_run-{run}_T2w.nii.gz" for run in (2, 1)))
    inventory = take_inventory(tmp_path)
    assert inventory.scans[0].anatomical == tmp_path / "sub-01/anat/sub-01_run-1_T2w.nii.gz"
    assert inventory.scans[0].problems == ()
    assert "more than one T2w; got sub-01_run-1_T2w.nii.gz, sub-01_run-2_T2w.nii.gz. The first one is used" in said(
        inventory
    )
    lay(tmp_path, "sub-01/anat/sub-01_desc-restore_T2w.nii.gz")
    assert said(take_inventory(tmp_path)) == ""


def test_an_anatomical_image_beside_the_sessions_belongs_to_each_that_has_none(tmp_path: Path) -> None:
    lay(tmp_path, "dataset_description.json", *scan_files("01", "a"))
    lay(tmp_path, *(name for name in scan_files("01", "b") if "dwi" in name), "sub-01/anat/sub-01_T2w.nii.gz")
    first, second = take_inventory(tmp_path).scans
    assert (first.name, second.name) == ("sub-01_ses-a", "sub-01_ses-b")  # and no scan without a session
    assert first.anatomical == tmp_path / "sub-01/ses-a/anat/sub-01_ses-a_T2w.nii.gz"
    assert second.anatomical == tmp_path / "sub-01/anat/sub-01_T2w.nii.gz"
    assert said(take_inventory(tmp_path)) == ""


def test_a_subject_that_offers_nothing_is_named(tmp_path: Path) -> None:
    lay(tmp_path, *scan_files("01"), "sub-02/dwi/sub-02_DWI.nii.gz", "sub-03/dwi/sub-03_dwi.bval", "sub-04/notes.txt")
    text = said(take_inventory(tmp_path))
    assert "sub-02_DWI.nii.gz: BIDS names are case-sensitive; expected ..._dwi.nii.gz" in text
    for subject in ("sub-02", "sub-03", "sub-04"):
        assert f"{subject}: there is no image of this subject" in text
    assert "sub-01" not in text
    with pytest.raises(MissingInputError, match="no image of this subject"):
        take_inventory(tmp_path, participants=["03"])


def test_a_link_to_content_that_was_not_fetched_is_an_input(tmp_path: Path) -> None:
    lay(tmp_path, "dataset_description.json", "sub-01/dwi/sub-01_dwi.json")
    for ending in ("nii.gz", "bval", "bvec"):
        (tmp_path / f"sub-01/dwi/sub-01_dwi.{ending}").symlink_to(f"../../.git/annex/objects/{ending}")
    (scan,) = take_inventory(tmp_path).scans
    assert set(scan.files()) == {"dwi", "bval", "bvec"}  # opening them reports `datalad get`


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
    assert scan.bvec is not None  # for a comparison
    assert scan.mask is not None
    assert scan.parcellation is not None


@pytest.mark.parametrize("anatomy_first", [True, False])
def test_qsiprep_with_sessions_has_one_anatomical_image(anatomy_first: bool, tmp_path: Path) -> None:
    """1.x writes space-ACPC, 0.x space-T1w; both count vectors along the image's axes; figures are not input."""
    space = "ACPC" if anatomy_first else "T1w"
    lay(tmp_path, "dataset_description.json", text='{"GeneratedBy": [{"Name": "QSIPrep"}]}')
    stem = f"sub-01/ses-1/dwi/sub-01_ses-1_space-{space}_"
    lay(tmp_path, *(f"{stem}desc-preproc_dwi.{e}" for e in ("nii.gz", "bval", "bvec")), f"{stem}dwiref.nii.gz")
    lay(tmp_path, f"{stem}desc-brain_mask.nii.gz", "sub-01/figures/sub-01_ses-1_t1_2_mni.svg", "sub-01.html")
    own = f"sub-01/anat/sub-01_{'space-ACPC_' if anatomy_first else ''}"
    lay(tmp_path, f"{own}desc-preproc_T1w.nii.gz", f"{own}desc-brain_mask.nii.gz")
    lay(tmp_path, *(f"{own}label-{tissue}_probseg.nii.gz" for tissue in ("WM", "GM", "CSF")))
    lay(tmp_path, "sub-01/anat/sub-01_space-AMNI_desc-preproc_T1w.nii.gz")  # a template's space, first by name
    lay(tmp_path, "sub-01/ses-1/anat/sub-01_ses-1_from-orig_to-anat_mode-image_xfm.txt")
    inventory = take_inventory(tmp_path)
    (scan,) = inventory.scans
    assert said(inventory) == ""
    assert (scan.name, scan.preprocessed, scan.bvec_axes) == ("sub-01_ses-1", True, "image")
    assert scan.anatomical == tmp_path / f"{own}desc-preproc_T1w.nii.gz"
    assert scan.anatomical_mask == tmp_path / f"{own}desc-brain_mask.nii.gz"
    assert len(scan.tissues) == 3


@pytest.mark.parametrize("prefix", ["derivatives/", "derivatives/rel3_", "rel3_", ""])
@pytest.mark.parametrize("alone", [False, True])
def test_a_dhcp_release_is_recognised(prefix: str, alone: bool, tmp_path: Path) -> None:
    """With the names of the release, complete or only the folder of its diffusion pipeline."""
    stem = "sub-CC00063AN06/ses-15102/{}/sub-CC00063AN06_ses-15102_"
    place = f"{prefix}dhcp_dmri_shard_pipeline"
    dwi = f"{place}/" + stem.format("dwi") + "desc-"
    lay(tmp_path, *(f"{dwi}preproc_dwi.{e}" for e in ("nii.gz", "bval", "bvec")), f"{dwi}brain_mask.nii.gz")
    lay(tmp_path, f"{place}/" + stem.format("xfm") + "from-T2w_to-dwi_mode-image.mat")
    anat = f"{prefix}dhcp_anat_pipeline/" + stem.format("anat") + "desc-"
    lay(tmp_path, f"{anat}restore_T2w.nii.gz", f"{anat}brain_mask.nii.gz", f"{anat}drawem87_dseg.nii.gz")
    inventory = take_inventory(tmp_path / place if alone else tmp_path)
    assert inventory.kind == "dhcp"
    assert said(inventory) == ""
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
        assert f"{subject}/ses-V01/{subject}_ses-V01_scans.tsv: scans.tsv names a missing file" in text
    assert text.count("there is no diffusion image") == len(inventory.scans) == 10
    for subject in ("sub-0001", "sub-0009"):
        assert f"{subject}_ses-V01_scans.tsv: occurs twice" in text
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
