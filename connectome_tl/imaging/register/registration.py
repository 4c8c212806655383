"""Register a template with a subject: affine, then SyN, by dipy or ANTs.

dipy's affine: Mattes mutual information (Mattes et al. 2003, doi:10.1109/TMI.2003.809072) on a coarse grid. Its SyN
with local cross-correlation (Avants et al. 2008, doi:10.1016/j.media.2007.06.004) after the template has taken on
the subject's contrast (`contrast.py`), and again when the two lie better on each other.
A lesion is left out of the cost of both (cost function masking, Brett et al. 2001, doi:10.1006/nimg.2001.0845).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.contrast import in_contrast_of
from connectome_tl.imaging.register.warps import Warp
from connectome_tl.settings.imaging import RegistrationSettings

_MARGIN_MM = 12.0  # of air kept around a brain: SyN's time goes with the voxels
_NOISE = 1e-4  # variance, brain about 1, that a window needs: in an even one the correlation is of noise alone
_REACH = 3  # voxels around a lesion that have no say either: windows, and the blur of coarse levels, touch it


class _Round(NamedTuple):
    """One learning of the contrast, and the SyN that rests on it.

    `coarser` is its grid against `nonlinear_mm`, `window` and `smooth` (of each step) are voxels, `levels` of SyN's
    three; `surroundings` says whether they tell the contrast.
    """

    coarser: float
    window: int
    levels: int
    smooth: float
    surroundings: bool


# What a template's intensities become is the better known the better the images lie on each other.
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
    fixed: Volume,
    moving: Volume,
    settings: RegistrationSettings,
    *,
    engine: Literal["dipy", "ants"],
    lesion: np.ndarray | None = None,
) -> Warp:
    """Affine, then SyN: the map that brings `moving` (a template) onto `fixed`.

    Args:
        engine: `settings.engine`, or what `choice.choose_engine` took for `auto`.
        lesion: (x, y, z) bool of the fixed image; left out of the cost of both steps.

    Raises:
        MissingInputError: the engine is ANTs and antspyx is not installed. DataError: dipy, and too few voxels.
    """
    fixed = _without(fixed, lesion)
    if engine == "ants":
        from connectome_tl.imaging.register.ants import register_with_ants

        f, m, left_out = _on_grid(settings.nonlinear_mm, fixed, moving, lesion)
        return register_with_ants(f, m, settings.nonlinear_steps, lesion=left_out)
    affine = warp = register_affine(fixed, moving, settings, lesion=lesion)
    for turn in _ROUNDS:
        f, m, left_out = _on_grid(turn.coarser * settings.nonlinear_mm, fixed, moving, lesion)
        alike = in_contrast_of(f, m, warp, left_out, surroundings=turn.surroundings)
        steps = tuple(n if level < turn.levels else 0 for level, n in enumerate(settings.nonlinear_steps))
        try:
            warp = _syn(f, alike, affine, steps, turn, left_out)
        except ValueError as error:  # dipy's: an image smaller than a window at the coarsest level
            if "too small" not in str(error):
                raise
            raise DataError(
                f"too few voxels to register: {error}",
                subject=fixed.subject,
                remedy="Give a finer registration.nonlinear_mm.",
            ) from error
    return warp


def _on_grid(
    voxel_mm: float, fixed: Volume, moving: Volume, lesion: np.ndarray | None
) -> tuple[Volume, Volume, np.ndarray | None]:
    """Both images, and the lesion, on voxels of that size, cut to the heads."""
    f, m = coarse(fixed, voxel_mm), coarse(moving, voxel_mm)
    box = head_box(f)
    left_out = None if lesion is None else _coarse_mask(lesion, fixed, voxel_mm)[box]
    return cut(f, box), cut(m, head_box(m)), left_out


def _syn(f: Volume, m: Volume, affine: Warp, steps: tuple[int, ...], turn: _Round, left_out: np.ndarray | None) -> Warp:
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration

    # dipy stops a level when its energy rises once, far too early here.
    search = SymmetricDiffeomorphicRegistration(_correlation(turn, left_out), level_iters=list(steps), opt_tol=-1e9)
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


def _correlation(turn: _Round, left_out: np.ndarray | None) -> Any:
    """dipy's local cross-correlation with a floor of noise; windows that touch what is left out pull nowhere."""
    from dipy.align.metrics import CCMetric
    from scipy.ndimage import maximum_filter

    near = None if left_out is None else maximum_filter(left_out.astype(np.int32), size=2 * _REACH + 1)

    class AboveNoise(CCMetric):
        def use_static_image_dynamics(self, original: np.ndarray, transformation: Any) -> None:  # noqa: ARG002
            """Where the lesion lies half-way, where the two images of this iteration meet."""
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


def coarse_brain(image: Volume, voxel_mm: float) -> Volume:
    """A brain, 0 outside, on coarser voxels: at its rim as bright as it is, where `coarse` would mix it with air."""
    brain = image.data > 0
    share = coarse(Volume(brain.astype(np.float32), image.affine), voxel_mm)
    small = coarse(Volume(np.where(brain, image.data, 0), image.affine), voxel_mm)
    return Volume(np.where(share.data > 0.5, small.data / np.maximum(share.data, 0.5), 0), small.affine)


def side_mm(image: Volume) -> float:
    """Of a cube as large as the brain."""
    return float(max((image.data > 0).sum(), 1) * np.prod(image.zooms)) ** (1 / 3)


def head_box(image: Volume, air_mm: float = _MARGIN_MM) -> tuple[slice, ...]:
    """The smallest box around the head, with some air."""
    inside = np.argwhere(image.data > 0)
    if not len(inside):
        return tuple(slice(0, n) for n in image.shape)
    air = np.ceil(air_mm / image.zooms).astype(int)
    low, high = np.maximum(inside.min(axis=0) - air, 0), inside.max(axis=0) + air + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def cut(image: Volume, box: tuple[slice, ...]) -> Volume:
    """The part of an image in a box, where it was."""
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return Volume(np.ascontiguousarray(image.data[box]), affine)


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
