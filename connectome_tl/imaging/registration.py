"""A template into a subject: affine, then SyN, by dipy or by ANTs (`registration.engine`).

dipy's affine: Mattes mutual information (Mattes et al. 2003, doi:10.1109/TMI.2003.809072) on a coarse grid. Its SyN
with local cross-correlation (Avants et al. 2008, doi:10.1016/j.media.2007.06.004) after the template has taken on
the subject's contrast: each of its intensities becomes the mean of what lies there in the subject (the function the
correlation ratio fits, Roche et al. 1998, doi:10.1007/BFb0056301), and again when the two lie better on each other.
A lesion is left out of the cost of both (cost function masking, Brett et al. 2001, doi:10.1006/nimg.2001.0845).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from connectome_tl.imaging.images import Volume
from connectome_tl.imaging.warps import Warp, carry_labels
from connectome_tl.settings.imaging import RegistrationSettings

_RADIUS = 3  # voxels of the window of the local correlation
_ROUNDS = 3  # of contrast and SyN; all but the last without the finest grid


def register_affine(
    fixed: Volume,
    moving: Volume,
    settings: RegistrationSettings,
    *,
    rigid: bool = False,
    near: bool = False,
    lesion: np.ndarray | None = None,
) -> Warp:
    """Affine (or rigid) map from fixed mm to moving mm, by dipy.

    Args:
        near: the images lie on each other but for small movements; no search for their centres.
        lesion: (x, y, z) bool of the fixed image; left out of the cost.
    """
    from dipy.align.imaffine import AffineRegistration, MutualInformationMetric, transform_centers_of_mass
    from dipy.align.transforms import AffineTransform3D, RigidTransform3D, TranslationTransform3D

    fixed = _without(fixed, lesion)
    f = coarse(fixed, settings.affine_mm)
    m = coarse(moving, settings.affine_mm)
    mask = None if lesion is None else (~_coarse_mask(lesion, fixed, settings.affine_mm)).astype(np.int32)
    start = np.eye(4) if near else transform_centers_of_mass(f.data, f.affine, m.data, m.affine).affine
    search = AffineRegistration(
        metric=MutualInformationMetric(nbins=32, sampling_proportion=None),
        level_iters=list(settings.affine_steps),
        sigmas=[1.0, 0.0],
        factors=[2, 1],
        verbosity=0,
    )
    stages = [TranslationTransform3D(), RigidTransform3D(), *([] if rigid else [AffineTransform3D()])]
    for transform in stages:
        found = search.optimize(
            f.data, m.data, transform, None, static_grid2world=f.affine, moving_grid2world=m.affine,
            starting_affine=start, static_mask=mask,
        )  # fmt: skip
        start = found.affine
    return Warp(np.asarray(start, dtype=float))


def register(
    fixed: Volume, moving: Volume, settings: RegistrationSettings, *, lesion: np.ndarray | None = None
) -> Warp:
    """Affine, then SyN, by the engine of the settings: the map that brings `moving` (a template) onto `fixed`.

    Args:
        lesion: (x, y, z) bool of the fixed image; left out of the cost of both steps.

    Raises:
        MissingInputError: the engine is ANTs and antspyx is not installed.
    """
    fixed = _without(fixed, lesion)
    if settings.engine == "ants":
        from connectome_tl.imaging.ants import register_with_ants

        return register_with_ants(
            coarse(fixed, settings.nonlinear_mm),
            coarse(moving, settings.nonlinear_mm),
            settings.nonlinear_steps,
            lesion=None if lesion is None else _coarse_mask(lesion, fixed, settings.nonlinear_mm),
        )
    f = coarse(fixed, settings.nonlinear_mm)
    left_out = None if lesion is None else _coarse_mask(lesion, fixed, settings.nonlinear_mm)
    affine = warp = register_affine(fixed, moving, settings, lesion=lesion)
    # What the template's intensities become is the better known the better the images lie on each other.
    for steps in [(*settings.nonlinear_steps[:-1], 0)] * (_ROUNDS - 1) + [settings.nonlinear_steps]:
        alike = Volume(_in_contrast_of(f, moving, warp, left_out), moving.affine)
        warp = _syn(f, coarse(alike, settings.nonlinear_mm), affine, steps, left_out)
    return warp


def _syn(f: Volume, m: Volume, affine: Warp, steps: tuple[int, ...], left_out: np.ndarray | None) -> Warp:
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration

    search = SymmetricDiffeomorphicRegistration(_correlation(left_out), level_iters=list(steps))
    search.verbosity = 0
    found = search.optimize(
        _scaled(f.data), _scaled(m.data), static_grid2world=f.affine, moving_grid2world=m.affine, prealign=affine.affine
    )
    # Where each fixed voxel finds itself in the moving image: carry the moving image's own coordinates over.
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in m.shape), indexing="ij"), axis=-1)
    within = np.asarray(found.transform(np.ones(m.shape)))
    voxels = np.stack([np.asarray(found.transform(grid[..., axis].copy())) for axis in range(3)], axis=-1)
    voxels = np.where(within[..., None] > 0.5, voxels / np.maximum(within[..., None], 0.5), np.nan)
    places = voxels @ m.affine[:3, :3].T + m.affine[:3, 3]
    return replace(affine, places=places, grid=f.affine)


def _correlation(left_out: np.ndarray | None) -> Any:
    """dipy's local cross-correlation; windows that touch what is left out pull nowhere."""
    from dipy.align.metrics import CCMetric

    if left_out is None:
        return CCMetric(3, radius=_RADIUS)
    from scipy.ndimage import maximum_filter

    near = maximum_filter(left_out.astype(np.int32), size=2 * _RADIUS + 1)

    class WithoutLesion(CCMetric):
        def use_static_image_dynamics(self, original: np.ndarray, transformation: Any) -> None:  # noqa: ARG002
            """Where the lesion lies half-way, where the two images of this iteration meet."""
            self.left_out = np.asarray(
                near
                if transformation is None
                else transformation.transform(
                    near,
                    interpolation="nearest",
                    out_shape=np.array(self.static_image.shape, dtype=np.int32),
                    out_grid2world=self.static_affine,
                )
            )

        def initialize_iteration(self) -> None:
            super().initialize_iteration()
            self.factors[self.left_out > 0] = 0.0  # no variance: dipy skips these windows

    return WithoutLesion(3, radius=_RADIUS)


