"""Estimate and correct the bias field of an image within the brain.

Uses N4 (Tustison et al. 2010, doi:10.1109/TMI.2010.2046908) if antspyx or SimpleITK is installed. Otherwise, a cubic
polynomial of position is fitted to log intensities minus their class mean, in alternation with the classes (Wells et
al. 1996, doi:10.1109/42.511747, with hard classes).

Either estimate contains smooth differences between tissues. Where a template of the same contrast is given, its own
estimate is subtracted, since it has this part in common with the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any, Literal

import numpy as np

from connectome_tl.errors import MissingInputError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.orientation import by_centre_and_size
from connectome_tl.imaging.register.registration import coarse_brain, side_mm

Method = Literal["auto", "n4", "smooth", "none"]
_ACROSS = 16  # voxels of the estimate across a brain; the field is smooth
_ITERATIONS = [50, 50, 50, 50]  # iterations of N4, coarsest spline first
_CONVERGED = 1e-6  # of N4: change of the field from one iteration to the next; at 1e-3 a third of the field was found
_DEGREE = 3
_CLASSES = 3
_ROUNDS = 12
STRONG = 2.5  # ratio of a field; correction of weaker ones decreased Dice by 0.004 to 0.01
_STRONG_BESIDE = 1.7  # the same after subtraction of a template's field; at most 1.6 between heads without a field
_FEWEST = 500  # smallest number of voxels for a fit


@dataclass(frozen=True)
class BiasField:
    """Estimate of a bias field.

    Attributes:
        method: `N4 (antspyx)`, `N4 (SimpleITK)`, `smooth`, or `none` for an unchanged image.
        ratio: ratio of the 98th to the 2nd percentile of the field in the brain.
    """

    method: str
    ratio: float

    def record(self) -> dict[str, object]:
        """For the sidecar."""
        return {"Method": self.method, "Ratio": round(self.ratio, 2)}


def correct_bias(
    image: Volume, method: Method, left_out: np.ndarray | None = None, *, like: Volume | None = None
) -> tuple[Volume, BiasField]:
    """Divide an image by its bias field; returns the image and the estimate.

    Args:
        image: (x, y, z), 0 outside the brain.
        method: `auto` corrects only a strong field (the estimate of a weak one is mostly anatomy): by the smooth fit
            with `like`, where it is more accurate, else by N4 if antspyx or SimpleITK is installed. `none` estimates
            the field by the smooth fit without correction.
        left_out: (x, y, z) bool; a lesion, excluded from the fit.
        like: another brain of the same contrast and orientation, 0 outside, whose field is subtracted on the log
            scale, so that anatomy is not corrected.

    Raises:
        MissingInputError: N4 is requested and neither package is installed.
    """
    inside = image.data > 0 if left_out is None else (image.data > 0) & ~left_out
    library = _library() if method == "n4" or (method == "auto" and like is None) else None
    if method == "n4" and library is None:
        raise MissingInputError(
            "registration.bias_field: n4 needs antspyx or SimpleITK",
            remedy="pip install 'connectome-tl[ants]', or use registration.bias_field: smooth.",
        )
    small = _small(Volume(np.where(inside, image.data, 0), image.affine))
    other = None if like is None else _small(like)
    used = small.data > 0
    if used.sum() < _FEWEST:
        return image, BiasField("none", 1.0)
    log_field, ratio = _scaled(_beside(small, other, _smooth), used)
    if method == "none" or (method == "auto" and ratio < (STRONG if other is None else _STRONG_BESIDE)):
        return image, BiasField("none", ratio)
    if library is not None:
        log_field, ratio = _scaled(_beside(small, other, _by_ants if library == "antspyx" else _by_sitk), used)
    found = BiasField(f"N4 ({library})" if library else "smooth", ratio)
    gain = np.exp(_at(log_field, small.affine, image))
    return Volume((image.data / gain).astype(np.float32), image.affine, image.subject, image.file), found


def _small(brain: Volume) -> Volume:
    """The brain on the coarse grid of the estimate."""
    return coarse_brain(brain, side_mm(brain) / _ACROSS)


def _beside(image: Volume, other: Volume | None, estimate: Callable[[Volume, np.ndarray], np.ndarray]) -> np.ndarray:
    """Log field of an image, minus that of another one at the same place relative to centre and size of the brain."""
    field = estimate(image, image.data > 0)
    if other is None or (other.data > 0).sum() < _FEWEST:
        return field
    between = np.linalg.inv(by_centre_and_size(image, other, np.eye(3)))
    return field - _at(estimate(other, other.data > 0), between @ other.affine, image)


def _scaled(log_field: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, float]:
    """Log field with a mean of 0, and the ratio of the field's percentiles."""
    low, high = np.percentile(log_field[used], [2, 98])
    return log_field - log_field[used].mean(), float(np.exp(high - low))


