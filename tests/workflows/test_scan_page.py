"""The pictures of a scan's page have one orientation for any storage order of the voxels."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from connectome_tl.imaging.read.images import Volume
from connectome_tl.workflows.scans.folder import FolderRun
from connectome_tl.workflows.scans.report import Row, slices
from connectome_tl.workflows.scans.scan import Done

SHAPE, AFFINE = (14, 18, 12), np.array([[2.0, 0, 0, -13], [0, 2, 0, -17], [0, 0, 2, -11], [0, 0, 0, 1]])


def drawn(image: np.ndarray, labels: np.ndarray, affine: np.ndarray) -> str:
    return slices([Row("FA", image, "gray", 1.0, True)], image > 0.1, Volume(labels, affine), affine)


@pytest.mark.parametrize("codes", ["LPI", "LAS", "PIR", "SLA"])
def test_the_left_is_on_the_left_in_every_orientation(codes: str) -> None:
    rng = np.random.default_rng(0)
    image = np.zeros(SHAPE)
    image[2:11, 3:15, 2:11] = rng.uniform(0.2, 1, (9, 12, 9))  # odd size: rotations preserve the centre
    image[2:11, 14, 2:11] = 0
    labels = np.where(image > 0.9, 3, 0)
    turn = ornt_transform(io_orientation(AFFINE), axcodes2ornt(codes))
    affine = AFFINE @ inv_ornt_aff(turn, SHAPE)
    turned = [nib.orientations.apply_orientation(part, turn) for part in (image, labels)]
    assert nib.aff2axcodes(affine) == tuple(codes)
    assert drawn(*turned, affine) == drawn(image, labels, AFFINE)


def test_a_notebook_shows_a_folder_of_scans_in_one_line() -> None:
    made = Done("sub-01", "computed", {"mean_fa": 0.2}, ())
    shown = repr(FolderRun((made, made), (("sub-03", "no b-values", 65),), None, Path("index.html")))
    assert shown == "FolderRun(2 scans done, 1 failed, page: 'index.html')"
