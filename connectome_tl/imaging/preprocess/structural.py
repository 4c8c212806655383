"""Brain masks by median filter and Otsu's threshold (dipy), if none is given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import Volume

_AROUND_MM = 3.0  # search distance for the edge around a rough mask


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


def plausible_brain(mask: np.ndarray, image: Volume) -> np.ndarray:
    """Return the mask if its volume is plausible for a brain.

    Raises:
        DataError: its volume is implausible.
    """
    litres = mask.sum() * image.voxel_mm3 / 1e6
    if not 0.02 <= litres <= 2.5:
        raise DataError(
            "no plausible brain was found",
            expected="0.02 to 2.5 litres",
            got=f"{litres:.3f} litres",
            subject=image.subject,
            file=image.file,
            remedy="Give a mask: desc-brain_mask.nii.gz in the folder of the image.",
        )
    return mask
