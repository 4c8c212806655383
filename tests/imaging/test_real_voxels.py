"""Real diffusion voxels in tensor fit and deconvolution: two sub-volumes of MRtrix3, two packaged ones of dipy."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.read.dwi import Dwi, read_dwi
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.imaging.track.reconstruction import deconvolve, estimate_response, harmonics
from connectome_tl.imaging.track.tensor import fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.settings.imaging import ReconstructionSettings


def dipys(name: str) -> Dwi:
    from dipy.data import get_fnames

    image, bval, bvec = get_fnames(name=name)
    return read_dwi(image, bval, bvec)


def mrtrixs(name: str, shared_data: Path) -> Dwi:
    stem = shared_data / "mrtrix_test_data" / "nii" / name
    return read_dwi(*(f"{stem}.{ending}" for ending in ("nii.gz", "bval", "bvec")))


def goes_through(dwi: Dwi) -> None:
    """Maps are in their ranges, densities finite, hardly negative, and point where the tensor does."""
    b0 = dwi.data[..., dwi.is_b0].mean(axis=3)
    dwi = dwi.with_mask(b0 > 0.2 * np.quantile(b0, 0.95))  # some of the sub-volumes include air
    maps = tensor_maps(dwi, fit_tensor(dwi, tensor_volumes(dwi, max_b=1500)))
    assert ((maps.fa >= 0) & (maps.fa <= 1)).all()
    assert ((maps.md >= 0) & (maps.md < 5e-3)).all()
    settings = ReconstructionSettings(response_voxels=30)
    response = estimate_response(dwi, maps, settings)
    assert (response.fibre[:, 0] > 0).all()
    strong = np.argwhere(dwi.mask & (maps.fa > np.quantile(maps.fa[dwi.mask], 0.8)))[:60]
    part = np.zeros_like(dwi.mask)
    part[tuple(strong.T)] = True
    found = deconvolve(dwi.with_mask(part), response, settings).coefficients[part]
    assert np.isfinite(found).all()
    points = np.random.default_rng(0).normal(size=(400, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    amplitude = found @ harmonics(points, 8).T
    peaks = points[amplitude.argmax(axis=1)]
    assert amplitude.min() > -0.5 * amplitude.max()
    cosine = np.abs((peaks * maps.principal[part]).sum(axis=1))
    assert np.degrees(np.arccos(np.median(cosine))) < 25


@pytest.mark.parametrize("name", ["small_64D", "small_101D"])
def test_dipys_packaged_voxels(name: str) -> None:
    goes_through(dipys(name))


@pytest.mark.data
@pytest.mark.parametrize("name", ["dwi", "msmt_dwi"])
def test_mrtrixs_cut_outs(name: str, shared_data: Path) -> None:
    goes_through(mrtrixs(name, shared_data))


@pytest.mark.data
@pytest.mark.mrtrix
@pytest.mark.parametrize("name", ["small_64D", "small_101D", "dwi", "msmt_dwi"])
def test_maps_of_the_tensor_are_those_of_tensor2metric(name: str, shared_data: Path, tmp_path: Path) -> None:
    """Also in noisy voxels: an eigenvalue below 0 is used as it is, as long as FA is below 1."""
    if shutil.which("dwi2tensor") is None:
        pytest.skip("MRtrix3 is not installed")
    dwi = dipys(name) if name.startswith("small") else mrtrixs(name, shared_data)
    image = write_volume(tmp_path / "d.nii", dwi.data, dwi.affine)
    np.savetxt(tmp_path / "grad.b", np.column_stack([dwi.directions, dwi.bvals]))
    maps = [word for kind in ("fa", "adc", "rd") for word in (f"-{kind}", tmp_path / f"{kind}.nii")]
    for command in (
        ["dwi2tensor", "-grad", tmp_path / "grad.b", image, tmp_path / "t.nii"],
        ["tensor2metric", *maps, tmp_path / "t.nii"],
    ):
        subprocess.run([str(word) for word in [command[0], "-quiet", "-nthreads", "0", *command[1:]]], check=True)
    fa, md, rd = (read_volume(tmp_path / f"{kind}.nii").data for kind in ("fa", "adc", "rd"))
    found = tensor_maps(dwi, fit_tensor(dwi))
    strong = (fa > 0.2) & (fa <= 1)
    assert strong.sum() > 150
    assert np.abs(found.fa - fa)[strong].max() < 1e-3
    assert np.abs(found.md - md)[strong].max() < 1e-3 * np.abs(md[strong]).max()
    assert np.abs(found.rd - rd)[strong].max() < 1e-3 * np.abs(rd[strong]).max()
