"""Brain masks by median filter and Otsu's threshold (dipy), if none is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import Volume

_AROUND_MM = 3.0  # search distance for the edge around a rough mask
_DARK, _MOSTLY = 0.05, 0.5  # of the brightest intensities: no signal; largest share of a mask without signal
_STANDARDISED = 0.01  # share of negative values in a brain from which its intensities are not those of a scanner
_LOWEST = 0.005  # quantile of such intensities that becomes nearly the smallest
_OF_HOOK = "Its output must be above 0.5 in the brain and 0 elsewhere."


def brain_mask(image: Volume, near: np.ndarray | None = None) -> np.ndarray:
    """Brain of an image of any contrast, (x, y, z) bool.

    Args:
        near: (x, y, z) bool, a rough mask (from diffusion data, which show no scalp). Without it the image must be
            (nearly) skull-stripped, since intensities do not separate brain and scalp.

    Raises:
        DataError: the mask is empty or covers nearly the whole image.
    """
    from dipy.segment.mask import median_otsu
    from scipy.ndimage import distance_transform_edt

    data = image.data.astype(np.float32)
    if near is not None:
        data = np.where(distance_transform_edt(~near, sampling=image.zooms) <= _AROUND_MM, data, 0)
    _, mask = median_otsu(data, median_radius=2, numpass=2)
    return plausible_brain(_solid(np.asarray(mask, dtype=bool)), image)


def dwi_mask(dwi: Dwi, extract: Callable[[Volume], np.ndarray] | None = None) -> np.ndarray:
    """Brain of diffusion data, from the mean of the unweighted volumes, (x, y, z) bool; raises as `brain_mask`.

    Args:
        extract: user-supplied brain extraction.
    """
    mean = dwi.data[..., dwi.is_b0].mean(axis=3)
    return (extract or brain_mask)(Volume(mean, dwi.affine, dwi.subject, dwi.file))


def _solid(mask: np.ndarray) -> np.ndarray:
    """The largest piece, without holes."""
    from scipy.ndimage import binary_fill_holes, label

    pieces, n = label(mask)
    if n > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        mask = pieces == sizes.argmax()
    return np.asarray(binary_fill_holes(mask), dtype=bool)


def plausible_brain(mask: np.ndarray, image: Volume, *, hook: str | None = None) -> np.ndarray:
    """Return the mask if it is plausible for a brain.

    Args:
        hook: user-supplied program that made it, and its file.

    Raises:
        DataError: its volume is implausible, or it covers the background.
    """
    litres = mask.sum() * image.voxel_mm3 / 1e6
    if not 0.02 <= litres <= 2.5:
        raise DataError(
            "no plausible brain was found",
            expected="0.02 to 2.5 litres",
            got=f"{litres:.3f} litres",
            subject=image.subject,
            file=hook or image.file,
            remedy="Give a mask: desc-brain_mask.nii.gz in the folder of the image." if hook is None else _OF_HOOK,
        )
    refuse_background(mask, image, hook)
    return mask


def refuse_background(mask: np.ndarray, image: Volume, where: str | Path | None) -> None:
    """Refuse a mask most of which has no signal, as an inverted one or one of the whole image.

    Args:
        where: file of the mask, or program that made it.

    Raises:
        DataError: as above.
    """
    values = np.abs(image.data[np.isfinite(image.data)])
    dark = float((np.abs(image.data[mask]) <= _DARK * np.quantile(values, 0.995)).mean())
    if dark > _MOSTLY:
        raise DataError(
            "the brain mask covers the background",
            expected=f"signal in at least {1 - _MOSTLY:.0%} of it",
            got=f"{1 - dark:.0%}",
            subject=image.subject,
            file=where or image.file,
            remedy="Is it inverted, or of another image? It must be above 0.5 in the brain and 0 elsewhere.",
        )


def above_zero(image: Volume) -> Volume:
    """A brain, 0 outside, with standardised intensities shifted above 0, since registrations take 0 and below for air.

    Images of a scanner, of which at most a few values are negative by interpolation, are returned unchanged.
    """
    inside = image.data != 0
    values = image.data[inside]
    if not values.size or (values < 0).mean() <= _STANDARDISED:
        return image
    low, high = np.quantile(values, [_LOWEST, 1 - _LOWEST])
    shifted = np.maximum(image.data - low, 0) + 0.01 * (high - low)
    return Volume(np.where(inside, shifted, 0).astype(image.data.dtype), image.affine, image.subject, image.file)
