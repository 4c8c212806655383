"""Every kind of damaged image causes one message that names subject and file."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError
from connectome_tl.imaging.read.images import (
    Volume,
    read_labels,
    read_mask,
    read_volume,
    same_grid,
    with_contrast,
    write_volume,
)

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])


def good(path: Path, data: np.ndarray | None = None) -> Path:
    return write_volume(path, np.arange(60, dtype=np.float32).reshape(3, 4, 5) if data is None else data, AFFINE)


def patched(offset: int, code: str, *values: float) -> Callable[[bytes], bytes]:
    """Change a field of the header inside the compressed file."""

    def change(data: bytes) -> bytes:
        raw = bytearray(gzip.decompress(data))
        struct.pack_into(code, raw, offset, *values)
        return gzip.compress(bytes(raw), mtime=0)

    return change


FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated gzip": (lambda d: d[: len(d) // 2], "damaged"),
    "wrong checksum": (lambda d: d[:-8] + bytes([d[-8] ^ 1]) + d[-7:], "damaged"),
    "flipped byte": (lambda d: d[:60] + bytes([d[60] ^ 255]) + d[61:], "damaged|cannot be read|ends before|NIfTI"),
    "not gzip": (lambda _: b"hello" * 100, "damaged|cannot be read"),
    "empty": (lambda _: b"", "not a NIfTI"),
    "30000^3": (patched(40, "<8h", 3, 30000, 30000, 30000, 1, 1, 1, 1), "too large according to its header"),
    "negative size": (patched(40, "<8h", 3, -3, 4, 5, 1, 1, 1, 1), "no voxels according|cannot be read"),
    "more voxels than bytes": (patched(40, "<8h", 3, 30, 40, 50, 1, 1, 1, 1), "ends before"),
    "no orientation": (patched(252, "<2h", 0, 0), "no orientation"),
    "NaN scale": (patched(112, "<2f", float("nan"), 0.0), "scale"),
    "infinite intercept": (patched(112, "<2f", 1.0, float("inf")), "scale"),
    "singular affine": (patched(280, "<4f", 0.0, 0.0, 0.0, 0.0), "affine"),
    "unknown type": (patched(70, "<h", 9999), "cannot be read"),
    "lengths in metres": (patched(123, "<B", 1), "lengths in metres"),
    "lengths in micrometres": (patched(123, "<B", 3 | 8), "lengths in micrometres"),
    "fewer voxels than bytes": (patched(40, "<8h", 3, 2, 4, 5, 1, 1, 1, 1), "longer than stated in its header"),
    "voxels of another size": (patched(72, "<h", 16), "contradictory voxel sizes"),
    "offset before the voxels": (patched(108, "<f", 348.0), "longer than stated in its header|cannot be read"),
    "offset beyond the file": (patched(108, "<f", 1e9), "ends before"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_image_is_refused_naming_subject_and_file(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    path = good(tmp_path / "sub-01_dwi.nii.gz")
    path.write_bytes(change(path.read_bytes()))
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as caught:
        read_volume(path, subject="sub-01", n_dimensions=(3, 4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.exit_code == 65
    assert "sub-01" in str(caught.value)
    assert "sub-01_dwi.nii.gz" in str(caught.value)
    assert peak < 50e6  # a claimed size allocates no memory


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_ends_in_a_typed_error_or_the_right_shape(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    path = good(tmp_path / "x.nii")
    raw = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 6)):
        raw[rng.integers(0, 352)] = rng.integers(0, 256)
    path.write_bytes(bytes(raw[: rng.integers(1, len(raw) + 1)] if seed % 3 == 0 else raw))
    try:
        volume = read_volume(path, n_dimensions=(3, 4), max_bytes=1 << 20)
    except ConnectomeTLError:
        return
    assert np.isfinite(volume.affine).all()
    assert volume.data.ndim in (3, 4)


def test_reading_gives_back_what_was_written_and_nibabel_agrees(tmp_path: Path) -> None:
    path = good(tmp_path / "a.nii.gz")
    volume, reference = read_volume(path), nib.load(path)
    np.testing.assert_array_equal(volume.data, reference.get_fdata())
    np.testing.assert_allclose(volume.affine, reference.affine)
    np.testing.assert_allclose(volume.zooms, [2, 2, 2])
    assert good(tmp_path / "b.nii.gz").read_bytes() == path.read_bytes()
    with pytest.raises(MissingInputError):
        read_volume(tmp_path / "absent.nii.gz")


@pytest.mark.parametrize("length", [16, 200, 5000])
def test_header_extensions_are_passed_over(length: int, tmp_path: Path) -> None:
    """Templates and AFNI's files carry them; they may be longer than the header itself."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * length))
    nib.save(image, tmp_path / "template.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "template.nii.gz").data, image.get_fdata())


def test_scaled_integers_are_scaled(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), AFFINE)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "s.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "s.nii").data, nib.load(tmp_path / "s.nii").get_fdata())