def _in_contrast_of(fixed: Volume, moving: Volume, warp: Warp, left_out: np.ndarray | None) -> np.ndarray:
    """The moving image with every intensity replaced by the mean fixed intensity that it meets under the map."""
    brain = moving.data > 0
    if not brain.any():
        return moving.data
    edges = np.quantile(moving.data[brain], np.linspace(0, 1, 33)[1:-1])
    level = np.where(brain, 1 + np.digitize(moving.data, edges), 0)
    met = carry_labels(warp, Volume(level.astype(np.int32), moving.affine), fixed).data
    counted = np.ones(met.shape, dtype=bool) if left_out is None else ~left_out
    counts = np.bincount(met[counted], minlength=33)
    sums = np.bincount(met[counted], weights=fixed.data[counted], minlength=33)
    means = np.divide(sums, counts, out=np.zeros(33), where=counts > 0)
    centres = np.array([moving.data[level == k].mean() if (level == k).any() else np.nan for k in range(1, 33)])
    known = np.isfinite(centres) & (counts[1:] > 20)
    if known.sum() < 2:
        return moving.data
    return np.where(brain, np.interp(moving.data, centres[known], means[1:][known]), 0.0)


def coarse(image: Volume, voxel_mm: float) -> Volume:
    """The image on isotropic voxels no finer than its own, smoothed before it is thinned."""
    from scipy.ndimage import affine_transform, gaussian_filter

    factor = np.maximum(voxel_mm / image.zooms, 1.0)
    if (factor < 1.2).all():
        return Volume(np.ascontiguousarray(image.data, dtype=np.float64), image.affine)
    smooth = gaussian_filter(image.data.astype(np.float64), [0.42 * f if f > 1.01 else 0.0 for f in factor])
    shape = np.maximum(np.floor((np.array(image.shape) - 1) / factor).astype(int) + 1, 1)
    data = affine_transform(smooth, np.diag(factor), output_shape=tuple(int(n) for n in shape), order=1)
    affine = image.affine.copy()
    affine[:3, :3] = affine[:3, :3] @ np.diag(factor)
    return Volume(data, affine)


def _without(image: Volume, lesion: np.ndarray | None) -> Volume:
    """The image with the lesion as bright as the rest on average: neither its centre nor its blur is the lesion's."""
    if lesion is None:
        return image
    rest = image.data[(image.data > 0) & ~lesion]
    return replace(image, data=np.where(lesion, rest.mean() if rest.size else 0.0, image.data))


def _coarse_mask(mask: np.ndarray, image: Volume, voxel_mm: float) -> np.ndarray:
    return np.asarray(coarse(Volume(mask.astype(np.float32), image.affine), voxel_mm).data > 0.1)


def _scaled(data: np.ndarray) -> np.ndarray:
    top = float(np.quantile(data[data > 0], 0.99)) if (data > 0).any() else 1.0
    return data / max(top, 1e-12)
