"""Noise, Gibbs ringing, motion and bias of raw diffusion data: thin calls to dipy, each skippable."""

from __future__ import annotations

from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO

import numpy as np
from scipy.spatial.transform import Rotation

from connectome_tl.imaging.dwi import Dwi
from connectome_tl.imaging.images import Volume
from connectome_tl.imaging.registration import register_affine
from connectome_tl.imaging.warps import carry_image
from connectome_tl.settings.imaging import PreprocessingSettings, RegistrationSettings


def preprocess(dwi: Dwi, settings: PreprocessingSettings) -> Dwi:
    """Apply what the settings ask for, in the usual order: noise, ringing, motion, bias.

    b-vectors turn with their volumes. Susceptibility and eddy currents are not corrected.
    """
    done = dwi if settings.denoise == "none" else denoised(dwi, settings.denoise)
    if settings.gibbs:
        done = without_ringing(done)
    if settings.motion == "rigid":
        done, _ = without_motion(done)
    return without_bias(done) if settings.bias else done


def denoised(dwi: Dwi, method: str) -> Dwi:
    """Denoise by Patch2Self (Fadnavis et al. 2020, arXiv:2011.01355) or MP-PCA (Veraart et al. 2016,
    doi:10.1016/j.neuroimage.2016.08.016).
    """
    if method == "mppca":
        from dipy.denoise.localpca import mppca

        return replace(dwi, data=np.asarray(mppca(dwi.data, mask=dwi.mask, patch_radius=2), dtype=np.float32))
    from dipy.denoise.patch2self import patch2self

    # It sketches with numpy's global generator: seeded here and put back, so that equal scans give equal bytes.
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        with redirect_stderr(StringIO()):  # it draws a progress bar that cannot be turned off
            data = patch2self(dwi.data, dwi.bvals, b0_threshold=50, model="ols", shift_intensity=True)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    return replace(dwi, data=np.asarray(data, dtype=np.float32))


def without_ringing(dwi: Dwi) -> Dwi:
    """Gibbs ringing by sub-voxel shifts (Kellner et al. 2016, doi:10.1002/mrm.26054)."""
    from dipy.denoise.gibbs import gibbs_removal

    data = gibbs_removal(dwi.data.astype(np.float64), inplace=False, num_processes=1)
    return replace(dwi, data=np.asarray(data, dtype=np.float32))


def without_bias(dwi: Dwi) -> Dwi:
    """One smooth bias field from the mean unweighted volume (dipy's polynomial fit), divided out of all volumes."""
    from dipy.core.gradients import gradient_table
    from dipy.denoise.bias_correction import bias_field_correction

    table = gradient_table(dwi.bvals, bvecs=dwi.voxel_directions, b0_threshold=50)
    _, field = bias_field_correction(dwi.data, table, mask=dwi.mask, return_bias_field=True)
    known = np.where(field > 0.05, field, 1.0)  # the fit says nothing outside the mask
    return replace(dwi, data=(dwi.data / known[..., None]).astype(np.float32))


def without_motion(dwi: Dwi) -> tuple[Dwi, np.ndarray]:
    """Rigid motion between volumes: each to the mean of its own shell, whose contrast it shares.

    Shells are acquired interleaved, so their means lie alike; registering them to each other by coarse
    mutual information moved a still phantom by up to 6 mm and is not done.

    Returns:
        The data resampled once, with turned b-vectors, and (n_volumes, 6): shifts in mm, turns in degrees.
    """
    quick = RegistrationSettings(affine_mm=4.0, affine_steps=(30, 20))
    groups = [np.flatnonzero(dwi.is_b0), *(volumes for _, volumes in dwi.shells())]
    data, directions = dwi.data.copy(), dwi.directions.copy()
    moves = np.zeros((dwi.n_volumes, 6))
    for group in groups:
        if not len(group):
            continue
        mean = Volume(dwi.data[..., group].mean(axis=3), dwi.affine)
        for volume in group:
            moving = Volume(dwi.data[..., volume], dwi.affine)
            found = register_affine(mean, moving, quick, rigid=True, near=True)
            data[..., volume] = carry_image(found, moving, mean).data
            turn = found.affine[:3, :3]
            directions[volume] = dwi.directions[volume] @ turn  # the inverse turn, applied from the left
            moves[volume, :3] = found.affine[:3, 3]
            moves[volume, 3:] = Rotation.from_matrix(turn).as_euler("xyz", degrees=True)
    return replace(dwi, data=data, directions=directions), moves
