"""Diffusion data as written by scanners and converters: read correctly, or refused in one line with the location."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from connectome_tl.errors import ConnectomeTLError
from connectome_tl.imaging.read.dwi import Dwi, read_dwi

AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -8], [0, 0, 2, -7], [0, 0, 0, 1]])
BVALS = [0, 1000, 1000, 1000, 1000, 1000, 1000, 2000, 2000]
DATA = np.random.default_rng(0).integers(1, 200, (4, 4, 4, len(BVALS))).astype(np.float32)


def vectors() -> np.ndarray:
    found = np.random.default_rng(1).normal(size=(len(BVALS), 3))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found[0] = 0
    return found.round(6)


class Files:
    """One correct scan on disk; each case damages something."""

    def __init__(self, folder: Path) -> None:
        self.image, self.bval, self.bvec = (folder / f"sub-01_dwi.{e}" for e in ("nii.gz", "bval", "bvec"))
        self.save(nib.Nifti1Image(DATA, AFFINE))
        self.bval.write_text(" ".join(map(str, BVALS)) + "\n")
        self.bvec.write_text("".join(" ".join(map(str, row)) + "\n" for row in vectors().T))

    def save(self, image: nib.Nifti1Image) -> None:
        if image.header["sform_code"] == 0:
            image.set_sform(image.affine, 1)
        nib.save(image, self.image)

    def header(self, change: Callable[[nib.Nifti1Header], None]) -> None:
        """Change the header on disk, without nibabel's checks."""
        raw = bytearray(gzip.decompress(self.image.read_bytes()))
        header = nib.Nifti1Header(bytes(raw[:348]), check=False)
        change(header)
        raw[:348] = header.binaryblock
        self.image.write_bytes(gzip.compress(bytes(raw), mtime=0))

    def read(self) -> Dwi:
        return read_dwi(self.image, self.bval, self.bvec, subject="sub-01")


def scaled(files: Files) -> None:
    image = nib.Nifti1Image(DATA.astype(np.int16), AFFINE)
    image.header.set_slope_inter(1.0, 0.0)
    files.save(image)
    files.header(lambda header: header.__setitem__("scl_slope", 0.5))


def negative_size(header: nib.Nifti1Header) -> None:
    header["pixdim"][1] = -2.0


def other_code(header: nib.Nifti1Header) -> None:
    header.set_qform(AFFINE, code=1)
    header["sform_code"] = 2


