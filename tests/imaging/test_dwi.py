"""Gradient tables: all problems in one error, and world axes for any image orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.read.dwi import Dwi, fsl_to_world, read_dwi
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.settings.imaging import ConnectomesSettings


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
    np.savetxt(tmp_path / "t.bvec", np.loadtxt(bvec).T)  # one row per volume is accepted as well
    np.testing.assert_allclose(read_dwi(image, bval, tmp_path / "t.bvec").directions, dwi.directions)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("d.bval", lambda a: a[:, :-1], r"d\.bval: the number of b-values"),
        ("d.bval", lambda a: np.tile(a, (3, 1)) - 1, "are these the b-vectors"),
        ("d.bvec", lambda a: a[:, :-1], r"d\.bvec: the number of b-vectors"),
        ("d.bvec", lambda a: a * np.where(np.arange(9) % 2, 3, 1), "not of length 1"),
        ("d.bvec", lambda a: a * np.where(np.arange(9) == 4, 0.5, 1), "not of length 1"),
        ("d.bvec", lambda a: np.where(np.arange(9) == 4, np.nan, a), "not of length 1"),
        ("d.bvec", lambda a: np.where(np.arange(9) == 4, np.inf, a), "not of length 1"),
        ("d.bvec", lambda a: a * 0 + np.array([[1.0], [0], [0]]), "independent directions"),
        ("d.bval", lambda a: a * 0, r"d\.bval: no volume is diffusion weighted"),
        ("d.bval", lambda a: a / 1000, r"d\.bval: no volume .* times 1000"),
        ("d.bval", lambda a: a + 1000, "not of length 1|without diffusion"),
        ("d.bval", lambda a: -a, "not b-values"),
        ("d.bval", lambda a: a * 100, "not b-values"),
        ("d.bvec", lambda a: a[:2], "wrong shape"),
        ("d.bval", lambda a: a * 1e6, "may be in s/m2: divide by 1,000,000"),
        ("d.bval", lambda a: a * 100, "may be in s/cm2: divide by 100"),
        ("d.bvec", lambda a: np.vstack([a, [0, *[1000] * 8]]), "last row holds b-values"),
        ("d.bvec", lambda a: np.vstack([[0, *[1000] * 8], a]).T, "first column holds b-values"),
        ("d.bvec", lambda a: np.vstack([np.arange(9), a]).T, "first column holds numbers of volumes"),
    ],
)
def test_a_wrong_table_is_refused_naming_the_subject(file: str, change: object, message: str, tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    np.savetxt(tmp_path / file, change(np.atleast_2d(np.loadtxt(tmp_path / file))))  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        read_dwi(image, bval, bvec, subject="sub-07")
    assert "sub-07" in str(caught.value)
    assert caught.value.exit_code == 65


@pytest.mark.parametrize("scale", [0.01, 0.577, 3.0, 1000.0])
def test_b_vectors_of_one_length_are_directions(scale: float, tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    expected = read_dwi(image, bval, bvec)
    np.savetxt(bvec, np.loadtxt(bvec) * scale)
    found = read_dwi(image, bval, bvec)
    np.testing.assert_allclose(found.directions, expected.directions, atol=1e-6)
    np.testing.assert_array_equal(found.bvals, expected.bvals)
    assert f"b-vectors of length {scale:.3g}" in found.warnings[0]


def test_shells_written_by_the_length_of_the_vectors_are_shells(tmp_path: Path) -> None:
    """One b-value for all and vectors of length sqrt(b / b_max); MRtrix3 scales by the square."""
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    directions, lengths = read_dwi(image, bval, bvec).directions, np.where(np.arange(9) < 5, np.sqrt(1 / 3), 1.0)
    vectors = np.loadtxt(bvec) * lengths
    np.savetxt(bvec, vectors)
    np.savetxt(bval, np.array([[0, *[3000] * 8]]))
    found = read_dwi(image, bval, bvec)
    assert [round(b) for b, _ in found.shells()] == [1000, 3000]
    np.testing.assert_allclose(found.directions, directions, atol=1e-6)
    assert "shells at 1000, 3000" in found.warnings[0]
    np.savetxt(bval, np.array([[0, *[1000] * 4, *[3000] * 4]]))  # the b-values contain it already
    again = read_dwi(image, bval, bvec)
    assert [round(b) for b, _ in again.shells()] == [1000, 3000]
    np.testing.assert_allclose(again.directions, directions, atol=1e-6)


@pytest.mark.parametrize("low", [55.0, 60.0, 105.0])
def test_the_limit_of_unweighted_volumes_is_a_setting_that_the_message_names(low: float, tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    np.savetxt(bval, np.atleast_2d(np.where(np.loadtxt(bval) == 0, low, np.loadtxt(bval))))
    with pytest.raises(DataError, match=f"set b0_max: {low:.0f}"):
        read_dwi(image, bval, bvec)
    found = read_dwi(image, bval, bvec, b0_max=low)
    assert found.is_b0.tolist() == [True] + [False] * 8
    vectors = np.loadtxt(bvec)
    vectors[0, 0] = 1.0  # and with a meaningless direction
    np.savetxt(bvec, vectors)
    with pytest.raises(DataError, match=f"without diffusion weighting.*set b0_max: {low:.0f}"):
        read_dwi(image, bval, bvec)
    assert ConnectomesSettings.model_validate({"b0_max": low}).b0_max == low


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
        (lambda d: d * np.nan, "no voxel has a number"),
        (lambda d: d * 0, "contain only 0"),
        (lambda d: d * 0 + 7, "contain only 7"),
        (lambda d: d - 2, "of the unweighted signal is negative"),
        (lambda d: (d * 60000).astype(np.uint16).view(np.int16), "numbers too large for their type"),
        (lambda d: d.astype(np.complex64), "not real numbers"),
    ],
)
def test_what_no_scanner_makes_is_refused(change: object, message: str, tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    data = change(np.random.default_rng(0).random((4, 4, 4, 9)).astype(np.float32))  # type: ignore[operator]
    write_volume(image, data, np.diag([-2.0, 2, 2, 1]))
    with pytest.raises(DataError, match=message) as caught:
        read_dwi(image, bval, bvec, subject="sub-07")
    assert "sub-07, file" in str(caught.value)


def test_sheared_axes_and_unweighted_volumes_without_numbers_are_called_that(tmp_path: Path) -> None:
    affine = np.diag([-2.0, 2, 2, 1])
    image, bval, bvec = written(tmp_path, affine)
    data = np.random.default_rng(0).random((4, 4, 4, 9)).astype(np.float32)
    write_volume(image, data, affine @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    with pytest.raises(DataError, match="axes of the diffusion data are not at right angles"):
        read_dwi(image, bval, bvec)
    data[..., np.loadtxt(bval) == 0] = np.nan
    write_volume(image, data, affine)
    with pytest.raises(DataError, match="unweighted volumes contain no numbers"):
        read_dwi(image, bval, bvec)


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


def test_a_volume_without_numbers_is_empty_and_a_slice_without_them_names_its_volume(tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    data = np.random.default_rng(0).random((4, 4, 4, 9)).astype(np.float32)
    data[..., 4] = np.nan
    data[:, :, 1, 6] = np.nan
    data[0] = np.nan  # background of all volumes
    write_volume(image, data, np.diag([-2.0, 2, 2, 1]))
    dwi = read_dwi(image, bval, bvec)
    assert not dwi.data[..., 4].any()
    assert dwi.mask.sum() == 3 * 4 * 3
    write_volume(image, np.where(np.arange(4)[:, None, None, None] == 0, 0, data), np.diag([-2.0, 2, 2, 1]))
    (warning,) = read_dwi(image, bval, bvec).warnings
    assert warning == "12 voxels contain values that are not numbers (volume 7) and are excluded"


def test_b_values_may_be_wrapped_and_rounded_below_0(tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    bval.write_text("-1e-6 1000 1000 1000 1000\n1000 1000 1000\n1000\n")
    assert read_dwi(image, bval, bvec).bvals.tolist() == [0.0] + 8 * [1000.0]
    bval.write_text("-1 1000 1000 1000 1000 1000 1000 1000 1000\n")
    with pytest.raises(DataError, match="-1 among 9"):
        read_dwi(image, bval, bvec)


def test_a_mask_on_another_grid_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    mask = write_volume(tmp_path / "m.nii.gz", np.ones((5, 4, 4), dtype=np.uint8), np.diag([-2.0, 2, 2, 1]))
    with pytest.raises(DataError, match="same grid"):
        read_dwi(image, bval, bvec, mask=mask, subject="sub-01")
    write_volume(mask, np.zeros((4, 4, 4), dtype=np.uint8), np.diag([-2.0, 2, 2, 1]))
    with pytest.raises(DataError, match="mask is empty"):
        read_dwi(image, bval, bvec, mask=mask, subject="sub-01")


def test_what_lengths_of_vectors_mean_can_be_said(tmp_path: Path) -> None:
    """Lengths without a pattern: refused by default, directions or weightings on request."""
    image, bval, bvec = written(tmp_path, np.diag([-2.0, 2, 2, 1]))
    expected = read_dwi(image, bval, bvec).directions
    lengths = np.array([1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 0.55])
    np.savetxt(bvec, np.loadtxt(bvec) * lengths)
    with pytest.raises(DataError, match="not of length 1"):
        read_dwi(image, bval, bvec)
    ignored, scaled = (read_dwi(image, bval, bvec, lengths=way) for way in ("ignore", "scale"))
    for found in (ignored, scaled):
        np.testing.assert_allclose(found.directions, expected, atol=1e-6)
    assert ignored.bvals.tolist() == [0] + [1000] * 8
    np.testing.assert_allclose(scaled.bvals[1:], 1000 * lengths[1:] ** 2, rtol=1e-6)
    assert "bvec_lengths: ignore" in ignored.warnings[0]
