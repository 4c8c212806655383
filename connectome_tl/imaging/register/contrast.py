"""Synthesise the subject's contrast in the template, learned under the current alignment.

Intensity transformation between the steps of a registration (Guimond et al. 2001, doi:10.1109/42.906425; the
correlation ratio of Roche et al. 1998, doi:10.1007/BFb0056301, is its case of one intensity): regression trees from
the template's intensity, and optionally its surroundings, to the subject's. Positions are not features, since trees
would fit the errors of the current alignment.
"""

from __future__ import annotations

import numpy as np

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.warps import Warp, carry_image, carry_labels

_FEWEST = 1000  # smallest number of voxels for a regression
_SCALES_MM = (1.0, 2.0, 4.0, 8.0)
_EDGES_MM = (1.0, 2.0)


def in_contrast_of(
    fixed: Volume, moving: Volume, warp: Warp, left_out: np.ndarray | None, *, surroundings: bool
) -> Volume:
    """The moving image with the contrast of the fixed image.

    Args:
        left_out: (x, y, z) bool of the fixed image; voxels excluded from the fit.
        surroundings: also use means and edges around a voxel, and its depth in the brain.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    brain = moving.data > 0
    features = _features(moving, brain, surroundings=surroundings)
    taught = fixed.data > 0
    if left_out is not None:
        taught = taught & ~left_out
    taught = taught & (carry_labels(warp, Volume(brain.astype(np.int32), moving.affine), fixed).data > 0)
    if taught.sum() < _FEWEST:
        return moving
    rows = np.stack([carry_image(warp, Volume(x, moving.affine), fixed).data[taught] for x in features], axis=1)
    trees = HistGradientBoostingRegressor(
        max_iter=60, learning_rate=0.15, max_leaf_nodes=16, min_samples_leaf=200, early_stopping=False, random_state=0
    ).fit(rows, fixed.data[taught])
    out = np.zeros(moving.shape)
    out[brain] = trees.predict(np.stack([x[brain] for x in features], axis=1))
    return Volume(out, moving.affine)


def _features(image: Volume, brain: np.ndarray, *, surroundings: bool) -> list[np.ndarray]:
    from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_gradient_magnitude

    features = [image.data]
    if surroundings:
        for mm in _SCALES_MM:
            share = np.maximum(gaussian_filter(brain.astype(float), mm / image.zooms), 1e-3)
            features.append(np.where(brain, gaussian_filter(image.data, mm / image.zooms) / share, 0.0))
        features += [gaussian_gradient_magnitude(image.data, mm / image.zooms) for mm in _EDGES_MM]
        features.append(distance_transform_edt(brain, sampling=image.zooms))
    return [np.asarray(feature, dtype=np.float32) for feature in features]
