"""Signal-to-noise and contrast-to-noise of each shell, and correlation of neighbouring volumes."""

from __future__ import annotations

import numpy as np

from connectome_tl.imaging.preprocess.prediction import components
from connectome_tl.imaging.read.dwi import Dwi


def noise_measures(dwi: Dwi, bad: np.ndarray) -> dict[str, float]:
    """Median signal-to-noise and contrast-to-noise ratios over the brain for each shell, by name.

    `b0_snr` is mean divided by standard deviation of the unweighted volumes. For a shell, `snr_b*` and `cnr_b*` are the
    mean and the standard deviation over volumes of the fitted signal, divided by the standard deviation of the
    residuals (as in eddy's quality control: Bastiani et al. 2019, doi:10.1016/j.neuroimage.2018.09.073).

    Args:
        bad: (n_volumes,) bool, volumes to exclude.
    """
    found: dict[str, float] = {}
    unweighted = np.flatnonzero(dwi.is_b0 & ~bad)
    if len(unweighted) >= 3:
        values = dwi.data[dwi.mask][:, unweighted]
        found["b0_snr"] = float(np.median(values.mean(axis=1) / np.maximum(values.std(axis=1, ddof=1), 1e-9)))
    for bval, volumes in dwi.shells():
        own = volumes[~bad[volumes]]
        if len(own) < 8:
            continue
        basis = components(np.zeros(len(own)) + bval, dwi.directions[own])
        values = dwi.data[dwi.mask][:, own].astype(float)
        fitted = values @ basis @ basis.T
        free = len(own) - basis.shape[1]
        noise = np.sqrt(((values - fitted) ** 2).sum(axis=1) / max(free, 1)).clip(1e-9)
        name = f"b{50 * round(bval / 50)}"
        found[f"snr_{name}"] = float(np.median(values.mean(axis=1) / noise))
        found[f"cnr_{name}"] = float(np.median(fitted.std(axis=1) / noise))
    return found


def neighbour_correlation(dwi: Dwi, bad: np.ndarray) -> np.ndarray:
    """Correlation over the brain of each weighted volume with its nearest in q-space, (n_volumes,); NaN for others.

    Yeh et al. 2019 (doi:10.1016/j.neuroimage.2019.116131).
    """
    found = np.full(dwi.n_volumes, np.nan)
    weighted = np.flatnonzero(~dwi.is_b0 & ~bad)
    if len(weighted) < 2:
        return found
    q = np.sqrt(dwi.bvals[weighted])[:, None] * dwi.directions[weighted]
    apart = np.minimum(np.linalg.norm(q[:, None] - q, axis=2), np.linalg.norm(q[:, None] + q, axis=2))
    np.fill_diagonal(apart, np.inf)
    values = dwi.data[dwi.mask][:, weighted].astype(np.float64)
    values -= values.mean(axis=0)
    values /= np.maximum(np.linalg.norm(values, axis=0), 1e-12)
    found[weighted] = (values * values[:, apart.argmin(axis=1)]).sum(axis=0)
    return found
