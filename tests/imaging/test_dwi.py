"""Gradient tables: every fault at once, and world axes whatever the image's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.read.dwi import Dwi, fsl_to_world, read_dwi
from connectome_tl.imaging.read.images import write_volume


def written(folder: Path, affine: np.ndarray, n: int = 9) -> tuple[Path, Path, Path]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    np.savetxt(folder / "d.bval", [[0] + [1000] * (n - 1)], fmt="%d")
    np.savetxt(folder / "d.bvec", vectors.T)
    image = write_volume(folder / "d.nii.gz", rng.random((4, 4, 4, n)).astype(np.float32), affine)
    return image, folder / "d.bval", folder / "d.bvec"


def test_fsl_vectors_turn_their_first_axis_where_the_determinant_is_positive() -> None:
    vectors = np.eye(3)
    np.testing.assert_allclose(fsl_to_world(vectors, np.diag([-2.0, 2, 2, 1])), np.diag([-1.0, 1, 1]))
    np.testing.assert_allclose(fsl_to_world(vectors, np.diag([2.0, 2, 2, 1])), np.diag([-1.0, 1, 1]))
    turned = np.array([[0.0, -2, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(fsl_to_world(vectors, turned), [[0, -1, 0], [-1, 0, 0], [0, 0, 1]])


def test_a_good_scan_is_read_and_its_shells_are_named(tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    dwi = read_dwi(image, bval, bvec, subject="sub-01")
    assert isinstance(dwi, Dwi)
    assert [(b, len(v)) for b, v in dwi.shells()] == [(1000.0, 8)]
    np.testing.assert_allclose(np.linalg.norm(dwi.directions[1:], axis=1), 1)
    rows = np.column_stack([dwi.directions, dwi.bvals])
    np.savetxt(tmp_path / "d.b", rows)
    np.testing.assert_allclose(read_dwi(image, table=tmp_path / "d.b").directions, dwi.directions, atol=1e-12)
    np.savetxt(tmp_path / "t.bvec", np.loadtxt(bvec).T)  # one row per volume is understood too
    np.testing.assert_allclose(read_dwi(image, bval, tmp_path / "t.bvec").directions, dwi.directions)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("d.bval", lambda a: a[:, :-1], r"d\.bval: the number of b-values"),
        ("d.bval", lambda a: np.tile(a, (3, 1)) - 1, "are these the b-vectors"),
        ("d.bvec", lambda a: a[:, :-1], r"d\.bvec: the number of b-vectors"),
        ("d.bvec", lambda a: a * 3, "not of length 1"),
        ("d.bvec", lambda a: np.where(np.arange(9) == 4, np.nan, a), "not of length 1"),
        ("d.bvec", lambda a: a * 0 + np.array([[1.0], [0], [0]]), "independent directions"),
        ("d.bval", lambda a: a * 0, r"d\.bval: no volume is diffusion weighted"),
        ("d.bval", lambda a: a / 1000, r"d\.bval: no volume .* times 1000"),
        ("d.bval", lambda a: a + 1000, "not of length 1|without diffusion"),
        ("d.bval", lambda a: -a, "not b-values"),
        ("d.bval", lambda a: a * 100, "not b-values"),
        ("d.bvec", lambda a: a[:2], "wrong shape"),
    ],
)
def test_a_wrong_table_is_refused_naming_the_subject(file: str, change: object, message: str, tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    np.savetxt(tmp_path / file, change(np.atleast_2d(np.loadtxt(tmp_path / file))))  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        read_dwi(image, bval, bvec, subject="sub-07")
    assert "sub-07" in str(caught.value)
    assert caught.value.exit_code == 65


def test_text_and_ragged_files_are_refused(tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    for text in ("0 1000 abc", "1 2 3\n1 2\n1 2 3", "\x00\xff"):
        bvec.write_text(text, encoding="latin-1")
        with pytest.raises(DataError):
            read_dwi(image, bval, bvec)
    with pytest.raises(MissingInputError):
        read_dwi(image, bval, tmp_path / "absent.bvec")
    with pytest.raises(DataError, match="gradient table is missing"):
        read_dwi(image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d * np.nan, "no voxel holds a number"),
        (lambda d: d * 0, "hold nothing but 0"),
        (lambda d: d * 0 + 7, "hold nothing but 7"),
        (lambda d: d - 2, "of the unweighted signal is negative"),
        (lambda d: (d * 60000).astype(np.uint16).view(np.int16), "numbers too large for their type"),
        (lambda d: d.astype(np.complex64), "no single real numbers"),
    ],
)
def test_what_no_scanner_makes_is_refused(change: object, message: str, tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    data = change(np.random.default_rng(0).random((4, 4, 4, 9)).astype(np.float32))  # type: ignore[operator]
    write_volume(image, data, np.diag([-2.0, 2, 2, 1]))
    with pytest.raises(DataError, match=message) as caught:
        read_dwi(image, bval, bvec, subject="sub-07")
    assert "sub-07, file" in str(caught.value)


def test_a_little_below_zero_is_said_and_voxels_without_numbers_are_left_out(tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    data = np.random.default_rng(0).random((4, 4, 4, 9)).astype(np.float32)
    data[0, 0] *= -1
    data[3, 3, 3, 5] = np.inf
    write_volume(image, data, np.diag([-2.0, 2, 2, 1]))
    dwi = read_dwi(image, bval, bvec)
    assert not dwi.mask[3, 3, 3]
    assert np.isfinite(dwi.data).all()
    assert [("not numbers" in w, "negative" in w) for w in dwi.warnings] == [(True, False), (False, True)]


def test_a_mask_on_another_grid_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    mask = write_volume(tmp_path / "m.nii.gz", np.ones((5, 4, 4), dtype=np.uint8), np.diag([-2.0, 2, 2, 1]))
    with pytest.raises(DataError, match="same grid"):
        read_dwi(image, bval, bvec, mask=mask, subject="sub-01")
    write_volume(mask, np.zeros((4, 4, 4), dtype=np.uint8), np.diag([-2.0, 2, 2, 1]))
    with pytest.raises(DataError, match="mask is empty"):
        read_dwi(image, bval, bvec, mask=mask, subject="sub-01")
