"""Files that are whole but not what their name, header or numbers say: read by content, or refused with the reason."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.quality.record import scan_quality, usable_volumes
from connectome_tl.imaging.read.dwi import Dwi, read_dwi
from connectome_tl.imaging.read.headers import shape_of
from connectome_tl.imaging.read.images import read_labels, read_volume
from connectome_tl.imaging.read.inputs import take_inventory

AFFINE = np.diag([-2.0, 2, 2, 1])
DATA = np.random.default_rng(0).integers(1, 200, (4, 5, 6, 9)).astype(np.int16)


def saved(path: Path, data: np.ndarray = DATA, affine: np.ndarray = AFFINE) -> Path:
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(("named", "other"), [("x.nii.gz", gzip.decompress), ("x.nii", gzip.compress)])
def test_compression_is_known_from_the_content(named: str, other: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = saved(tmp_path / named)
    file.write_bytes(other(file.read_bytes()))
    np.testing.assert_array_equal(read_volume(file, n_dimensions=(4,)).data, DATA)
    assert shape_of(file) == DATA.shape


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    for name in ("x.nii", "x.nii.gz"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(DataError, match="got an empty file"):
            read_volume(tmp_path / name)


def test_volumes_on_the_fifth_axis_are_volumes_and_nothing_else_is(tmp_path: Path) -> None:
    file = saved(tmp_path / "x.nii.gz", DATA[:, :, :, None])
    np.testing.assert_array_equal(read_volume(file, n_dimensions=(4,)).data, DATA)
    np.testing.assert_array_equal(read_volume(saved(file, DATA[:, :, :, None, :, None]), n_dimensions=(4,)).data, DATA)
    with pytest.raises(DataError, match=r"wrong number of axes.*\(4, 5, 6, 3, 3\)"):
        read_volume(saved(file, DATA.reshape(4, 5, 6, 3, 3)), n_dimensions=(4,))
    with pytest.raises(DataError, match="wrong number of axes"):
        read_volume(saved(file, DATA[:, :, :, None]))


@pytest.mark.parametrize("factor", [2e-4, 1e-3, 1e3])  # the first: small voxels in metres
def test_an_affine_in_another_unit_is_named(factor: float, tmp_path: Path) -> None:
    file = saved(tmp_path / "x.nii.gz", affine=np.diag([*(factor * np.diag(AFFINE)[:3]), 1]))
    with pytest.raises(DataError, match=r"not of the size of a head's.*metres or micrometres"):
        read_volume(file, n_dimensions=(4,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: np.where(d == 2, -2, d), "got -2 .. 3.*32 bits"),
        (lambda d: np.where(d == 0, np.nan, d), "not whole numbers.*If NaN is the background, set it to 0"),
        (lambda d: d + 0.3 * (d > 0), "not whole numbers.*nearest neighbours"),
        (lambda d: 0 * d, "parcellation is empty"),
    ],
)
def test_labels_that_are_none_are_refused_with_what_to_do(
    change: Callable[[np.ndarray], np.ndarray], message: str, tmp_path: Path
) -> None:
    labels = (np.arange(120) % 4).reshape(4, 5, 6).astype(np.float32)
    with pytest.raises(DataError, match=message):
        read_labels(saved(tmp_path / "dseg.nii.gz", change(labels).astype(np.float32)), subject="sub-01")
    np.testing.assert_array_equal(read_labels(saved(tmp_path / "dseg.nii.gz", labels)).data, labels)


def test_bright_voxels_that_have_turned_negative_are_named(tmp_path: Path) -> None:
    """Few of them are enough: noise about 0 never reaches far below it."""
    np.savetxt(tmp_path / "x.bval", [[0, *[1000] * 8]], fmt="%d")
    directions = np.random.default_rng(1).normal(size=(3, 9))
    np.savetxt(tmp_path / "x.bvec", directions / np.linalg.norm(directions, axis=0))
    bright = DATA.astype(float) * 100
    bright[0] = 40_000  # 30 voxels
    file = saved(tmp_path / "x.nii.gz", bright.astype(np.uint16).view(np.int16))
    with pytest.raises(DataError, match="negative: numbers too large for their type"):
        read_dwi(file, tmp_path / "x.bval", tmp_path / "x.bvec", subject="sub-01")
    noisy = DATA.astype(np.float32)
    noisy[0] *= -0.2
    found = read_dwi(saved(file, noisy), tmp_path / "x.bval", tmp_path / "x.bvec")
    assert "negative" in found.warnings[-1]


@pytest.fixture
def dwi() -> Dwi:
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(14, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[:2] = 0
    bvals = np.array([0.0] * 2 + [1000.0] * 12)
    data = (rng.uniform(0.5, 1, (8, 8, 8, 14)) * np.exp(-bvals * 7e-4)).astype(np.float32)
    return Dwi(data, np.eye(4), bvals, directions, np.ones((8, 8, 8), dtype=bool), "sub-01", "x.nii.gz")


def test_volumes_that_are_copies_are_named(dwi: Dwi) -> None:
    data = dwi.data.copy()
    data[..., 1] = data[..., 0]  # unweighted ones may be alike
    assert not any("cop" in said for said in usable_volumes(replace(dwi, data=data))[2].warnings)
    data[..., [6, 9]] = data[..., [3]]
    kept, empty, check = usable_volumes(replace(dwi, data=data))
    assert "2 volumes are copies of earlier ones: 7, 10" in scan_quality(kept, empty, check, None).warnings
    data[..., 3:] = data[..., [3]]
    with pytest.raises(DataError, match="copies of each other; expected six that differ; got 5, 6, 7"):
        usable_volumes(replace(dwi, data=data))


def test_sidecars_that_cannot_be_read_and_folders_without_a_label_are_told(tmp_path: Path) -> None:
    place = tmp_path / "sub-01" / "ses-a" / "dwi"
    place.mkdir(parents=True)
    for ending in ("nii.gz", "bval", "bvec", "json"):
        (place / f"sub-01_ses-a_dwi.{ending}").write_text('{"PhaseEncodingDirection": "j",')
    (tmp_path / "dataset_description.json").write_text("{}")
    told = [str(one) for one in take_inventory(tmp_path).problems]
    assert [line for line in told if "sub-01_ses-a_dwi.json: cannot be read as JSON" in line and "are not used" in line]
    assert len([line for line in told if "JSON" in line]) == 1
    (place / "sub-01_ses-a_dwi.json").write_text('{"TotalReadoutTime": NaN, "PhaseEncodingDirection": null}')
    assert not any("JSON" in str(one) for one in take_inventory(tmp_path).problems)
    (tmp_path / "sub-01" / "ses-").mkdir()
    (tmp_path / "sub-01" / "ses-" / "sub-01_dwi.nii.gz").write_text("")
    (line,) = [str(one) for one in take_inventory(tmp_path).problems if "ses- " in str(one)]
    assert "the folder ses- has no label; expected ses-LABEL" in line