def two_forms(path: Path, sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int]) -> Path:
    image = nib.Nifti1Image(np.ones((10, 10, 10), dtype=np.float32), sform)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1], strip_shears=True)
    nib.save(image, path)
    return path


def test_two_orientations_of_one_space_are_refused_when_they_disagree(tmp_path: Path) -> None:
    path, moved, mirrored, sheared = tmp_path / "sub-01_dwi.nii.gz", AFFINE.copy(), AFFINE.copy(), AFFINE.copy()
    moved[0, 3] += 30
    mirrored[0, 0] *= -1
    sheared[0, 1] = 0.5
    read_volume(two_forms(path, AFFINE, AFFINE, (1, 1)))
    read_volume(two_forms(path, sheared, sheared, (1, 1)))  # a qform holds no shear
    read_volume(two_forms(path, moved, AFFINE, (4, 1)))  # template space in one, scanner space in the other
    for sform, codes in ((moved, (1, 1)), (mirrored, (4, 1))):
        with pytest.raises(DataError, match=r"sub-01_dwi\.nii\.gz: sform and qform disagree"):
            read_volume(two_forms(path, sform, AFFINE, codes))


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(MissingInputError, match="is a folder"):
        read_volume(tmp_path / "a.nii.gz")


def test_labels_survive_whatever_their_size(tmp_path: Path) -> None:
    numbers = np.array([0, 1, 127, 128, 255, 1035, 2035, 40000], dtype=np.int32).reshape(2, 2, 2)
    for dtype in (np.int32, np.float64, np.uint16):
        path = good(tmp_path / "l.nii.gz", numbers.astype(dtype))
        np.testing.assert_array_equal(read_labels(path).data, numbers)
    for bad in (
        numbers + 0.5,
        -numbers.astype(float),
        np.zeros((2, 2, 2)),
        np.full((2, 2, 2), np.nan),
        np.zeros((2, 2, 2, 3)),
    ):
        with pytest.raises(DataError):
            read_labels(good(tmp_path / "bad.nii.gz", bad.astype(np.float32)))


def test_an_empty_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        read_mask(good(tmp_path / "m.nii.gz", np.zeros((3, 3, 3), dtype=np.uint8)))


def test_an_image_without_contrast_is_refused_and_gaps_are_background() -> None:
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    for empty, message in ((data * np.nan, "contains no number"), (data * 0 + 5, "contains only 5")):
        with pytest.raises(DataError, match=rf"subject sub-01, file t\.nii: .*{message}"):
            with_contrast(Volume(empty, AFFINE, "sub-01", "t.nii"))
    gap = data.copy()
    gap[1, 1, 1:3] = np.nan, np.inf
    assert with_contrast(Volume(gap, AFFINE)).data[1, 1].tolist() == [25, 0, 0, 28, 29]


def test_grids_are_compared_in_millimetres() -> None:
    a = Volume(np.zeros((100, 100, 100)), np.eye(4))
    nudged = np.eye(4)
    nudged[0, 0] = 1 + 1e-5
    assert same_grid(a, Volume(a.data, nudged))
    nudged[0, 0] = 1.01
    assert not same_grid(a, Volume(a.data, nudged))
    assert not same_grid(a, Volume(a.data[1:], np.eye(4)))


def test_nothing_of_the_source_header_is_written(tmp_path: Path) -> None:
    path = good(tmp_path / "a.nii")
    header = nib.load(path).header
    assert bytes(header["descrip"]).strip(b"\0") == b""
    assert len(header.extensions) == 0


def test_an_sform_of_zeros_beside_a_whole_qform_is_no_sform(tmp_path: Path) -> None:
    """QSIPrep and ANTs leave such images; ITK takes the qform."""
    path = tmp_path / "l.nii"
    raw = bytearray(two_forms(path, AFFINE, AFFINE, (1, 1)).read_bytes())
    raw[280:328] = bytes(48)
    path.write_bytes(raw)
    np.testing.assert_allclose(read_volume(path).affine, AFFINE, atol=1e-5)
    raw[252:254] = bytes(2)  # and no qform either
    path.write_bytes(raw)
    with pytest.raises(DataError, match="affine"):
        read_volume(path)


