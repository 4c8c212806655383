"""A template's labels into a subject: affine by mutual information, then SyN, both of dipy, with a gate.

Affine: Mattes mutual information (Mattes et al. 2003, doi:10.1109/TMI.2003.809072) on a coarse grid. SyN with
local cross-correlation (Avants et al. 2008, doi:10.1016/j.media.2007.06.004) after the template has taken on
the subject's contrast: each of its intensities becomes the mean of what lies there in the subject (the
function the correlation ratio fits, Roche et al. 1998, doi:10.1007/BFb0056301). A registration whose masks do
not overlap or whose labels vanish is refused, not used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.imaging.images import Volume
from connectome_tl.settings.imaging import RegistrationSettings


@dataclass(frozen=True, eq=False)
class Warp:
    """How to find, for a point of the fixed image, its place in the moving one.

    Attributes:
        affine: (4, 4) fixed mm to moving mm.
        places: (x, y, z, 3) moving mm of every voxel of `grid`, NaN where unknown; None when all is affine.
        grid: (4, 4) voxel indices of `places` to fixed mm.
        before: (4, 4) applied to a point before all else.
    """

    affine: np.ndarray
    places: np.ndarray | None = None
    grid: np.ndarray | None = None
    before: np.ndarray | None = None


@dataclass(frozen=True)
class Gate:
    """How well a registration fits: overlap of the brains and what became of the labels."""

    mask_dice: float
    lost_labels: tuple[int, ...]
    worst_volume_ratio: float


def register_affine(
    fixed: Volume,
    moving: Volume,
    settings: RegistrationSettings,
    *,
    rigid: bool = False,
    near: bool = False,
    fixed_mask: np.ndarray | None = None,
) -> Warp:
    """Affine (or rigid) map from fixed mm to moving mm.

    Args:
        near: the images lie on each other but for small movements; no search for their centres.
        fixed_mask: (x, y, z) bool, voxels that count; a lesion is left out by being False here.
    """
    from dipy.align.imaffine import AffineRegistration, MutualInformationMetric, transform_centers_of_mass
    from dipy.align.transforms import AffineTransform3D, RigidTransform3D, TranslationTransform3D

    f = _coarse(fixed, settings.affine_mm)
    m = _coarse(moving, settings.affine_mm)
    mask = (
        None if fixed_mask is None else _coarse(Volume(fixed_mask.astype(np.float32), fixed.affine), settings.affine_mm)
    )
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
            starting_affine=start, static_mask=None if mask is None else (mask.data > 0.5).astype(np.int32),
        )  # fmt: skip
        start = found.affine
    return Warp(np.asarray(start, dtype=float))


def register(
    fixed: Volume, moving: Volume, settings: RegistrationSettings, *, fixed_mask: np.ndarray | None = None
) -> Warp:
    """Affine, then SyN: the map that brings `moving` (a template) onto `fixed` (a subject)."""
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import CCMetric

    affine = register_affine(fixed, moving, settings, fixed_mask=fixed_mask)
    f, m = _coarse(fixed, settings.nonlinear_mm), _coarse(moving, settings.nonlinear_mm)
    search = SymmetricDiffeomorphicRegistration(CCMetric(3, radius=3), level_iters=list(settings.nonlinear_steps))
    search.verbosity = 0
    alike = _in_contrast_of(f, m, affine)
    found = search.optimize(
        _scaled(f.data), _scaled(alike), static_grid2world=f.affine, moving_grid2world=m.affine, prealign=affine.affine
    )
    # Where each fixed voxel finds itself in the moving image: carry the moving image's own coordinates over.
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in m.shape), indexing="ij"), axis=-1)
    within = np.asarray(found.transform(np.ones(m.shape)))
    voxels = np.stack([np.asarray(found.transform(grid[..., axis].copy())) for axis in range(3)], axis=-1)
    voxels = np.where(within[..., None] > 0.5, voxels / np.maximum(within[..., None], 0.5), np.nan)
    places = voxels @ m.affine[:3, :3].T + m.affine[:3, 3]
    return replace(affine, places=places, grid=f.affine)


def carry_labels(warp: Warp, labels: Volume, target: Volume) -> Volume:
    """Labels of the moving space on the grid of `target`, by nearest neighbour; integers stay what they are."""
    voxels = _moving_voxels(warp, target, labels.affine)
    index = np.floor(voxels + 0.5).astype(np.int64)
    inside = ((index >= 0) & (index < labels.shape)).all(axis=1)
    out = np.zeros(len(index), dtype=labels.data.dtype)
    out[inside] = labels.data[tuple(index[inside].T)]
    return Volume(out.reshape(target.shape[:3]), target.affine, target.subject, labels.file)


def carry_image(warp: Warp, image: Volume, target: Volume) -> Volume:
    """An image of the moving space on the grid of `target`, trilinear, 0 outside."""
    from scipy.ndimage import map_coordinates

    voxels = _moving_voxels(warp, target, image.affine)
    out = map_coordinates(image.data, voxels.T, order=1, mode="constant", cval=0.0, output=np.float32)
    return Volume(out.reshape(target.shape[:3]), target.affine, target.subject, image.file)


def compose(first: Warp, then: Warp) -> Warp:
    """Fixed to middle (affine only), then middle to moving."""
    if first.places is not None:
        raise ValueError("the first map must be affine")
    if then.places is None:
        return Warp(then.affine @ first.affine)
    return replace(then, before=first.affine)


def check(
    labels: Volume, template: Volume, mask: np.ndarray, brain: np.ndarray, settings: RegistrationSettings
) -> Gate:
    """Compare a subject's labels with the template's, and refuse a bad fit.

    Args:
        labels: carried into the subject.
        template: the template's own labels.
        mask: the subject's brain, on the grid of `labels`.
        brain: the template's brain, carried there.

    Raises:
        DataError: brains overlap too little, too many labels are lost, or a label grew or shrank beyond reason.
    """
    dice = 2 * float((mask & brain).sum()) / max(float(mask.sum() + brain.sum()), 1.0)
    numbers, before = np.unique(template.data[template.data > 0], return_counts=True)
    after = np.array([(labels.data == number).sum() for number in numbers])
    lost = tuple(int(number) for number, n in zip(numbers, after, strict=True) if n == 0)
    here, there = np.prod(labels.zooms), np.prod(template.zooms)
    share = (after[after > 0] * here / (after * here).sum()) / (before[after > 0] * there / (before * there).sum())
    ratio = float(np.maximum(share, 1 / share).max()) if share.size else float("inf")
    subject, problems = labels.subject, []
    if dice < settings.min_mask_dice:
        wanted = f"Dice {settings.min_mask_dice}"
        problems.append(Problem("the template's brain misses the subject's", wanted, f"{dice:.2f}", subject=subject))
    if len(lost) > settings.max_lost_labels * len(numbers):
        shown = ", ".join(map(str, lost[:10]))
        problems.append(Problem(f"{len(lost)} of {len(numbers)} labels are lost", got=shown, subject=subject))
    if ratio > settings.max_volume_ratio:
        wanted = f"at most {settings.max_volume_ratio} times"
        problems.append(Problem("a label's share differs from the template's", wanted, f"{ratio:.1f}", subject=subject))
    raise_all("the registration is refused", problems, DataError)
    return Gate(dice, lost, ratio)


def _moving_voxels(warp: Warp, target: Volume, moving_affine: np.ndarray) -> np.ndarray:
    """Voxel coordinates in the moving image of every voxel of the target, (n_voxels, 3)."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in target.shape[:3]), indexing="ij"), axis=-1).reshape(-1, 3)
    points = grid @ target.affine[:3, :3].T + target.affine[:3, 3]
    if warp.before is not None:
        points = points @ warp.before[:3, :3].T + warp.before[:3, 3]
    moved = points @ warp.affine[:3, :3].T + warp.affine[:3, 3]
    if warp.places is not None and warp.grid is not None:
        there = _interpolated(warp.places, warp.grid, points)
        known = np.isfinite(there).all(axis=1)
        moved[known] = there[known]
    inverse = np.linalg.inv(moving_affine)
    return np.asarray(moved @ inverse[:3, :3].T + inverse[:3, 3])


