"""Register a template to a subject: affine, then SyN, by dipy or ANTs.

dipy's affine: Mattes mutual information (Mattes et al. 2003, doi:10.1109/TMI.2003.809072) on a coarse grid. Its SyN
with local cross-correlation (Avants et al. 2008, doi:10.1016/j.media.2007.06.004) follows after transfer of the
subject's contrast to the template (`contrast.py`), and is repeated with the improved alignment. Lesions are excluded
from the cost of both (cost function masking, Brett et al. 2001, doi:10.1006/nimg.2001.0845).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume, in_usual_order
from connectome_tl.imaging.register.contrast import in_contrast_of
from connectome_tl.imaging.register.warps import Warp
from connectome_tl.settings.imaging import RegistrationSettings

_MARGIN_MM = 12.0  # margin of air around a brain, small since SyN's time is proportional to the voxels
_MARGIN_OF_LOCAL_MM = 6.0  # the same for local correlation by ANTs, most of whose time is in the windows
_NOISE = 1e-4  # smallest variance of a window (brain intensity about 1), below which the correlation is noise
_REACH = 3  # voxels around a lesion that are also excluded, since windows and smoothing reach the lesion


class _Round(NamedTuple):
    """One contrast transfer and the subsequent SyN.

    `coarser` is its grid relative to `nonlinear_mm`; `window` and `smooth` (of each step) are in voxels; `levels` is
    the number of SyN's three levels; `surroundings`: whether they are used for the contrast.
    """

    coarser: float
    window: int
    levels: int
    smooth: float
    surroundings: bool


# The contrast transfer improves with the alignment.
_ROUNDS = (
    _Round(1.4, window=2, levels=2, smooth=6.0, surroundings=False),
    _Round(1.4, window=1, levels=2, smooth=6.0, surroundings=True),
    _Round(1.4, window=1, levels=3, smooth=6.0, surroundings=True),
    _Round(1.0, window=2, levels=3, smooth=7.0, surroundings=True),
)


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
        near: the images are approximately aligned, so that centres are not searched.
        lesion: (x, y, z) bool of the fixed image, excluded from the cost.
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
    fixed: Volume,
    moving: Volume,
    settings: RegistrationSettings,
    *,
    engine: Literal["dipy", "ants"],
    metric: Literal["mutual", "local"] = "mutual",
    lesion: np.ndarray | None = None,
) -> Warp:
    """Affine, then SyN registration of `moving` (a template) to `fixed`.

    Args:
        engine, metric: the choice of `choice.choose_engine`; the metric is that of ANTs.
        lesion: (x, y, z) bool of the fixed image, excluded from the cost of both steps.

    Raises:
        MissingInputError: the engine is ANTs and antspyx is not installed. DataError: dipy, and too few voxels.
    """
    fixed = _without(fixed, lesion)
    if engine == "ants":
        from connectome_tl.imaging.register.ants import register_with_ants

        air_mm = _MARGIN_OF_LOCAL_MM if metric == "local" else _MARGIN_MM
        f, m, left_out = _on_grid(settings.nonlinear_mm, fixed, moving, lesion, air_mm=air_mm)
        return register_with_ants(f, m, settings.nonlinear_steps, lesion=left_out, metric=metric)
    affine = warp = register_affine(fixed, moving, settings, lesion=lesion)
    for turn in _ROUNDS:
        f, m, left_out = _on_grid(turn.coarser * settings.nonlinear_mm, fixed, moving, lesion)
        alike = in_contrast_of(f, m, warp, left_out, surroundings=turn.surroundings)
        steps = tuple(n if level < turn.levels else 0 for level, n in enumerate(settings.nonlinear_steps))
        try:
            warp = _syn(f, alike, affine, steps, turn, left_out)
        except ValueError as error:  # raised by dipy for images smaller than a window at the coarsest level
            if "too small" not in str(error):
                raise
            raise DataError(
                f"too few voxels to register: {error}",
                subject=fixed.subject,
                remedy="Give a finer registration.nonlinear_mm.",
            ) from error
    return warp


def _on_grid(
    voxel_mm: float, fixed: Volume, moving: Volume, lesion: np.ndarray | None, *, air_mm: float = _MARGIN_MM
) -> tuple[Volume, Volume, np.ndarray | None]:
    """Both images, and the lesion, resampled to this voxel size and cropped to the heads."""
    f, m = coarse(fixed, voxel_mm), coarse(moving, voxel_mm)
    box = head_box(f, air_mm)
    left_out = None if lesion is None else _coarse_mask(lesion, fixed, voxel_mm)[box]
    return cut(f, box), cut(m, head_box(m, air_mm)), left_out


def _syn(f: Volume, m: Volume, affine: Warp, steps: tuple[int, ...], turn: _Round, left_out: np.ndarray | None) -> Warp:
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration

    # dipy stops a level at the first increase of the energy, which is too early here.
    search = SymmetricDiffeomorphicRegistration(_correlation(turn, left_out), level_iters=list(steps), opt_tol=-1e9)
    search.verbosity = 0
    found = search.optimize(
        _scaled(f.data), _scaled(m.data), static_grid2world=f.affine, moving_grid2world=m.affine, prealign=affine.affine
    )
    # Resample the coordinates of the moving image to get the position of each fixed voxel.
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in m.shape), indexing="ij"), axis=-1)
    within = np.asarray(found.transform(np.ones(m.shape)))
    voxels = np.stack([np.asarray(found.transform(grid[..., axis].copy())) for axis in range(3)], axis=-1)
    voxels = np.where(within[..., None] > 0.5, voxels / np.maximum(within[..., None], 0.5), np.nan)
    places = voxels @ m.affine[:3, :3].T + m.affine[:3, 3]
    return replace(affine, places=places, grid=f.affine)


def _correlation(turn: _Round, left_out: np.ndarray | None) -> Any:
    """dipy's local cross-correlation with a noise floor and without windows that touch excluded voxels."""
    from dipy.align.metrics import CCMetric
    from scipy.ndimage import maximum_filter

    near = None if left_out is None else maximum_filter(left_out.astype(np.int32), size=2 * _REACH + 1)

    class AboveNoise(CCMetric):
        def use_static_image_dynamics(self, original: np.ndarray, transformation: Any) -> None:  # noqa: ARG002
            """Transform the lesion to the midpoint space of this iteration."""
            self.left_out = near
            if near is not None and transformation is not None:
                self.left_out = np.asarray(
                    transformation.transform(
                        near,
                        interpolation="nearest",
                        out_shape=np.array(self.static_image.shape, dtype=np.int32),
                        out_grid2world=self.static_affine,
                    )
                )

        def initialize_iteration(self) -> None:
            super().initialize_iteration()
            variances = self.factors[..., 3:5]  # summed over the window, of either image
            even = (variances <= 0).any(axis=-1)
            variances += _NOISE * (2 * self.radius + 1) ** 3
            self.factors[even] = 0.0  # no variance: dipy skips these windows
            if self.left_out is not None:
                self.factors[self.left_out > 0] = 0.0

    return AboveNoise(3, sigma_diff=turn.smooth, radius=turn.window)


