"""A lesion mask of the folder is excluded from the registration, through the whole command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, read_labels, read_volume, write_volume
from connectome_tl.imaging.read.inputs import take_inventory
from connectome_tl.imaging.register import registration, template_fit
from connectome_tl.imaging.register.warps import Warp, carry_labels
from connectome_tl.provenance import content_hash
from connectome_tl.settings.imaging import RegistrationSettings
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.connectomes import build_connectomes

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)
CONFIG = """\
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
template:
  image: template/tpl-Phantom_T2w.nii.gz
  labels: template/tpl-Phantom_atlas-Phantom_dseg.nii.gz
  mask: template/tpl-Phantom_desc-brain_mask.nii.gz
measures: [count]
tracking: {n_streamlines: 100}
reconstruction: {response_voxels: 60}
preprocessing: {denoise: none, motion: none}
"""
QUICK = "orientation: header, nonlinear_steps: [40, 20, 5]"
OURS = f"engine: dipy, {QUICK}"  # one engine throughout; `auto` uses it with a lesion mask
NAME = "sub-01_ses-01"


def agreement(folder: Path, out: Path) -> float:
    """Mean Dice of the transferred labels and the true ones."""
    truth = read_labels(next((folder / "derivatives").rglob(f"{NAME}*_dseg.nii.gz")))
    found = carry_labels(Warp(np.eye(4)), read_labels(next(out.rglob(f"{NAME}*_dseg.nii.gz"))), truth).data
    pairs = [(truth.data == n, found == n) for n in np.unique(truth.data)[1:]]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


def with_lesion(folder: Path) -> Volume:
    """The subject with a large bright lesion (a cyst on T2w); returns where it is."""
    file = folder / "sub-01/ses-01/anat" / f"{NAME}_T2w.nii.gz"
    image = read_volume(file)
    points = np.stack(np.indices(image.shape), axis=-1) @ image.affine[:3, :3].T + image.affine[:3, 3]
    lesion = (((points - (-10.0, 8.0, 2.0)) / (12.0, 16.0, 14.0)) ** 2).sum(axis=-1) < 1
    write_volume(file, np.where(lesion, 1500.0, image.data).astype(np.float32), image.affine)
    return Volume(lesion, image.affine)


@pytest.mark.parametrize("name", [f"{NAME}_label-lesion_mask", f"{NAME}_T2w_label-lesion_roi"])  # BIDS; fMRIPrep
def test_a_lesion_is_found_by_either_name(name: str, tmp_path: Path) -> None:
    file = tmp_path / "sub-01" / "ses-01" / "anat" / f"{name}.nii.gz"
    file.parent.mkdir(parents=True)
    file.touch()
    inventory = take_inventory(tmp_path, diffusion=False)
    assert inventory.scans[0].lesion == file
    assert "not a BIDS name" not in str(inventory.problems)


@pytest.fixture
def registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal images are registered once: two commands of the test below differ only in the gate after it."""
    known: dict[str, Warp] = {}

    def register(fixed: Volume, moving: Volume, settings: RegistrationSettings, **more: Any) -> Warp:
        images = [part for image in (fixed, moving) for part in (image.data, image.affine)]
        key = content_hash(*images, settings.model_copy(update={"min_likeness": 0.0}), more)
        if key not in known:
            known[key] = registration.register(fixed, moving, settings, **more)
        return known[key]

    monkeypatch.setattr(template_fit, "register", register)


@pytest.mark.slow
@pytest.mark.usefixtures("registered_once")
def test_labels_come_through_better_when_the_lesion_is_left_out(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path / "bids", n_subjects=1, n_sessions=1, settings=SMALL)
    (folder / "config.yaml").write_text(CONFIG + f"registration: {{{OURS}}}\n")
    lesion = with_lesion(folder)
    with pytest.raises(DataError, match="the registered template does not match"):
        build_connectomes(folder, tmp_path / "stopped", config=folder / "config.yaml")
    (folder / "no_gate.yaml").write_text(CONFIG + f"registration: {{{OURS}, min_likeness: 0}}\n")
    build_connectomes(folder, tmp_path / "seen", config=folder / "no_gate.yaml")
    write_volume(folder / "sub-01/ses-01/anat" / f"{NAME}_label-lesion_mask.nii.gz", lesion.data, lesion.affine)
    (folder / "auto.yaml").write_text(CONFIG + f"registration: {{{QUICK}}}\n")
    build_connectomes(folder, tmp_path / "left out", config=folder / "auto.yaml")
    seen, left_out = (agreement(folder, tmp_path / out) for out in ("seen", "left out"))
    assert left_out > seen + 0.1
    engine = json.loads(next((tmp_path / "left out").rglob("*_relmat.json")).read_text())["Registration"]["Engine"]
    assert engine["Name"] == "dipy"
    assert "lesion" in engine["Why"]
    mark = json.loads(next((tmp_path / "left out").rglob("*_provenance.json")).read_text())
    assert "lesion" in mark["Inputs"]
