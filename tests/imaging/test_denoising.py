"""Preprocessing of raw data: noise decreases, signal is preserved; b-vectors rotate with their volumes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from connectome_tl.imaging.preprocess.denoising import denoised, preprocess, without_bias, without_ringing
from connectome_tl.imaging.preprocess.structural import dwi_mask
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.settings.imaging import PreprocessingSettings
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head

TINY = PhantomSettings(n_regions=6, n_edges=5, half_axes=(16.0, 19.0, 15.0), region_radius=4.0)
SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), region_radius=6.0)


def scan(**options: bool) -> Dwi:
    head = make_head(make_anatomy(SMALL), seed=2, **options)
    return Dwi(head.dwi, head.affine, head.bvals, head.directions, head.mask)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mppca", "patch2self", "dwidenoise"])
def test_denoising_brings_the_data_nearer_to_the_truth(method: str) -> None:
    if method == "dwidenoise" and shutil.which(method) is None:
        pytest.skip("MRtrix3 is not installed")
    anatomy = make_anatomy(TINY)
    clean = make_head(anatomy, still=True)
    rng = np.random.default_rng(0)
    noisy = (clean.dwi + rng.normal(0, 25, clean.dwi.shape)).astype(np.float32)
    dwi = Dwi(noisy, clean.affine, clean.bvals, clean.directions, clean.mask)
    found = denoised(dwi, method).data
    assert np.isfinite(found).all()
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]  # noqa: NPY002
    np.testing.assert_array_equal(denoised(dwi, method).data, found)  # the same scan, the same bytes
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002

    def error(data: np.ndarray) -> float:
        return float(np.sqrt(((data - clean.dwi)[clean.mask] ** 2).mean()))

    assert error(found) < 0.7 * error(noisy)


def test_patches_have_more_voxels_than_there_are_volumes(recwarn: pytest.WarningsRecorder) -> None:
    n, rng = 140, np.random.default_rng(0)
    places = np.stack(np.indices((11, 11, 11)), axis=-1) / 10.0
    truth = 100 + 20 * np.sin(places @ rng.normal(size=(3, 3))) @ rng.normal(size=(3, n))
    noisy = (truth + rng.normal(0, 10, truth.shape)).astype(np.float32)
    dwi = Dwi(noisy, np.eye(4), np.zeros(n), np.zeros((n, 3)), np.ones(truth.shape[:3], dtype=bool))
    off = denoised(dwi, "mppca").data - truth
    assert off[3:-3, 3:-3, 3:-3].std() < 3  # of 10
    assert not [warning for warning in recwarn if "samples" in str(warning.message)]


@pytest.mark.parametrize("n_slices", [2, 4, 6])
def test_thin_slabs_of_many_volumes_are_denoised(n_slices: int) -> None:
    """Their patches are wider within slices."""
    n, rng = 130, np.random.default_rng(0)
    truth = 100 + np.indices((15, 15, n_slices)).sum(axis=0)[..., None] * rng.normal(size=n)
    noisy = (truth + rng.normal(0, 10, truth.shape)).astype(np.float32)
    dwi = Dwi(noisy, np.eye(4), np.zeros(n), np.zeros((n, 3)), np.ones(truth.shape[:3], dtype=bool))
    found = denoised(dwi, "mppca").data
    inner = (slice(5, -5), slice(5, -5), slice(n_slices // 2 - 1, n_slices // 2 + 1))
    assert (found - truth)[inner].std() < 0.5 * (noisy - truth)[inner].std()


def test_nothing_asked_for_is_nothing_done() -> None:
    dwi = scan()
    assert preprocess(dwi, PreprocessingSettings(denoise="none", motion="none")) == (dwi, None)


def test_a_smooth_bias_is_taken_out() -> None:
    dwi = scan(still=True)
    ramp = np.broadcast_to(np.linspace(0.7, 1.3, dwi.data.shape[1])[None, :, None], dwi.mask.shape)
    found = without_bias(replace(dwi, data=(dwi.data * ramp[..., None]).astype(np.float32)))
    left = (found.data[..., 0] / np.maximum(dwi.data[..., 0], 1e-6))[dwi.mask]
    assert left.std() / left.mean() < 0.5 * ramp[dwi.mask].std() / ramp[dwi.mask].mean()
    assert np.isfinite(found.data).all()


def test_the_mask_is_the_brain() -> None:
    dwi = scan()
    found = dwi_mask(dwi)
    dice = 2 * (found & dwi.mask).sum() / (found.sum() + dwi.mask.sum())
    assert dice > 0.9


def test_ringing_beside_an_edge_gets_smaller() -> None:
    fine = np.hypot(*np.meshgrid(np.arange(256) - 127.5, np.arange(256) - 127.5)) < 70
    spectrum = np.fft.fftshift(np.fft.fft2(fine.astype(float)))[96:160, 96:160] / 16
    rung = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))
    truth = fine.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    data = np.repeat(rung[:, :, None, None], 3, axis=2).astype(np.float32) * 100
    dwi = Dwi(data, np.eye(4), np.zeros(1), np.zeros((1, 3)), np.ones(data.shape[:3], dtype=bool))
    found = without_ringing(dwi).data[:, :, 1, 0] / 100
    flat = (truth == 0) | (truth == 1)
    assert np.abs(found - truth)[flat].mean() < 0.85 * np.abs(rung - truth)[flat].mean()
    assert without_ringing(dwi).data.mean() == pytest.approx(data.mean(), rel=0.02)
