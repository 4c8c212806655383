"""Several diffusion images of one session as one scan."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.preprocess.phase import pairs
from connectome_tl.imaging.read.dwi import read_dwi
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.imaging.read.inputs import take_inventory
from connectome_tl.imaging.read.joined import read_runs
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.connectomes import build_connectomes

TINY = PhantomSettings(
    n_regions=6, n_edges=5, half_axes=(20.0, 24.0, 18.0), voxel=3.0, region_radius=6.0,
    shells=((0.0, 4), (1000.0, 12), (2000.0, 12)),
)  # fmt: skip
CONFIG = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz
tracking: {n_streamlines: 200}
reconstruction: {response_voxels: 60, sh_order: 4}
preprocessing: {denoise: none, motion: none}
join_runs: true
"""
RUNS = {"dir-PA_run-01": (slice(0, None, 2), "j", 1.0), "dir-AP_run-02": (slice(1, None, 2), "j-", 3.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every second volume of a phantom in a separate run; the second run is three times as bright."""
    root = write_phantom(tmp_path_factory.mktemp("bids"), n_subjects=1, n_sessions=1, settings=TINY)
    place, name = root / "sub-01/ses-01/dwi", "sub-01_ses-01"
    whole = place / f"{name}_dwi"
    image = read_volume(whole.with_suffix(".nii.gz"), n_dimensions=(4,))
    bvals, bvecs = np.loadtxt(whole.with_suffix(".bval"), ndmin=2), np.loadtxt(whole.with_suffix(".bvec"))
    for run, (volumes, axis, factor) in RUNS.items():
        stem = place / f"{name}_{run}_dwi"
        write_volume(f"{stem}.nii.gz", image.data[..., volumes] * np.float32(factor), image.affine)
        np.savetxt(f"{stem}.bval", bvals[:, volumes])
        np.savetxt(f"{stem}.bvec", bvecs[:, volumes])
        Path(f"{stem}.json").write_text(f'{{"PhaseEncodingDirection": "{axis}", "TotalReadoutTime": 0.05}}')
    for ending in (".nii.gz", ".bval", ".bvec", ".json"):
        whole.with_suffix(ending).rename(root / f"whole{ending}")
    (root / "config.yaml").write_text(CONFIG)
    return root


def test_runs_are_joined_in_their_order_on_one_scale(folder: Path) -> None:
    (scan,) = take_inventory(folder, join=True).scans
    assert [run.image.name.split("_")[3] for run in scan.runs] == ["run-01", "run-02"]
    assert scan.problems == ()
    assert {"dwi", "dwi_2", "bvec_2"} <= set(scan.files())
    found = read_runs(scan.runs, subject="sub-01")
    whole = read_dwi(folder / "whole.nii.gz", folder / "whole.bval", folder / "whole.bvec")
    order = np.concatenate([np.arange(whole.n_volumes)[volumes] for volumes, _, _ in RUNS.values()])
    np.testing.assert_allclose(found.directions, whole.directions[order], atol=1e-6)
    np.testing.assert_array_equal(found.bvals, whole.bvals[order])
    # Scales may differ only by the noise of the unweighted volumes.
    assert found.data[..., 14:].mean() == pytest.approx(whole.data[..., 1::2].mean(), rel=0.02)
    np.testing.assert_array_equal(found.data[..., :14], whole.data[..., ::2])
    assert found.runs is not None
    np.testing.assert_array_equal(found.runs, np.repeat([0, 1], 14))
    assert "2 runs are joined" in found.warnings[-1]
    np.testing.assert_array_equal(found.part(np.array([0, 20])).runs, [0, 1])
    tables = pairs(found, scan.runs, ())
    assert tables.rows.tolist() == [[0, 1, 0, 0.05]] * 2 + [[0, -1, 0, 0.05]] * 2
    assert tables.index.tolist() == [1] * 14 + [3] * 14


def test_without_the_setting_several_images_are_still_a_question(folder: Path) -> None:
    (scan,) = take_inventory(folder).scans
    assert "join_runs: true" in str(scan.problems[0])
    (scan,) = take_inventory(folder, meant={"run": 2}).scans
    assert len(scan.runs) == 1
    (scan,) = take_inventory(folder, meant={"run": 2}, join=True).scans
    assert scan.dwi is not None
    assert "run-02" in scan.dwi.name
    assert scan.further == ()


def test_images_that_the_setting_does_not_ask_for_are_not_joined(folder: Path, tmp_path: Path) -> None:
    (scan,) = take_inventory(folder, meant={"acq": "b2600"}, join=True).scans
    assert scan.runs == ()
    assert "no diffusion image matches `dwi`; expected acq-b2600" in str(scan.problems[0])
    other = Path(shutil.copytree(folder, tmp_path / "bids"))
    file = next(other.rglob("*run-01*_dwi.nii.gz"))
    file.with_name(file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
    (scan,) = take_inventory(other, join=True).scans
    assert "a run exists with two file extensions" in str(scan.problems[0])


def test_runs_on_different_grids_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (scan,) = take_inventory(folder, join=True).scans
    first, second = scan.runs
    image = read_volume(second.image, n_dimensions=(4,))
    moved = image.affine.copy()
    moved[0, 3] += 1.0
    other = write_volume(tmp_path / "other.nii.gz", image.data, moved)
    with pytest.raises(DataError, match=r"cannot be joined\n.*other\.nii\.gz.*same grid.*run-01"):
        read_runs((first, replace(second, image=other)), subject="sub-01")


def test_unlike_phase_directions_without_correction_are_exploratory(folder: Path, tmp_path: Path) -> None:
    run = build_connectomes(folder, tmp_path, config=folder / "config.yaml")
    said = run.done[0].warnings
    assert any(line.startswith("exploratory: runs of different phase directions") for line in said)
    assert any("2 runs are joined" in line for line in said)
