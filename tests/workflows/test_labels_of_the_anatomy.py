"""A subject's own labels on its anatomical image, as in the dHCP release, are transferred to its diffusion data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.read.images import read_labels, read_volume, write_volume
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.connectomes import build_connectomes

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)
NAME = "sub-CC01_ses-1"


def dice(a: np.ndarray, b: np.ndarray) -> float:
    numbers = [n for n in np.unique(b) if n > 0]
    return float(np.mean([2 * ((a == n) & (b == n)).sum() / ((a == n).sum() + (b == n).sum()) for n in numbers]))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder like the dHCP's, with another head position in the T2w; and the true labels."""
    raw = write_phantom(tmp_path_factory.mktemp("raw"), n_subjects=1, n_sessions=1, settings=SMALL)
    root = tmp_path_factory.mktemp("dhcp")
    dwi = next(raw.glob("sub-*/**/*_dwi.nii.gz"))
    truth = read_labels(next((raw / "derivatives").rglob("*_dseg.nii.gz")))
    t2w = read_volume(next(raw.glob("sub-*/**/*_T2w.nii.gz")))
    there = root / "rel3_dhcp_dmri_shard_pipeline/sub-CC01/ses-1/dwi"
    beside = root / "rel3_dhcp_anat_pipeline/sub-CC01/ses-1/anat"
    there.mkdir(parents=True)
    beside.mkdir(parents=True)
    for ending in (".nii.gz", ".bval", ".bvec"):
        shutil.copy(str(dwi).replace(".nii.gz", ending), there / f"{NAME}_desc-preproc_dwi{ending}")
    voxels = np.argwhere(np.ones(t2w.shape)) @ t2w.affine[:3, :3].T + t2w.affine[:3, 3]
    back = np.linalg.inv(truth.affine)
    labels = map_coordinates(truth.data, (voxels @ back[:3, :3].T + back[:3, 3]).T, order=0).reshape(t2w.shape)
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", [8, -6, 10], degrees=True).as_matrix()
    moved[:3, 3] = (7, -5, 4)
    write_volume(beside / f"{NAME}_desc-restore_T2w.nii.gz", t2w.data, moved @ t2w.affine)
    write_volume(beside / f"{NAME}_desc-drawem87_dseg.nii.gz", labels.astype(np.int16), moved @ t2w.affine)
    return root, truth.data


@pytest.mark.slow
def test_they_are_carried_in_rigidly_and_fit(release: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    root, truth = release
    (tmp_path / "c.yaml").write_text("tracking: {n_streamlines: 300}\nreconstruction: {response_voxels: 60}\n")
    run = build_connectomes(root, tmp_path / "out", config=tmp_path / "c.yaml")
    assert run.done[0].scan == NAME
    assert run.done[0].numbers["mask_dice"] > 0.9
    assert 0 < run.done[0].numbers["anatomy_likeness"] < 1
    found = read_labels(next((tmp_path / "out").rglob("*_dseg.nii.gz")))
    lying = read_labels(next(root.rglob("*_desc-drawem87_dseg.nii.gz")))
    voxels = np.argwhere(np.ones(truth.shape))
    into = np.linalg.inv(lying.affine) @ found.affine
    plain = map_coordinates(lying.data, (voxels @ into[:3, :3].T + into[:3, 3]).T, order=0).reshape(truth.shape)
    assert dice(found.data, truth) > 0.7
    assert dice(plain, truth) < 0.1  # without a registration they would not fit
