"""Tissue maps of the user determine where streamlines end, through the whole command, with either engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from connectome_tl.imaging.preprocess.structural import brain_mask
from connectome_tl.imaging.preprocess.tissues import SEGMENTED, segment_tissues
from connectome_tl.imaging.read.images import Volume, read_labels, read_mask, read_volume, write_volume
from connectome_tl.imaging.track.streamlines import read_streamlines
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.connectomes import build_connectomes

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)
CONFIG = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz
tracking: {n_streamlines: 600}
reconstruction: {response_voxels: 60}
preprocessing: {denoise: none, motion: none}
keep_tractogram: true
"""
SCAN = "sub-01/ses-01"
NAME = "sub-01_ses-01"


def with_tissues(root: Path, place: str) -> Path:
    """A phantom whose regions are grey, whose rim is fluid and whose rest is white, as 5TT."""
    folder = write_phantom(root, n_subjects=1, n_sessions=1, settings=SMALL)
    (folder / "config.yaml").write_text(CONFIG)
    truth = folder / "derivatives" / "truth" / SCAN
    labels = read_labels(truth / f"{NAME}_space-dwi_atlas-Phantom_dseg.nii.gz")
    mask = read_mask(truth / f"{NAME}_space-dwi_desc-brain_mask.nii.gz").data
    grey = labels.data > 0
    fluid = mask & ~binary_erosion(mask, iterations=1) & ~grey
    parts = [grey, np.zeros_like(grey), mask & ~grey & ~fluid, fluid, np.zeros_like(grey)]
    five = np.stack(parts, axis=-1).astype(np.float32)
    write_volume(folder / SCAN / place / f"{NAME}_5TT.nii.gz", five, labels.affine)
    return folder


def every_point(out: Path) -> np.ndarray:
    points = read_streamlines(next(out.rglob("*_tractogram.tck"))).points
    return points[np.isfinite(points).all(axis=1)]  # as in the file, with the rows between streamlines


def share_inside(there: Volume, points: np.ndarray) -> float:
    """Number of points (n, 3) in mm at which this is true."""
    voxels = np.rint((points - there.affine[:3, 3]) @ np.linalg.inv(there.affine[:3, :3]).T).astype(int)
    return float(there.data[tuple(voxels.clip(0, np.array(there.shape) - 1).T)].mean())


def share_of_ends_in_grey(folder: Path, out: Path) -> float:
    tracts = read_streamlines(next(out.rglob("*_tractogram.tck")))
    ends = tracts.points[np.concatenate([tracts.first, tracts.first + tracts.n_points - 1])]
    labels = read_labels(next((folder / "derivatives").rglob("*_dseg.nii.gz")))
    near = binary_dilation(labels.data > 0, np.ones((3, 3, 3)))  # a step is half a voxel, and the last may be left out
    return share_inside(Volume(near, labels.affine), ends)


@pytest.fixture(scope="module")
def unbounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scan without tissue maps, which does not depend on their location."""
    home = tmp_path_factory.mktemp("unbounded")
    folder = with_tissues(home / "bids", "dwi")
    (folder / "config.yaml").write_text(CONFIG + "tissues: none\n")
    build_connectomes(folder, home / "plain", config=folder / "config.yaml")
    return home / "plain"


@pytest.mark.slow
@pytest.mark.parametrize("place", ["dwi", "anat"])  # in the folder of the T2w image they are transferred with it
def test_streamlines_end_where_the_given_tissues_let_them(place: str, unbounded: Path, tmp_path: Path) -> None:
    folder = with_tissues(tmp_path / "bids", place)
    build_connectomes(folder, tmp_path / "act", config=folder / "config.yaml")
    constrained, plain = (share_of_ends_in_grey(folder, out) for out in (tmp_path / "act", unbounded))
    assert constrained > plain + 0.1
    assert constrained > 0.85
    marks = [json.loads(next(out.rglob("*_provenance.json")).read_text()) for out in (tmp_path / "act", unbounded)]
    assert "tissue_1" in marks[0]["Inputs"]
    assert marks[0]["Numbers"]["share_assigned"] > marks[1]["Numbers"]["share_assigned"]


@pytest.mark.slow
@pytest.mark.mrtrix
def test_mrtrix_takes_the_same_tissues(tmp_path: Path) -> None:
    if shutil.which("tckgen") is None:
        pytest.skip("MRtrix3 is not on the PATH")
    folder = with_tissues(tmp_path / "bids", "dwi")
    build_connectomes(folder, tmp_path / "act", config=folder / "config.yaml", engine="mrtrix3")
    assert share_of_ends_in_grey(folder, tmp_path / "act") > 0.85


@pytest.mark.slow
def test_tissues_of_intensities_bound_the_streamlines_and_stamp_the_scan(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path / "bids", n_subjects=1, n_sessions=1, settings=SMALL)
    for name, tissues in (("act", "segmented"), ("plain", "given")):  # no maps here
        (folder / "config.yaml").write_text(CONFIG + f"tissues: {tissues}\n")
        build_connectomes(folder, tmp_path / name, config=folder / "config.yaml")
    marks = [json.loads(next((tmp_path / name).rglob("*_provenance.json")).read_text()) for name in ("act", "plain")]
    assert SEGMENTED in marks[0]["Warnings"]
    assert SEGMENTED not in marks[1]["Warnings"]
    page = next((tmp_path / "act").rglob("*_report.html")).read_text()
    assert SEGMENTED[:1].upper() + SEGMENTED[1:] in page
    assert f"1 of 1 scan is {SEGMENTED}" in (tmp_path / "act" / "index.html").read_text()
    first, second = (next((tmp_path / name).rglob("*meas-count_relmat.tsv")).read_text() for name in ("act", "plain"))
    assert first != second
    # Grey matter is where a streamline ends, not what it runs through.
    image = read_volume(folder / SCAN / "anat" / f"{NAME}_T2w.nii.gz")
    grey = Volume(segment_tissues(image, brain_mask(image), "T2w").grey > 0.5, image.affine)
    through = [share_inside(grey, every_point(tmp_path / name)) for name in ("act", "plain")]
    assert through[0] < 0.5 * through[1]
