"""Tensor and orientation densities compared with MRtrix3's expected values, dipy, and a phantom with known fibres."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.connectome.assemble import RegionTable, assemble
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.dwi import Dwi, read_dwi
from connectome_tl.imaging.read.images import Volume, read_volume, write_volume
from connectome_tl.imaging.track.reconstruction import (
    deconvolve,
    estimate_response,
    few_directions,
    harmonics,
    response_from_record,
)
from connectome_tl.imaging.track.sampling import reduce_streamlines
from connectome_tl.imaging.track.streamlines import from_list
from connectome_tl.imaging.track.tensor import TensorMaps, fit_tensor, tensor_maps, tensor_volumes
from connectome_tl.imaging.track.tractography import density_map, track
from connectome_tl.settings.imaging import ReconstructionSettings, TrackingSettings
from connectome_tl.simulation.phantom import Anatomy, Head, PhantomSettings, make_anatomy, make_head

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), voxel=2.5, region_radius=6.0)


@pytest.fixture(scope="module")
def scanned() -> tuple[Anatomy, Head, Dwi]:
    anatomy = make_anatomy(SMALL)
    head = make_head(anatomy, seed=1)
    return anatomy, head, Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)


def maps_of(dwi: Dwi) -> TensorMaps:
    chosen = tensor_volumes(dwi, max_b=1500)
    return tensor_maps(dwi, fit_tensor(dwi, chosen))


def read_mif(path: Path) -> np.ndarray:
    """Voxels of an uncompressed MRtrix image, in the order of its axes."""
    raw = path.read_bytes()
    fields = dict(
        line.split(": ", 1) for line in raw[: raw.index(b"END")].decode("latin-1").splitlines()[1:] if ": " in line
    )
    shape = [int(n) for n in fields["dim"].split(",")]
    layout = fields["layout"].split(",")
    dtype = {"Float32LE": "<f4", "UInt8": "u1", "Bit": "bit"}[fields["datatype"].strip()]
    values = np.frombuffer(raw, dtype=dtype, offset=int(fields["file"].split()[1]), count=int(np.prod(shape)))
    strides = [int(text.strip("+-")) for text in layout]
    order = np.argsort(strides)
    # A reversed axis is not changed, as in the NIfTI copies.
    return values.reshape([shape[axis] for axis in order[::-1]]).transpose(np.argsort(order[::-1]))


@pytest.mark.data
def test_the_tensor_is_mrtrixs_on_real_voxels(shared_data: Path) -> None:
    folder = shared_data / "mrtrix_test_data"
    dwi = read_dwi(folder / "nii" / "dwi.nii.gz", folder / "nii" / "dwi.bval", folder / "nii" / "dwi.bvec")
    xx, yy, zz, xy, xz, yz = np.moveaxis(read_mif(folder / "dwi2tensor" / "out.mif").astype(float), -1, 0)
    md = (xx + yy + zz) / 3
    squared = xx**2 + yy**2 + zz**2 + 2 * (xy**2 + xz**2 + yz**2)
    fa = np.sqrt(1.5 * np.maximum(1 - 3 * md**2 / squared, 0))
    found = tensor_maps(dwi, fit_tensor(dwi))
    strong = (fa > 0.2) & (fa <= 1)  # beyond 1 noise has made an eigenvalue negative
    assert strong.sum() > 150
    assert np.abs(found.fa - fa)[strong].max() < 1e-3
    assert found.fa[fa > 1].min() == found.fa.max() == 1
    assert (np.abs(found.md - md)[strong] / md[strong]).max() < 1e-3


@pytest.mark.data
def test_two_tissues_are_found_in_real_voxels(shared_data: Path) -> None:
    folder = shared_data / "mrtrix_test_data" / "nii"
    dwi = read_dwi(folder / "msmt_dwi.nii.gz", folder / "msmt_dwi.bval", folder / "msmt_dwi.bvec")
    settings = ReconstructionSettings(response_voxels=100)
    response = estimate_response(dwi, maps_of(dwi), settings)
    assert response.fluid is not None
    assert (np.diff(response.fluid) < 0).all()
    part = np.zeros_like(dwi.mask)
    part[5:9, 5:9, 4:7] = True
    orientations = deconvolve(dwi.with_mask(part), response, settings)
    assert np.isfinite(orientations.coefficients).all()
    assert orientations.coefficients[part][:, 0].min() > -0.05


def test_the_tensor_is_exact_without_noise_and_knows_its_direction() -> None:
    anatomy = make_anatomy(SMALL)
    head = make_head(anatomy, still=True)
    truth = np.array([[1.7, 0.2, 0.1], [0.2, 0.8, 0.05], [0.1, 0.05, 0.5]]) * 1e-3
    signal = 500 * np.exp(-head.bvals * np.einsum("ij,jk,ik->i", head.directions, truth, head.directions))
    data = np.broadcast_to(signal, (2, 2, 2, len(signal))).astype(np.float32)
    for affine in (np.diag([-2.0, 2, 2, 1]), np.diag([2.0, 2, 3, 1])):
        dwi = Dwi(data, affine, head.bvals, head.directions, np.ones((2, 2, 2), dtype=bool))
        tensor = fit_tensor(dwi)
        np.testing.assert_allclose(tensor[0], truth[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]], rtol=1e-4)
        values, vectors = np.linalg.eigh(truth)
        maps = tensor_maps(dwi, tensor)
        assert abs(maps.principal[0, 0, 0] @ vectors[:, 2]) == pytest.approx(1, abs=1e-6)
        assert maps.md[0, 0, 0] == pytest.approx(values.mean(), rel=1e-4)


def test_orientation_densities_point_along_the_fibres(scanned: tuple[Anatomy, Head, Dwi]) -> None:
    _, head, dwi = scanned
    settings = ReconstructionSettings(response_voxels=60)
    maps = maps_of(dwi)
    response = estimate_response(dwi, maps, settings)
    again = response_from_record(response.as_record())
    np.testing.assert_array_equal(again.fibre, response.fibre)
    core = (head.fibre > 0.7) & (maps.fa > 0.4)
    orientations = deconvolve(dwi.with_mask(core), response, settings)
    from dipy.data import get_sphere

    vertices = get_sphere(name="repulsion724").vertices
    peaks = vertices[(orientations.coefficients[core] @ harmonics(vertices, 8).T).argmax(axis=1)]
    cosine = np.abs((peaks * maps.principal[core]).sum(axis=1))
    assert np.degrees(np.arccos(np.median(cosine))) < 8
    with pytest.raises(DataError, match="other b-values"):
        deconvolve(replace(dwi, bvals=dwi.bvals * 2), response, settings)


@pytest.mark.slow
@pytest.mark.mrtrix
@pytest.mark.parametrize("tissues", ["one", "two"])
def test_densities_resemble_those_of_dwi2fod(tissues: str, scanned: tuple[Anatomy, Head, Dwi], tmp_path: Path) -> None:
    if shutil.which("dwi2fod") is None:
        pytest.skip("MRtrix3 is not installed")
    _, head, dwi = scanned
    maps = maps_of(dwi)
    core = (head.fibre > 0.6) & (maps.fa > 0.3)
    settings = ReconstructionSettings.model_validate({"tissues": tissues, "response_voxels": 60})
    response = estimate_response(dwi, maps, settings)
    found = deconvolve(dwi.with_mask(core), response, settings).coefficients[core]
    image = write_volume(tmp_path / "d.nii", dwi.data, dwi.affine)
    mask = write_volume(tmp_path / "m.nii", core, dwi.affine)
    np.savetxt(tmp_path / "grad.b", np.column_stack([dwi.directions, dwi.bvals]))
    np.savetxt(tmp_path / "wm.txt", response.fibre)
    command = ["dwi2fod", "-quiet", "-nthreads", "0", "-mask", mask, "-grad", tmp_path / "grad.b"]
    command += [
        "msmt_csd" if tissues == "two" else "csd",
        "-lmax",
        "8,0" if tissues == "two" else "8",
        image,
        tmp_path / "wm.txt",
        tmp_path / "wm.nii",
    ]
    if response.fluid is not None:
        np.savetxt(tmp_path / "csf.txt", response.fluid[:, None])
        command += [tmp_path / "csf.txt", tmp_path / "csf.nii"]
    subprocess.run([str(word) for word in command], check=True)
    expected = read_volume(tmp_path / "wm.nii", n_dimensions=(4,)).data[core]
    points = np.random.default_rng(0).normal(size=(300, 3))
    basis = harmonics(points / np.linalg.norm(points, axis=1, keepdims=True), 8)
    r = [np.corrcoef(basis @ a, basis @ b)[0, 1] for a, b in zip(found, expected, strict=True)]
    assert np.median(r) > 0.97


@pytest.mark.slow
def test_every_true_bundle_is_found_and_threads_change_nothing(scanned: tuple[Anatomy, Head, Dwi]) -> None:
    anatomy, head, dwi = scanned
    settings = ReconstructionSettings(response_voxels=60)
    maps = maps_of(dwi)
    orientations = deconvolve(dwi, estimate_response(dwi, maps, settings), settings)
    tracking = TrackingSettings(n_streamlines=3000)
    first = track(orientations, head.mask, tracking, n_threads=1)
    second = track(orientations, head.mask, tracking, n_threads=2)
    assert len(first.streamlines) == len(second.streamlines) == 3000
    assert all(np.array_equal(a, b) for a, b in zip(first.streamlines, second.streamlines, strict=True))
    lengths = from_list(first.streamlines).lengths()
    assert lengths.min() >= tracking.min_length_mm * 0.999
    assert lengths.max() <= tracking.max_length_mm * 1.001
    labels = Volume(head.labels.astype(np.int32), head.affine)
    table = RegionTable(anatomy.names, tuple(range(1, len(anatomy.names) + 1)))
    matrix = assemble(reduce_streamlines([from_list(first.streamlines)]), labels, table).connectome.weights[0]
    i, j = anatomy.edges.T
    assert (matrix[i, j] > 0).all()
    assert 2 * matrix[i, j].sum() > 0.75 * matrix.sum()
    passed = density_map(first.streamlines, head.mask.shape, head.affine)
    assert passed[~head.mask].sum() <= 0.01 * passed.sum()


def test_nothing_to_track_is_said(scanned: tuple[Anatomy, Head, Dwi]) -> None:
    _, head, dwi = scanned
    settings = ReconstructionSettings(response_voxels=60)
    part = np.zeros_like(head.mask)
    part[tuple(np.argwhere(head.mask)[0])] = True
    orientations = deconvolve(dwi.with_mask(part), estimate_response(dwi, maps_of(dwi), settings), settings)
    with pytest.raises(DataError, match="mask is empty"):
        track(orientations, np.zeros_like(part), TrackingSettings(), subject="sub-01")
    with pytest.raises(DataError, match="no voxels to seed"):
        track(orientations, part, TrackingSettings(fod_cutoff=1e6), subject="sub-01")


def test_few_different_directions_are_noted_however_many_volumes_have_them() -> None:
    affine, settings = np.eye(4), ReconstructionSettings()
    spiral = np.random.default_rng(0).normal(size=(15, 3))
    spiral /= np.linalg.norm(spiral, axis=1, keepdims=True)

    def warned(directions: np.ndarray, bvals: np.ndarray) -> list[str]:
        table = np.concatenate([np.zeros((1, 3)), directions])
        data = np.ones((2, 2, 2, len(table)), dtype=np.float32)
        return few_directions(Dwi(data, affine, np.append(0, bvals), table, data[..., 0] > 0), settings)

    assert warned(spiral, np.full(15, 1000)) == []
    assert warned(np.concatenate([spiral[:8], spiral[8:]]), np.repeat([700, 2000], [8, 7])) == []
    (said,) = warned(np.concatenate([spiral[:6], -spiral[:6], spiral[:6]]), np.full(18, 1000))
    assert said.startswith("orientations are estimated from 6 directions")