def coarse(image: Volume, voxel_mm: float) -> Volume:
    """Downsample an image to isotropic voxels, with smoothing; the result does not depend on the order of storage."""
    from scipy.ndimage import affine_transform, gaussian_filter

    image = in_usual_order(image)
    factor = np.maximum(voxel_mm / image.zooms, 1.0)
    if (factor < 1.2).all():
        return Volume(np.ascontiguousarray(image.data, dtype=np.float64), image.affine)
    smooth = gaussian_filter(image.data.astype(np.float64), [0.42 * f if f > 1.01 else 0.0 for f in factor])
    shape = np.maximum(np.floor((np.array(image.shape) - 1) / factor).astype(int) + 1, 1)
    data = affine_transform(smooth, np.diag(factor), output_shape=tuple(int(n) for n in shape), order=1)
    affine = image.affine.copy()
    affine[:3, :3] = affine[:3, :3] @ np.diag(factor)
    return Volume(data, affine)


def coarse_brain(image: Volume, voxel_mm: float) -> Volume:
    """Downsample a brain, 0 outside, without mixing its rim with air."""
    brain = image.data > 0
    share = coarse(Volume(brain.astype(np.float32), image.affine), voxel_mm)
    small = coarse(Volume(np.where(brain, image.data, 0), image.affine), voxel_mm)
    return Volume(np.where(share.data > 0.5, small.data / np.maximum(share.data, 0.5), 0), small.affine)


def side_mm(image: Volume) -> float:
    """Side in mm of a cube with the volume of the brain."""
    return float(max((image.data > 0).sum(), 1) * image.voxel_mm3) ** (1 / 3)


def head_box(image: Volume, air_mm: float = _MARGIN_MM) -> tuple[slice, ...]:
    """The smallest box around the head, with some air."""
    inside = np.argwhere(image.data > 0)
    if not len(inside):
        return tuple(slice(0, n) for n in image.shape)
    air = np.ceil(air_mm / image.zooms).astype(int)
    low, high = np.maximum(inside.min(axis=0) - air, 0), inside.max(axis=0) + air + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def cut(image: Volume, box: tuple[slice, ...]) -> Volume:
    """Crop an image to a box, keeping world coordinates."""
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return Volume(np.ascontiguousarray(image.data[box]), affine)


def _without(image: Volume, lesion: np.ndarray | None) -> Volume:
    """The image with the lesion filled with the mean intensity, so that it has no effect on centre and smoothing."""
    if lesion is None:
        return image
    rest = image.data[(image.data > 0) & ~lesion]
    return replace(image, data=np.where(lesion, rest.mean() if rest.size else 0.0, image.data))


def _coarse_mask(mask: np.ndarray, image: Volume, voxel_mm: float) -> np.ndarray:
    return np.asarray(coarse(Volume(mask.astype(np.float32), image.affine), voxel_mm).data > 0.1)


def _scaled(data: np.ndarray) -> np.ndarray:
    top = float(np.quantile(data[data > 0], 0.99)) if (data > 0).any() else 1.0
    return data / max(top, 1e-12)