def _library() -> str | None:
    return next((name for name, module in (("antspyx", "ants"), ("SimpleITK", "SimpleITK")) if find_spec(module)), None)


def _at(field: np.ndarray, affine: np.ndarray, image: Volume) -> np.ndarray:
    """Resample a coarse field to the voxels of an image, with constant extrapolation."""
    from scipy.ndimage import affine_transform

    to_coarse = np.linalg.inv(affine) @ image.affine
    return np.asarray(
        affine_transform(
            field.astype(np.float64), to_coarse[:3, :3], to_coarse[:3, 3], image.shape, order=1, mode="nearest"
        )
    )


def _by_ants(image: Volume, used: np.ndarray) -> np.ndarray:
    from connectome_tl.imaging.register.ants import n4_field

    return np.log(np.maximum(n4_field(image, used, _ITERATIONS, _CONVERGED), 1e-6))


def _by_sitk(image: Volume, used: np.ndarray) -> np.ndarray:
    sitk: Any = import_module("SimpleITK")

    def of(array: np.ndarray) -> Any:
        picture = sitk.GetImageFromArray(array.T)
        picture.SetSpacing(image.zooms.tolist())
        return picture

    picture, mask = of(image.data.astype(np.float32)), of(used.astype(np.uint8))
    search = sitk.N4BiasFieldCorrectionImageFilter()
    search.SetNumberOfThreads(1)
    search.SetMaximumNumberOfIterations(_ITERATIONS)
    search.SetConvergenceThreshold(_CONVERGED)
    search.Execute(picture, mask)
    return np.asarray(sitk.GetArrayFromImage(search.GetLogBiasFieldAsImage(picture)).T, dtype=np.float64)


def _smooth(image: Volume, used: np.ndarray) -> np.ndarray:
    """Log field as a cubic polynomial of position, (x, y, z)."""
    place = np.moveaxis(np.indices(image.shape, dtype=np.float64), 0, -1) * image.zooms
    inside = place[used]
    place = (place - inside.mean(axis=0)) / np.maximum(inside.std(axis=0), 1e-6) / 2
    powers = [p for p in product(range(_DEGREE + 1), repeat=3) if 0 < sum(p) <= _DEGREE]
    terms = np.stack([np.prod(place[used] ** p, axis=1) for p in powers], axis=1)
    terms -= terms.mean(axis=0)
    back = np.linalg.pinv(terms)
    values = np.log(np.maximum(image.data[used], 1e-6 * image.data[used].max()))
    weights = back @ values  # classes of an image under a strong field are regions: without it first
    for _ in range(_ROUNDS):
        rest = values - terms @ weights
        off = values - _class_means(rest)
        spread = 3 * np.median(np.abs(off - np.median(off)))
        middle = np.median(off - terms @ weights)
        weights = back @ np.clip(off, terms @ weights + middle - spread, terms @ weights + middle + spread)
    # A cubic diverges outside the brain: coordinates are clipped to those of the brain.
    reach = place[used]
    place = np.clip(place, reach.min(axis=0), reach.max(axis=0))
    return np.asarray(sum(w * np.prod(place**p, axis=-1) for w, p in zip(weights, powers, strict=True)))


def _class_means(values: np.ndarray) -> np.ndarray:
    """Mean of the class of each value, for three classes found by k-means."""
    centres = np.quantile(values, (np.arange(_CLASSES) + 0.5) / _CLASSES)
    for _ in range(20):
        of = np.digitize(values, (centres[1:] + centres[:-1]) / 2)
        counts = np.bincount(of, minlength=_CLASSES)
        centres = np.where(counts > 0, np.bincount(of, values, _CLASSES) / np.maximum(counts, 1), centres)
    return np.asarray(centres[of])