RIGHT: dict[str, tuple[Callable[[Files], object], float]] = {
    "as it should be": (lambda _: None, 1.0),
    "empty lines": (lambda f: f.bval.write_text("\n\n" + f.bval.read_text() + "\n\n"), 1.0),
    "one value a line": (lambda f: f.bval.write_text("\r\n".join(map(str, BVALS)) + "\r\n"), 1.0),
    "commas": (lambda f: f.bval.write_text(", ".join(map(str, BVALS))), 1.0),
    "a mark at the start": (lambda f: f.bval.write_text("\ufeff" + f.bval.read_text()), 1.0),
    "vectors in columns": (lambda f: np.savetxt(f.bvec, vectors()), 1.0),
    "no number for the unweighted": (lambda f: f.bvec.write_text(f.bvec.read_text().replace("0.0 ", "nan ")), 1.0),
    "float64": (lambda f: f.save(nib.Nifti1Image(DATA.astype(np.float64), AFFINE)), 1.0),
    "uint8": (lambda f: f.save(nib.Nifti1Image(DATA.astype(np.uint8), AFFINE)), 1.0),
    "int16 with a scale": (scaled, 0.5),
    "a fifth axis": (lambda f: f.save(nib.Nifti1Image(DATA[..., None], AFFINE)), 1.0),
    "sform and qform of two spaces": (lambda f: f.header(other_code), 1.0),
    "a negative size beside an sform": (lambda f: f.header(negative_size), 1.0),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_means_the_same_is_read_alike(name: str, tmp_path: Path) -> None:
    files = Files(tmp_path)
    spoil, factor = RIGHT[name]
    spoil(files)
    found = files.read()
    np.testing.assert_allclose(found.data, factor * DATA)
    np.testing.assert_array_equal(found.bvals, BVALS)
    np.testing.assert_allclose(found.directions, vectors() * [-1, 1, 1], atol=1e-5)  # the image's first axis runs left
    np.testing.assert_allclose(found.affine, AFFINE)


def test_b_values_that_scanners_round_are_one_shell(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.bval.write_text("5 995 1005 1000 1000 995 1000 1995 2005")
    found = files.read()
    assert [(b, len(volumes)) for b, volumes in found.shells()] == [(pytest.approx(999.2, abs=0.1), 6), (2000.0, 2)]
    assert found.is_b0.tolist() == [True] + [False] * 8


def test_directions_of_an_oblique_image_turn_with_it(tmp_path: Path) -> None:
    files = Files(tmp_path)
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    affine = AFFINE.copy()
    affine[:3, :3] = turn @ AFFINE[:3, :3]
    files.save(nib.Nifti1Image(DATA, affine))
    np.testing.assert_allclose(files.read().directions, (vectors() * [-1, 1, 1]) @ turn.T, atol=1e-5)


def without_sform(header: nib.Nifti1Header) -> None:
    header.set_qform(AFFINE, code=1)
    header["sform_code"] = 0
    negative_size(header)


def mirrored(header: nib.Nifti1Header) -> None:
    header.set_qform(np.diag([-1.0, 1, 1, 1]) @ AFFINE, code=2)


WRONG: dict[str, tuple[Callable[[Files], object], str]] = {
    "one volume": (lambda f: f.save(nib.Nifti1Image(DATA[..., 0], AFFINE)), "expected 4-dimensional; got"),
    "unweighted alone": (lambda f: f.bval.write_text("0 " * len(BVALS)), "no volume is diffusion weighted"),
    "volumes removed": (lambda f: f.save(nib.Nifti1Image(DATA[..., :-1], AFFINE)), "expected 8; got 9"),
    "vectors removed": (lambda f: np.savetxt(f.bvec, vectors()[:-1].T), "number of b-vectors.*expected 9; got 8"),
    "an empty table": (lambda f: f.bval.write_text("\n \n"), "b-values are not b-values.*an empty file"),
    "empty vectors": (lambda f: f.bvec.write_text(""), "b-vectors have the wrong shape"),
    "cut off": (
        lambda f: f.image.write_bytes(f.image.read_bytes()[:-400]),
        "compressed file is damaged.*copy it again",
    ),
    "negative size of a qform": (lambda f: f.header(without_sform), "negative voxel sizes.*convert it again"),
    "two hands": (lambda f: f.header(mirrored), "sform and qform disagree about left and right.*fslorient"),
    "another encoding": (
        lambda f: f.bvec.write_bytes(f.bvec.read_text().encode("utf-16")),
        "not a text file.*plain text",
    ),
    "semicolons": (lambda f: f.bvec.write_text(f.bvec.read_text().replace(" ", ";")), "separated by blanks, tabs or"),
    "a weighted volume without a direction": (
        lambda f: np.savetxt(f.bvec, np.where(np.arange(9)[:, None] == 4, np.nan, vectors()).T),
        "got nan at volume 5. Write the direction of each weighted volume",
    ),
    "a b-value below 0": (lambda f: f.bval.write_text(f.bval.read_text().replace("0", "-1", 1)), "Write 0 for volumes"),
    "an affine without a first axis": (
        lambda f: f.header(lambda header: header.__setitem__("srow_x", [0, 0, 0, 0])),
        "cannot be inverted.*Convert the image again",
    ),
    "decimal commas": (
        lambda f: f.bvec.write_text(f.bvec.read_text().replace(".", ",")),
        "number of b-vectors|wrong shape",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_right_is_one_line_with_subject_and_file(name: str, tmp_path: Path) -> None:
    files = Files(tmp_path)
    spoil, told = WRONG[name]
    spoil(files)
    with pytest.raises(ConnectomeTLError, match=f"(?s)subject sub-01, file .*sub-01_dwi.*{told}"):
        files.read()
