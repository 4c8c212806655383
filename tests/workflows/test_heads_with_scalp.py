"""A raw folder whose anatomical images show skull and scalp, without masks: labels are in the right places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.read.images import read_labels, read_mask, read_volume
from connectome_tl.imaging.read.inputs import take_inventory
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.anatomy import read_anatomical
from connectome_tl.workflows.scans.connectomes import build_connectomes

from .test_connectomes import REGISTERED, SMALL

NAME = "sub-01_ses-01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = replace(SMALL, scalp=True)
    root = write_phantom(tmp_path_factory.mktemp("bids"), n_subjects=1, n_sessions=1, settings=settings)
    (root / "registered.yaml").write_text(REGISTERED.replace("{motion: none}", "{denoise: none, motion: none}"))
    return root


def mean_dice(a: np.ndarray, b: np.ndarray) -> float:
    numbers = np.unique(b[b > 0])
    return float(np.mean([2 * ((a == n) & (b == n)).sum() / ((a == n).sum() + (b == n).sum()) for n in numbers]))


@pytest.mark.slow
def test_labels_of_a_template_lie_where_they_belong(folder: Path, tmp_path: Path) -> None:
    build_connectomes(folder, tmp_path, config=folder / "registered.yaml")
    found = read_labels(next(tmp_path.rglob("*_dseg.nii.gz")))
    truth = read_labels(next((folder / "derivatives" / "truth").rglob("*_dseg.nii.gz")))
    assert (
        mean_dice(found.data, truth.data) > 0.65
    )  # 0.74 without the scalp; without the rough mask the gate refuses it


def test_intensities_alone_take_the_scalp_for_brain(folder: Path) -> None:
    scan = take_inventory(folder).scans[0]
    assert scan.anatomical is not None
    image = read_volume(scan.anatomical)
    truth = read_mask(next((folder / "derivatives" / "truth").rglob("*_mask.nii.gz")))
    brain = carry_labels(Warp(np.eye(4)), replace(truth, data=truth.data.astype(np.int32)), image).data > 0
    assert read_anatomical(scan)[1].sum() > 1.3 * brain.sum()
    assert read_anatomical(scan, rough=lambda _: brain)[1].sum() < 1.1 * brain.sum()
