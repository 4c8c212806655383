"""Denoising, Gibbs, motion and bias correction of diffusion data, by dipy or MRtrix3."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from itertools import count

import numpy as np

from connectome_tl.imaging.preprocess.motion import Motion, estimate_motion, without_motion
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.track.mrtrix import changed_by_mrtrix
from connectome_tl.settings.imaging import PreprocessingSettings


def preprocess(
    dwi: Dwi,
    settings: PreprocessingSettings,
    *,
    n_threads: int = 1,
    step: Callable[[str], None] = lambda _: None,
    correct: Callable[[Dwi], Dwi] | None = None,
    correct_moves: bool = False,
) -> tuple[Dwi, Motion | None]:
    """Apply the requested steps in the usual order: noise, ringing, distortion, motion, bias.

    b-vectors are rotated with their volumes. Susceptibility and eddy-current distortions are corrected only by
    `correct`. The result does not depend on `n_threads`.

    Args:
        step: called with the name of each step at its start.
        correct: external correction of distortions.
        correct_moves: whether it also corrects motion, which is then only measured here.

    Returns:
        The data, and the estimated motion or None.
    """
    motion = None
    if settings.denoise != "none":
        step("denoising")
    done = dwi if settings.denoise == "none" else denoised(dwi, settings.denoise, n_threads)
    if settings.gibbs != "none":
        step("Gibbs ringing")
        done = (
            without_ringing(done, n_threads)
            if settings.gibbs == "dipy"
            else changed_by_mrtrix("mrdegibbs", done, n_threads)
        )
    if settings.motion == "rigid" and correct_moves:
        step("motion")
        motion = estimate_motion(done, n_threads=n_threads)
    if correct is not None:
        done = correct(done)
    if settings.motion == "rigid" and not correct_moves:
        step("motion")
        done, motion = without_motion(done, n_threads=n_threads)
    return (without_bias(done) if settings.bias else done), motion


def denoised(dwi: Dwi, method: str, n_threads: int = 1) -> Dwi:
    """Denoise by MP-PCA (Veraart et al. 2016, doi:10.1016/j.neuroimage.2016.08.016), by dipy or by MRtrix3's
    `dwidenoise`, or by Patch2Self (Fadnavis et al. 2020, arXiv:2011.01355).

    Raises:
        MissingInputError, DataError: MRtrix3 is required but not installed, or fails.
    """
    if method == "dwidenoise":
        return changed_by_mrtrix("dwidenoise", dwi, n_threads)
    if method == "mppca":
        from dipy.denoise.localpca import mppca

        radius = _patch_radius(dwi.mask.shape, dwi.n_volumes)
        with np.errstate(invalid="ignore"):  # patches outside the mask have zero weight and give 0 / 0, corrected below
            found = np.asarray(mppca(dwi.data, mask=dwi.mask, patch_radius=radius), dtype=np.float32)
        return replace(dwi, data=np.where(np.isfinite(found) & dwi.mask[..., None], found, dwi.data))
    from dipy.denoise.patch2self import patch2self

    # It uses numpy's global generator, which is seeded and restored, so that equal scans give equal bytes.
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        with redirect_stderr(StringIO()):  # its progress bar cannot be disabled
            data = patch2self(dwi.data, dwi.bvals, b0_threshold=dwi.b0_max, model="ols", shift_intensity=True)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    return replace(dwi, data=np.asarray(data, dtype=np.float32))


def _patch_radius(shape: tuple[int, ...], n_volumes: int) -> np.ndarray:
    """Half the width of a patch along each axis, (3,) voxels: it has more voxels than there are volumes if it can."""
    room = (np.array(shape) - 1) // 2
    wide = (np.minimum(radius, room) for radius in count(2))
    return next(radius for radius in wide if np.prod(2 * radius + 1) > n_volumes or (radius == room).all())


def without_ringing(dwi: Dwi, n_threads: int = 1) -> Dwi:
    """Remove Gibbs ringing by sub-voxel shifts (Kellner et al. 2016, doi:10.1002/mrm.26054)."""
    from dipy.denoise.gibbs import gibbs_removal

    data = gibbs_removal(dwi.data.astype(np.float64), inplace=False, num_processes=n_threads)
    return replace(dwi, data=np.asarray(data, dtype=np.float32))


def without_bias(dwi: Dwi) -> Dwi:
    """Divide all volumes by a smooth bias field, estimated from the mean unweighted volume (dipy's polynomial fit)."""
    from dipy.core.gradients import gradient_table
    from dipy.denoise.bias_correction import bias_field_correction

    table = gradient_table(dwi.bvals, bvecs=dwi.voxel_directions, b0_threshold=dwi.b0_max)
    _, field = bias_field_correction(dwi.data, table, mask=dwi.mask, return_bias_field=True)
    known = np.where(field > 0.05, field, 1.0)  # the fit is undefined outside the mask
    return replace(dwi, data=(dwi.data / known[..., None]).astype(np.float32))