def test_a_first_pixdim_of_0_means_1_and_an_invalid_qform_beside_an_sform_is_ignored(tmp_path: Path) -> None:
    path = two_forms(tmp_path / "l.nii", AFFINE, AFFINE, (1, 1))
    turned = AFFINE * np.array([[-1], [1], [1], [1]])
    right_handed = two_forms(tmp_path / "r.nii", turned, turned, (1, 1)).read_bytes()
    changes = {"qfac": (76, "<f", 0.0), "quaternion": (256, "<3f", 2.0, 2.0, 2.0), "sizes": (80, "<f", np.nan)}
    raw = path.read_bytes()
    for name, (offset, code, *values) in changes.items():
        changed = bytearray(right_handed if name == "qfac" else raw)
        struct.pack_into(code, changed, offset, *values)
        path.write_bytes(changed)
        assert read_volume(path).affine[1, 1] == 2.0, name
    struct.pack_into("<h", changed, 254, 0)  # no sform
    struct.pack_into("<3f", changed, 256, 2.0, 2.0, 2.0)
    path.write_bytes(changed)
    with pytest.raises(DataError):
        read_volume(path)


def test_labels_that_single_precision_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7]).reshape(2, 2, 2) * 2**22
    assert read_labels(write_volume(tmp_path / "l.nii", labels[:1].astype(np.float32), AFFINE)).data.max() == 3 * 2**22
    with pytest.raises(DataError, match="Save the original labels as integers"):
        read_labels(write_volume(tmp_path / "l.nii", labels.astype(np.float32), AFFINE))
    assert read_labels(write_volume(tmp_path / "l.nii", labels.astype(np.int32), AFFINE)).data.max() == 7 * 2**22


def scaled(path: Path, stored: np.ndarray, slope: float, inter: float = 0.0) -> Path:
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(slope, inter)
    image.header.set_sform(AFFINE, 1)
    nib.save(image, path)
    raw = bytearray(path.read_bytes())  # nibabel drops the scale of integers
    struct.pack_into("<2f", raw, 112, slope, inter)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("largest", [7, 90, 2035])
@pytest.mark.parametrize("shift", [0, 1])
def test_labels_on_any_scale_that_tells_them_apart_are_whole_again(largest: int, shift: int, tmp_path: Path) -> None:
    """As writers that scale the values to the full range of the type (MINC; nibabel from floating point)."""
    rng = np.random.default_rng(largest)
    labels = rng.choice([0, 1, 2, 3, largest], size=(6, 5, 4))
    bits, dtype = (8, np.uint8) if largest < 50 else (16, np.uint16)
    slope = largest / (2**bits - 1)
    inter = shift * largest / 2
    stored = np.rint((labels - inter) / slope) + shift * 2 ** (bits - 1) if shift else np.rint(labels / slope)
    inter -= shift * 2 ** (bits - 1) * slope
    path = scaled(tmp_path / "l.nii", stored.clip(0, 2**bits - 1).astype(dtype), slope, inter)
    np.testing.assert_array_equal(read_labels(path).data, labels)
    path = scaled(tmp_path / "tenth.nii", (labels * 10).astype(np.uint16), 0.1)
    np.testing.assert_array_equal(read_labels(path).data, labels)


def test_a_scale_on_which_labels_run_together_and_interpolated_labels_are_refused(tmp_path: Path) -> None:
    ramp = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    for slope in (0.7, 0.2):
        with pytest.raises(DataError, match="not whole numbers"):
            read_labels(scaled(tmp_path / "l.nii", ramp, slope))


def test_an_mgh_without_orientation_or_cut_off_is_refused(tmp_path: Path) -> None:
    numbers = np.arange(60, dtype=np.int32).reshape(3, 4, 5)
    path = tmp_path / "aseg.mgz"
    nib.save(nib.MGHImage(numbers, AFFINE), path)
    np.testing.assert_array_equal(read_labels(path).data, numbers)
    np.testing.assert_allclose(read_labels(path).affine, AFFINE, atol=1e-4)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    unoriented = raw[:28] + bytes(2) + raw[30:]
    for data, message in ((unoriented, "no orientation"), (raw[:400], "ends before"), (raw[:100], "not an MGH")):
        path.write_bytes(gzip.compress(bytes(data)))
        with pytest.raises(DataError, match=message):
            read_labels(path)
    (tmp_path / "cut.mgz").write_bytes(gzip.compress(bytes(raw))[:-6])
    with pytest.raises(DataError, match="damaged"):
        read_labels(tmp_path / "cut.mgz")


def test_files_that_hold_no_voxels_are_called_by_their_name(tmp_path: Path) -> None:
    image = nib.Nifti2Image(np.ones((1, 1, 1, 1, 2, 3), dtype=np.float32), np.eye(4))
    image.header.set_intent(3007)  # dense labels
    nib.save(image, tmp_path / "a.dlabel.nii")
    with pytest.raises(DataError, match=r"CIFTI.*-cifti-separate"):
        read_labels(tmp_path / "a.dlabel.nii")
