"""Files of a scan for other tools: images and streamlines with sidecars, matrices that load in one call."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import networkx as nx
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from connectome_tl.imaging.read.dwi import read_dwi
from connectome_tl.imaging.track.streamlines import read_streamlines
from connectome_tl.simulation.phantom import PhantomSettings
from connectome_tl.simulation.phantom_folder import write_phantom
from connectome_tl.workflows.scans.connectomes import build_connectomes

TINY = PhantomSettings(
    n_regions=6, n_edges=5, half_axes=(20.0, 24.0, 18.0), voxel=3.0, region_radius=6.0,
    shells=((0.0, 2), (1000.0, 12), (2000.0, 12)),
)  # fmt: skip
CONFIG = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
parcellation: derivatives/truth/{subject}/{session}/{subject}_{session}_space-dwi_atlas-Phantom_dseg.nii.gz
tracking: {n_streamlines: 300, seed: 3, weights: fibre_density}
reconstruction: {response_voxels: 60, sh_order: 4}
preprocessing: {denoise: none, motion: none}
tissues: segmented
formats: [csv, npy, graphml]
keep_tractogram: true
keep_preprocessed: true
keep_orientations: true
keep_transforms: true
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_phantom(tmp_path_factory.mktemp("bids"), n_subjects=1, n_sessions=1, settings=TINY)
    (root / "config.yaml").write_text(CONFIG)
    target = tmp_path_factory.mktemp("out")
    build_connectomes(root, target, config=root / "config.yaml")
    return target


def the(out: Path, pattern: str) -> Path:
    (file,) = out.rglob(pattern)
    return file


def test_every_file_of_a_scan_has_a_sidecar_with_versions_and_its_reference(out: Path) -> None:
    images = [*out.rglob("*.nii.gz"), *out.rglob("*.tck"), *out.rglob("*_xfm.txt"), *out.rglob("*relmat.tsv")]
    assert len(images) == 15
    for file in images:
        said = json.loads((file.parent / (file.name.split(".")[0] + ".json")).read_text())
        assert said["Versions"]["connectome-tl"]
        assert said["Inputs"]["dwi"]
        if file.suffix != ".tsv":
            assert said["SpatialReference"] == "sub-01_ses-01_dwi.nii.gz"
    for file in (the(out, "*_tractogram.json"), the(out, "*_tdi.json"), the(out, "*meas-count_relmat.json")):
        assert json.loads(file.read_text())["Seed"] == 3
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["GeneratedBy"][0]["Version"]
    assert described["SourceDatasets"] == [{"Name": "Phantom"}]


def test_preprocessed_data_can_be_read_again(out: Path) -> None:
    stem = the(out, "*_desc-preproc_dwi.nii.gz").name.removesuffix(".nii.gz")
    folder = the(out, f"{stem}.bval").parent
    dwi = read_dwi(folder / f"{stem}.nii.gz", folder / f"{stem}.bval", folder / f"{stem}.bvec")
    assert [len(volumes) for _, volumes in dwi.shells()] == [12, 12]


@pytest.mark.slow
def test_densities_are_real_harmonics_of_degree_four_in_the_axes_of_the_world(out: Path) -> None:
    from dipy.reconst.shm import real_sh_tournier

    file = the(out, "*_model-csd_param-fod_label-WM_dwimap.nii.gz")
    said = json.loads((file.parent / (file.name.split(".")[0] + ".json")).read_text())["OrientationEncoding"]
    assert (said["SphericalHarmonicBasis"], said["SphericalHarmonicDegree"], said["EncodingAxis"]) == ("MRtrix3", 4, 3)
    image, lines = nib.load(file), read_streamlines(the(out, "*_tractogram.tck"))
    fod = np.asarray(image.dataobj)
    assert fod.shape[3] == 15
    # Streamlines follow the densities: along their steps the amplitude is well above its mean.
    steps = np.diff(lines.points, axis=0)
    inner = np.isfinite(steps).all(axis=1)  # rows of separators are between streamlines
    middle = (lines.points[:-1] + lines.points[1:])[inner] / 2
    steps = steps[inner] / np.linalg.norm(steps[inner], axis=1, keepdims=True)
    inverse = np.linalg.inv(image.affine)
    voxels = np.rint(middle @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    at = (voxels < fod.shape[:3]).all(axis=1) & (voxels >= 0).all(axis=1)
    basis, _, _ = real_sh_tournier(4, np.arccos(steps[at, 2]), np.arctan2(steps[at, 1], steps[at, 0]), legacy=False)
    coefficients = fod[tuple(voxels[at].T)]
    along = (coefficients * basis).sum(axis=1)
    assert np.median(along) > 3 * np.median(coefficients[:, 0] / np.sqrt(4 * np.pi))
    fluid = nib.load(the(out, "*_param-fod_label-CSF_dwimap.nii.gz"))
    assert fluid.shape == fod.shape[:3]


def test_a_rigid_registration_is_kept_both_ways(out: Path) -> None:
    def matrix(name: str) -> np.ndarray:
        line = the(out, f"*_{name}_mode-image_xfm.txt").read_text().splitlines()[3]
        numbers = np.array(line.split()[1:], dtype=float)
        return np.vstack([np.column_stack([numbers[:9].reshape(3, 3), numbers[9:]]), [0, 0, 0, 1]])

    there = matrix("from-T2w_to-dwi")
    np.testing.assert_allclose(there @ matrix("from-dwi_to-T2w"), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(there[:3, :3] @ there[:3, :3].T, np.eye(3), atol=1e-6)


def test_a_matrix_loads_in_one_call_in_each_tool(out: Path) -> None:
    bct = pytest.importorskip("bct")
    from nilearn.connectome import sym_matrix_to_vec

    table = pd.read_csv(the(out, "*_meas-count_relmat.tsv"), sep="\t")
    named = pd.read_csv(the(out, "*_meas-count_relmat.csv"), index_col=0)
    assert list(named.index) == list(named.columns) == list(table.columns)
    np.testing.assert_array_equal(named, table)
    graph = nx.read_graphml(the(out, "*_relmat.graphml"))
    array = np.load(the(out, "*_meas-count_relmat.npy"))
    assert nx.to_numpy_array(graph, nodelist=list(graph), weight="count") == pytest.approx(array)
    assert [graph.nodes[node].get("name", node) for node in graph] == list(table.columns)
    np.testing.assert_array_equal(array, table)
    assert bct.strengths_und(array) == pytest.approx(table.sum().to_numpy())
    np.testing.assert_allclose(sym_matrix_to_vec(array, discard_diagonal=True), array[np.tril_indices(6, -1)])


def test_the_official_validator_finds_no_error(out: Path) -> None:
    validator = shutil.which("bids-validator-deno") or shutil.which("bids-validator")
    if validator is None:
        pytest.skip("bids-validator is not installed")
    said = subprocess.run([validator, "--json", str(out)], capture_output=True, text=True, check=False)
    issues = json.loads(said.stdout)["issues"]
    found = issues["issues"] if isinstance(issues, dict) else issues
    assert [(issue["code"], issue.get("location")) for issue in found if issue["severity"] == "error"] == []