def _interpolated(field: np.ndarray, grid: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A vector field at points in mm, (n, 3); NaN outside it."""
    from scipy.ndimage import map_coordinates

    inverse = np.linalg.inv(grid)
    voxels = (points @ inverse[:3, :3].T + inverse[:3, 3]).T
    return np.stack(
        [map_coordinates(field[..., axis], voxels, order=1, mode="constant", cval=np.nan) for axis in range(3)], axis=1
    )


def _in_contrast_of(fixed: Volume, moving: Volume, warp: Warp) -> np.ndarray:
    """The moving image with every intensity replaced by the mean fixed intensity that it meets under the map."""
    brain = moving.data > 0
    if not brain.any():
        return moving.data
    edges = np.quantile(moving.data[brain], np.linspace(0, 1, 33)[1:-1])
    level = np.where(brain, 1 + np.digitize(moving.data, edges), 0)
    met = carry_labels(warp, Volume(level.astype(np.int32), moving.affine), fixed).data
    counts = np.bincount(met.ravel(), minlength=33)
    sums = np.bincount(met.ravel(), weights=fixed.data.ravel(), minlength=33)
    means = np.divide(sums, counts, out=np.zeros(33), where=counts > 0)
    centres = np.array([moving.data[level == k].mean() if (level == k).any() else np.nan for k in range(1, 33)])
    known = np.isfinite(centres) & (counts[1:] > 20)
    if known.sum() < 2:
        return moving.data
    return np.where(brain, np.interp(moving.data, centres[known], means[1:][known]), 0.0)


def _coarse(image: Volume, voxel_mm: float) -> Volume:
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


def _scaled(data: np.ndarray) -> np.ndarray:
    top = float(np.quantile(data[data > 0], 0.99)) if (data > 0).any() else 1.0
    return data / max(top, 1e-12)
