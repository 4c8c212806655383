"""Shrink estimated head positions by their estimation noise.

Volumes of high b-value have little signal, so that their estimated poses are noisy. The noise is known from the fit.
The distribution of true motion is estimated from all volumes: walks for drift and lasting changes (`walk`), plus a
mixture of normal distributions of many widths (adaptive shrinkage, Stephens 2017, doi:10.1093/biostatistics/kxw041).
The result is the posterior mean: noise is shrunk, and jumps that noise does not explain are preserved.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import erf

from connectome_tl.imaging.preprocess.walk import WIDTHS, first_of_runs, walked

_STEPS = 200
FINE_WIDTHS = np.append(0.0, 0.02 * 2.0 ** (np.arange(38) / 4))  # mm, up to 12 mm
_AT_REST = 2.0  # prior weight of the smallest width, in volumes
# radius for the conversion of rotations to mm (Power et al. 2012, doi:10.1016/j.neuroimage.2011.10.018)
RADIUS_MM = 50.0


def as_mm(poses: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Poses as six numbers in mm, (n, 6): the centre's shift, and turns as arcs at `RADIUS_MM`."""
    shifts = poses[:, :3, :3] @ centre + poses[:, :3, 3] - centre
    return np.concatenate([shifts, RADIUS_MM * Rotation.from_matrix(poses[:, :3, :3]).as_rotvec()], axis=1)


def as_poses(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The inverse of `as_mm`, (n, 4, 4)."""
    poses = np.tile(np.eye(4), (len(values), 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(values[:, 3:] / RADIUS_MM).as_matrix()
    poses[:, :3, 3] = values[:, :3] + centre - poses[:, :3, :3] @ centre
    return poses


def shrunk(
    values: np.ndarray, noise: np.ndarray, runs: np.ndarray | None = None, widths: np.ndarray = WIDTHS
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and variances of noisy values.

    Args:
        values: (n, 6) mm, as `as_mm`. noise: (n, 6, 6) covariance of their errors.
        runs: (n,) number of each volume's run; None for one run.
        widths: standard deviations of motion in mm, the first 0; few make the variances of the results less accurate.

    Returns:
        Means and variances of what the true values may be, (n, 6) each.
    """
    centre = walked(values, np.einsum("vii->vi", noise), runs)
    off = values - centre
    n, k = len(values), len(widths)
    level = np.empty((n, k))
    means, variances = np.empty((n, k, 6)), np.empty((n, k, 6))
    for j, width in enumerate(widths):
        whole = noise + width**2 * np.eye(6)
        solved = np.linalg.solve(whole, off[..., None])[..., 0]
        level[:, j] = -0.5 * (np.einsum("vi,vi->v", off, solved) + np.linalg.slogdet(whole)[1])
        gain = width**2 * np.linalg.inv(whole)
        means[:, j] = width**2 * solved
        variances[:, j] = width**2 * (1 - np.einsum("vii->vi", gain))
    share = np.full(k, 1.0 / k)
    likely = np.exp(level - level.max(axis=1, keepdims=True))
    for _ in range(_STEPS):
        belongs = likely * share
        belongs /= belongs.sum(axis=1, keepdims=True)
        counted = belongs.sum(axis=0)
        counted[0] += _AT_REST
        share = counted / counted.sum()
    belongs = likely * share
    belongs /= belongs.sum(axis=1, keepdims=True)
    mean = np.einsum("vk,vki->vi", belongs, means)
    spread = np.einsum("vk,vki->vi", belongs, variances + (means - mean[:, None]) ** 2)
    return mean + centre, spread


def about_mean_pose(values: np.ndarray, centre: np.ndarray, runs: np.ndarray | None = None) -> np.ndarray:
    """Poses in the frame of the mean pose of their run, (n, 6) in mm.

    Rotations do not commute, so that changes of parameters depend on the common frame; that of few volumes is chance.

    Args:
        values: (n, 6) mm, as `as_mm`. runs: (n,) number of each volume's run; None for one run.
    """
    poses = as_poses(values, centre)
    runs = np.zeros(len(values)) if runs is None else runs
    for run in np.unique(runs):
        own = runs == run
        poses[own] = poses[own] @ np.linalg.inv(as_poses(values[own].mean(axis=0, keepdims=True), centre)[0])
    return as_mm(poses, centre)


def displacement(values: np.ndarray, variances: np.ndarray, runs: np.ndarray | None = None) -> np.ndarray:
    """Framewise displacement in mm, (n,): expected sum of absolute changes of the six parameters.

    NaN for the first volume of each run (Power et al. 2012, doi:10.1016/j.neuroimage.2011.10.018).
    """
    change, sd = np.diff(values, axis=0), np.sqrt(variances[1:] + variances[:-1])
    sure = sd < 1e-9
    scaled = change / np.where(sure, 1.0, sd)
    unsure = sd * np.sqrt(2 / np.pi) * np.exp(-(scaled**2) / 2) + change * erf(scaled / np.sqrt(2))
    found = np.concatenate([[np.nan], np.where(sure, np.abs(change), unsure).sum(axis=1)])
    return np.where(first_of_runs(len(values), runs), np.nan, found)
