"""Files of one scan that contradict each other, or of which names do not tell which is meant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.read.dwi import read_dwi
from connectome_tl.imaging.read.gradients import golden_spiral
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.read.inputs import Inventory, take_inventory
from connectome_tl.imaging.read.tables import unfetched

BVALS = np.array([0.0] * 2 + [1000.0] * 10)
DIRECTIONS = np.vstack([np.zeros((2, 3)), golden_spiral(10)])


def fsl(stem: Path, bvals: np.ndarray = BVALS) -> tuple[Path, Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = stem.with_name(f"{stem.name}_dwi.bval"), stem.with_name(f"{stem.name}_dwi.bvec")
    np.savetxt(files[0], bvals[None])
    np.savetxt(files[1], DIRECTIONS.T)
    return files


def of_mrtrix(file: Path, bvals: np.ndarray, vectors: np.ndarray, affine: np.ndarray) -> Path:
    """Vectors along the axes of an image with a negative determinant, as FSL's, in the world's axes."""
    world = vectors @ (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).T
    np.savetxt(file, np.column_stack([world, bvals]))
    return file


def image(file: Path) -> tuple[Path, np.ndarray]:
    """An oblique image with these volumes."""
    turn, affine = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.1, 1.0, 0.3], [0.0, -0.2, 1.0]]))[0], np.eye(4)
    affine[:3, :3] = turn * np.sign(np.diag(turn)) * [-2.0, 2.0, 2.0]
    rng = np.random.default_rng(0)
    return write_volume(file, np.exp(-BVALS / 1500) * rng.uniform(700, 800, (4, 4, 4, 12)), affine), affine


def said(inventory: Inventory) -> str:
    return "\n".join(str(p) for p in [*inventory.problems, *(q for scan in inventory.scans for q in scan.problems)])


def lay(root: Path, *files: str, text: str = "0 1000 1000") -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("bvals", "order", "message"),
    [
        (BVALS, [0, 1, 2], ""),
        (BVALS * 1.02, [0, 1, 2], ""),
        (BVALS * 1.2, [0, 1, 2], "b = 1200 and 1000 at volume 3"),
        (BVALS[:-1], [0, 1, 2], "11 and 12 b-values"),
        (BVALS, [1, 0, 2], "degrees apart at volume 3"),
    ],
)
def test_two_gradient_tables_of_an_image_agree_or_are_refused(
    bvals: np.ndarray, order: list[int], message: str, tmp_path: Path
) -> None:
    file, affine = image(tmp_path / "x.nii.gz")
    bval, bvec = fsl(tmp_path / "x")
    table = of_mrtrix(tmp_path / "x.b", bvals, -DIRECTIONS[: len(bvals), order], affine)
    if not message:
        found = read_dwi(file, bval, bvec, table=table)
        assert np.allclose(np.abs((found.directions * read_dwi(file, bval, bvec).directions).sum(axis=1))[2:], 1)
        return
    with pytest.raises(DataError, match=f"two gradient tables that disagree.*{message}"):
        read_dwi(file, bval, bvec, table=table, subject="sub-01")


@pytest.mark.parametrize(
    ("rows", "value", "message"),
    [
        (3, np.nan, "b-values are not b-values.*got nan"),
        (0, np.nan, "b-values are not b-values.*got nan"),
        (3, -1000.0, "b-values are not b-values.*got -1000"),
        (3, 1e9, "b-values are not b-values"),
    ],
)
def test_b_values_of_either_table_are_checked_alike(rows: int, value: float, message: str, tmp_path: Path) -> None:
    file, affine = image(tmp_path / "x.nii.gz")
    bvals = np.where(np.arange(12) == rows, value, BVALS)
    table = of_mrtrix(tmp_path / "x.b", bvals, DIRECTIONS, affine)
    with pytest.raises(DataError, match=rf"sub-01.*x\.b: {message}"):
        read_dwi(file, table=table, subject="sub-01")
    with pytest.raises(DataError, match=rf"sub-01.*x_dwi\.bval: {message}"):
        read_dwi(file, *fsl(tmp_path / "x", bvals), subject="sub-01")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_of_unweighted_volumes_need_not_be_numbers_in_either_table(value: float, tmp_path: Path) -> None:
    file, affine = image(tmp_path / "x.nii.gz")
    table = of_mrtrix(tmp_path / "x.b", BVALS, DIRECTIONS, affine)
    rows = np.loadtxt(table)
    rows[:2, :3] = value
    np.savetxt(table, rows)
    found = read_dwi(file, table=table).directions
    assert not found[:2].any()
    assert np.allclose(np.linalg.norm(found[2:], axis=1), 1)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", '"0.09"'])
def test_an_echo_time_that_is_no_number_is_not_compared(value: str, tmp_path: Path) -> None:
    lay(tmp_path, *(f"sub-01/dwi/sub-01_run-{run}_dwi.{end}" for run in (1, 2) for end in ("nii.gz", "bval", "bvec")))
    for run, stated in ((1, value), (2, "0.09")):
        lay(tmp_path, f"sub-01/dwi/sub-01_run-{run}_dwi.json", text=f'{{"EchoTime": {stated}}}')
    assert "echo times" not in said(take_inventory(tmp_path, join=True))


def test_a_table_for_all_scans_does_not_replace_an_images_own(tmp_path: Path) -> None:
    place = tmp_path / "sub-01" / "dwi"
    fsl(place / "sub-01")
    file, affine = image(place / "sub-01_dwi.nii.gz")
    of_mrtrix(tmp_path / "dwi.b", 2 * BVALS, DIRECTIONS, affine)
    (scan,) = take_inventory(tmp_path).scans
    with pytest.raises(DataError, match="b = 2000 and 1000"):
        read_dwi(file, scan.bval, scan.bvec, table=scan.table)


def test_gradients_that_apply_equally_are_a_problem(tmp_path: Path) -> None:
    lay(tmp_path, "sub-01/dwi/sub-01_acq-a_dir-AP_dwi.nii.gz")
    for entity in ("acq-a", "dir-AP"):
        fsl(tmp_path / "sub-01" / "dwi" / f"sub-01_{entity}")
    text = said(take_inventory(tmp_path))
    assert "several files of b-values apply to one image; got sub-01_acq-a_dwi.bval, sub-01_dir-AP_dwi.bval" in text
    fsl(tmp_path / "sub-01" / "dwi" / "sub-01_acq-a_dir-AP")
    assert "several files" not in said(take_inventory(tmp_path))


def test_runs_of_different_echo_times_are_not_joined(tmp_path: Path) -> None:
    for run, echo in ((1, 0.090), (2, 0.091), (3, 0.070)):
        stem = f"sub-01/dwi/sub-01_run-{run}_dwi."
        lay(tmp_path, *(stem + ending for ending in ("nii.gz", "bval", "bvec")))
        lay(tmp_path, f"{stem}json", text=json.dumps({"EchoTime": echo}))
    assert "different echo times" in said(take_inventory(tmp_path, join=True))
    assert "different echo times" not in said(take_inventory(tmp_path, meant={"run": 3}))
    lay(tmp_path, "sub-01/dwi/sub-01_run-3_dwi.json", text="{}")
    assert "different echo times" not in said(take_inventory(tmp_path, join=True))


@pytest.mark.parametrize("place", ["", "sub-01/dwi/sub-01_dir-{}_"])
def test_opposite_phases_of_one_direction_are_told(place: str, tmp_path: Path) -> None:
    for phase in ("AP", "PA"):
        lay(tmp_path, *(f"sub-01/dwi/sub-01_dir-{phase}_dwi.{ending}" for ending in ("nii.gz", "bval", "bvec")))
        lay(tmp_path, f"{place.format(phase)}dwi.json", text='{"PhaseEncodingDirection": "j"}')
    assert "opposite phase directions by name have the same PhaseEncodingDirection" in said(take_inventory(tmp_path))
    lay(tmp_path, "sub-01/dwi/sub-01_dir-PA_dwi.json", text='{"PhaseEncodingDirection": "j-"}')
    assert "PhaseEncodingDirection" not in said(take_inventory(tmp_path))
    lay(tmp_path, "sub-01/dwi/sub-01_dir-AP_dwi.json", text='{"PhaseEncodingDirection": "AP"}')
    assert "PhaseEncodingDirection is no axis" in said(take_inventory(tmp_path, meant={"dir": "AP"}))


def test_sessions_that_differ_in_zeros_and_folders_in_capitals_are_told(tmp_path: Path) -> None:
    for session in ("1", "01"):
        lay(tmp_path, f"sub-01/ses-{session}/dwi/sub-01_ses-{session}_dwi.nii.gz")
    lay(tmp_path, "sub-02/DWI/sub-02_dwi.nii.gz", "sub-02/anat/sub-02_T2w.nii.gz")
    text = said(take_inventory(tmp_path))
    assert "subject sub-01: labels that differ only in zeros or case; got ses-01, ses-1" in text
    assert "sub-02/DWI/sub-02_dwi.nii.gz: BIDS names are case-sensitive; expected the folder dwi" in text


def test_an_image_in_two_formats_is_told(tmp_path: Path) -> None:
    lay(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz", *(f"sub-01/anat/sub-01_desc-brain_mask.nii{e}" for e in ("", ".gz")))
    assert "an image exists in two formats; got sub-01_desc-brain_mask.nii, " in said(take_inventory(tmp_path))


@pytest.mark.parametrize(
    "text", ["/annex/objects/MD5E-s123--abc.nii.gz\n", "version https://git-lfs.github.com/spec/v1"]
)
def test_a_pointer_is_no_content(text: str, tmp_path: Path) -> None:
    lay(tmp_path, "x.bval", text=text)
    assert "not fetched" in str(unfetched(tmp_path / "x.bval", "sub-01"))
    lay(tmp_path, "x.bval")
    assert unfetched(tmp_path / "x.bval") is None


def test_the_kind_of_a_folder_is_not_guessed_without_its_description(tmp_path: Path) -> None:
    """QSIPrep's vectors have other axes than those of BIDS."""
    lay(tmp_path, "sub-01/dwi/sub-01_space-T1w_desc-preproc_dwi.nii.gz")
    (tmp_path / "dataset_description.json").symlink_to(".git/annex/objects/x")
    with pytest.raises(MissingInputError, match="datalad get"):
        take_inventory(tmp_path)
