"""Resample a volume to the grid of a study: orientation, spacing, cropping, padding, intensity.

Nothing is fitted across volumes: each grid depends only on its own voxels and the settings.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.volumes.checks import checked_volume, cut_side, flattest_side, head_extent, head_problem
from connectome_tl.imaging.volumes.foreground import find_foreground
from connectome_tl.plurals import counted
from connectome_tl.settings.images.volumes import ImageSettings

QUANTILES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
_LARGEST = 60_000.0  # largest value in half precision
_WHOLE, _LEAST = 0.99, 0.8  # share of the head on the grid, below which this is noted and refused
_FEWEST = 27  # voxels of the grid within the head
_ELSEWHERE = 10  # times this range: a background further away is a fill value, not the intensity of air
_FAR = 3  # times the range of most levels: levels further away are outliers
_TINY = 2.0**-14  # smallest normal number in half precision
_FEWEST_LEVELS = 10
_NARROW = 0.4  # interquartile range over standard deviation; 1.35 for a normal distribution
_TWIN = 0.5  # of the volume of the head: size of another object that may be a second head
_LEAST_SD = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Gridded:
    """One subject's volume on the grid.

    Attributes:
        values: (x, y, z) float16, RAS axes.
        affine: (16,) rows of the 4 x 4 matrix from voxels of the grid to mm of the image.
        head_ml: volume of the foreground in the original image: the head above the neck, or the brain of a
            skull-stripped image. tissue_ml: volumes of its dark, middle and bright part.
        quantiles: quantiles of the foreground's intensities (`QUANTILES`) above the background, or above their 1st
            percentile if the background is a distant fill value, relative to the mean absolute intensity above it.
        native: (3,) voxel edges of the image in mm. extent: (3,) its field of view in mm.
        head_mm: (3,) width, length and height of the head; of an image without a neck it is that of the brain.
        repeated: share of the head's voxels that have its most frequent intensity.
        is_stripped: whether the image has an empty background, as after skull stripping.
        notes: accepted irregularities.
    """

    values: np.ndarray
    affine: tuple[float, ...]
    head_ml: float
    tissue_ml: tuple[float, float, float]
    quantiles: tuple[float, ...]
    native: tuple[float, float, float]
    extent: tuple[float, float, float] = (0.0, 0.0, 0.0)
    head_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    repeated: float = 0.0
    is_stripped: bool = False
    notes: tuple[str, ...] = ()

    def read(self) -> np.ndarray:
        """(x, y, z) float16."""
        return self.values

    @property
    def zooms(self) -> np.ndarray:
        """(3,) voxel edges of the grid in mm."""
        return np.linalg.norm(np.reshape(self.affine, (4, 4))[:3, :3], axis=0)


def gridded(path: str, subject: str, settings: ImageSettings) -> Gridded:
    """Read an image and convert it to the grid.

    Raises:
        MissingInputError, DataError: as `checked_volume` and `onto_grid`.
    """
    image, notes = checked_volume(path, subject, settings)
    made = onto_grid(image, settings)
    return replace(made, notes=(*notes, *made.notes))


def onto_grid(image: Volume, settings: ImageSettings) -> Gridded:
    """Convert a volume to the grid.

    Raises:
        DataError: no foreground, an implausible size or extent of the head, too little of it on the grid, or
            intensities beyond half precision.
    """
    volume, subject, path = to_ras(image), image.subject, image.file
    shown = find_foreground(volume.data, volume.zooms)
    inside = shown.mask
    voxel_ml = volume.voxel_mm3 / 1000
    if not inside.any() or inside.all():
        raise DataError("no head can be distinguished from the background", subject=subject, file=path)
    side = flattest_side(volume, inside, is_stripped=shown.is_stripped)
    odd = head_problem(volume, inside, *side)
    if odd and settings.shape == "refuse":
        raise DataError(odd, subject=subject, file=path, remedy="Fix the image, or set image.shape: note.")
    extent = head_extent(volume, inside)
    repeated = float(np.unique(volume.data[inside], return_counts=True)[1].max() / inside.sum())
    data, spikes = without_outliers(volume.data, inside)
    levels = data[inside].astype(np.float64)
    n_levels = len(np.unique(levels[:: max(1, len(levels) // 100_000)]))
    if n_levels < _FEWEST_LEVELS:
        raise DataError(
            f"the head has only {counted(n_levels, 'grey level')}: a mask or a label map?",
            subject=subject,
            file=path,
            remedy="Name the image itself in `volumes`.",
        )
    if settings.normalise != "none":
        volume = replace(volume, data=data)
    if shown.is_stripped and (settings.normalise, settings.outside) != ("none", "keep"):
        # The background has any value; its mixture with the edge of the brain must not depend on it.
        low = np.quantile(levels, 0.01).astype(data.dtype)
        volume = replace(volume, data=np.where(inside, volume.data, low))
    values, mask, affine, kept = _placed(volume, inside, settings)
    cut, few = _cut(kept, settings), _few(int(mask.sum()))
    if settings.shape == "refuse" and (few or kept < _LEAST):
        raise DataError(
            few or cut,
            expected=f"at least {_LEAST:.0%} of the head on the grid, in at least {_FEWEST} voxels",
            subject=subject,
            file=path,
            remedy="Set image.size and image.voxel for heads of this size, or set image.shape: note.",
        )
    values = normalised(values, mask, settings)
    if not np.isfinite(values).all() or np.abs(values).max() > _LARGEST:
        raise DataError(
            "grey levels are too large for half precision",
            expected=f"at most {_LARGEST:g}",
            got=f"{np.abs(values).max():g}",
            subject=subject,
            file=path,
            remedy="Set image.normalise: zscore.",
        )
    values = values.astype(np.float16)
    if settings.outside == "zero":  # 0 is outside the foreground, and no voxel within it is 0
        values[mask & (values == 0)] = _TINY
    return Gridded(
        values,
        tuple(float(x) for x in affine.ravel()),
        float(inside.sum() * voxel_ml),
        _tissues(levels, voxel_ml),
        _quantiles(levels, shown.background),
        _three(volume.zooms),
        _three(volume.zooms * volume.shape),
        extent,
        repeated,
        shown.is_stripped,
        tuple(
            note for note in (odd or cut_side(*side), cut, few, _second(shown.second), spikes, _narrow(levels)) if note
        ),
    )


def _three(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def to_ras(volume: Volume) -> Volume:
    """Reorient a volume to the closest RAS orientation by flips and swaps of axes."""
    turn = nib.orientations.io_orientation(volume.affine)
    data = nib.orientations.apply_orientation(volume.data, turn)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.shape)
    return Volume(np.ascontiguousarray(data), affine, volume.subject, volume.file)


def _quantiles(levels: np.ndarray, background: float) -> tuple[float, ...]:
    low, high = np.quantile(levels, (0.01, 0.99))
    reach = _ELSEWHERE * (high - low)
    above = levels - (background if low - reach <= background <= high + reach else low)
    return tuple(float(q) for q in np.quantile(above, QUANTILES) / max(float(np.abs(above).mean()), _LEAST_SD))


def _second(share: float) -> str:
    """A note on another object of the image that is nearly as large as the head."""
    return f"another object has {share:.0%} of the volume of the head: two heads?" if share > _TWIN else ""


def _narrow(levels: np.ndarray) -> str:
    """A note if a part of the head, such as bone in CT, has most of the range of its grey levels."""
    low, high = np.quantile(levels, (0.25, 0.75))
    if high - low > _NARROW * levels.std():
        return ""
    return f"half of the head has grey levels of {low:.4g} to {high:.4g}, far from the others: set image.window?"


def without_outliers(data: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, str]:
    """The volume with outlying intensities clipped, and a note on those of the foreground, if there are any.

    A single voxel of a spike or of metal would otherwise determine the standard deviation of a head.
    """
    levels = data[inside]
    # Percentiles that leave out an extreme voxel of a small foreground, too.
    low = float(np.quantile(levels, 0.01, method="higher"))
    high = float(np.quantile(levels, 0.99, method="lower"))
    low, high = low - _FAR * (high - low), high + _FAR * (high - low)
    n = int(((levels < low) | (levels > high)).sum())
    if low == high or not n:
        return data, ""
    clipped = np.clip(data, low, high).astype(data.dtype)
    return clipped, f"{counted(n, 'voxel')} of the head with outlying grey levels {'was' if n == 1 else 'were'} clipped"


def normalised(values: np.ndarray, inside: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """Normalise intensities; the background is set to 0 if the settings require it."""
    used = values[inside] if settings.over == "foreground" and inside.any() else values.ravel()
    if settings.normalise == "zscore":
        mean = used.mean(dtype=np.float64)
        values = (values - mean) / max(float(used.std(dtype=np.float64)), 1e-6 * abs(float(mean)), _LEAST_SD)
    elif settings.normalise == "minmax":
        low, high = np.quantile(used, (0.01, 0.99))
        values = np.clip((values - low) / max(float(high - low), _LEAST_SD), 0.0, 1.0)
    return np.where(inside, values, 0.0) if settings.outside == "zero" else values


def head_on(values: np.ndarray, affine: np.ndarray, settings: ImageSettings) -> np.ndarray:
    """(x, y, z) bool, the voxels of a grid that are within the head, all if there is none; `affine` as in `Gridded`."""
    if settings.outside == "zero":
        found = values != 0
    else:
        zooms = np.linalg.norm(np.reshape(affine, (4, 4))[:3, :3], axis=0)
        found = find_foreground(values.astype(np.float32), zooms).mask
    return found if found.any() else np.ones(values.shape, dtype=bool)


def cropped(values: np.ndarray, shape: tuple[int, int, int], middle: np.ndarray | None = None) -> np.ndarray:
    """Crop, or pad with the minimum, an array (x, y, z) to `shape` around a voxel (default: the centre)."""
    middle = (np.array(values.shape) - 1) / 2 if middle is None else middle
    start = np.round(middle - (np.array(shape) - 1) / 2 + 1e-9).astype(int)
    found = np.full(shape, values.min(), dtype=values.dtype)
    ours, theirs = [], []
    for axis in range(3):
        first, last = max(start[axis], 0), min(start[axis] + shape[axis], values.shape[axis])
        if last <= first:
            return found
        theirs.append(slice(first, last))
        ours.append(slice(first - start[axis], last - start[axis]))
    found[tuple(ours)] = values[tuple(theirs)]
    return found


def _placed(
    volume: Volume, inside: np.ndarray, settings: ImageSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Values and foreground on the grid, its affine (4, 4), and the share of the foreground that is on it."""
    shape = settings.shape3
    if settings.grid == "raw":
        middle = (np.array(volume.shape) - 1) / 2
        values, mask = (cropped(one, shape) for one in (volume.data, inside))
        start = np.round(middle - (np.array(shape) - 1) / 2 + 1e-9)
        return values, mask, volume.affine @ _affine(np.eye(3), start), float(mask.sum() / inside.sum())
    if settings.grid == "zoom":
        ratio = np.array(volume.shape) / np.array(shape)
        matrix, offset, kept = np.diag(ratio), (ratio - 1) / 2, 1.0
    else:
        # From grid voxels to mm (axes of RAS, relative to the centre), then to voxels of the image.
        middle = (np.array(volume.shape) - 1) / 2
        if settings.centre == "head":
            middle = _middle(inside, volume.affine[:3, :3])
        matrix = np.linalg.inv(volume.affine[:3, :3]) * settings.voxel
        offset = middle - matrix @ ((np.array(shape) - 1) / 2)
        ratio = settings.voxel / volume.zooms
        kept = _share_on(inside, matrix, offset, shape)
    # The outermost voxels reach half a voxel beyond their centres, as those of a label map.
    data, shown = _smoothed(volume.data, ratio), np.ones(volume.shape, dtype=np.uint8)
    imaged = affine_transform(shown, matrix, offset, shape, order=0, mode="grid-constant") > 0
    values = affine_transform(data, matrix, offset, shape, order=1, mode="nearest")
    mask = affine_transform(_smoothed(inside.astype(np.float32), ratio), matrix, offset, shape, order=1, mode="nearest")
    return np.where(imaged, values, data.min()), (mask > 0.5) & imaged, volume.affine @ _affine(matrix, offset), kept


def _affine(matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = matrix, offset
    return found


def _middle(inside: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Voxel (3,) in the middle of the foreground, whose bounds are along R, A and S whatever the axes of the image."""
    at = np.argwhere(inside) @ axes.T
    return np.asarray(np.round(np.linalg.inv(axes) @ ((at.min(axis=0) + at.max(axis=0)) / 2), 6))


def _share_on(inside: np.ndarray, matrix: np.ndarray, offset: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Share of the foreground within the borders of the grid."""
    at = (np.argwhere(inside) - offset) @ np.linalg.inv(matrix).T
    return float(np.all((at >= -0.5) & (at <= np.array(shape) - 0.5), axis=1).mean())


def _cut(kept: float, settings: ImageSettings) -> str:
    """What a grid that is too small for the head cuts off; empty if it does not."""
    if kept >= _WHOLE:
        return ""
    return f"{1 - kept:.0%} of the head is outside the grid of {' x '.join(map(str, settings.shape3))} voxels"


def _few(within: int) -> str:
    return f"fewer than {_FEWEST} voxels of the grid are within the head ({within})" if within < _FEWEST else ""


def _smoothed(data: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Smooth along axes that become coarser, to avoid aliasing."""
    sigma = 0.42 * np.sqrt(np.maximum(ratio**2 - 1, 0))
    return gaussian_filter(data, sigma) if sigma.max() > 0.05 else data


def _tissues(levels: np.ndarray, voxel_ml: float) -> tuple[float, float, float]:
    """Volumes (ml) of three intensity classes of the foreground by a Gaussian mixture: dark, middle, bright."""
    from sklearn.mixture import GaussianMixture

    points = np.quantile(levels, np.linspace(0.005, 0.995, 400))[:, None]
    points = (points - points.mean()) / max(float(points.std()), _LEAST_SD)
    starts = np.quantile(points, (0.1, 0.5, 0.9))[:, None]
    model = GaussianMixture(3, means_init=starts, reg_covar=1e-4, max_iter=60, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # full convergence is not needed for the three volumes
        which = model.fit(points).predict(points)
    order = np.argsort(model.means_[:, 0])
    share = np.bincount(which, minlength=3)[order] / len(points) * len(levels) * voxel_ml
    return float(share[0]), float(share[1]), float(share[2])
