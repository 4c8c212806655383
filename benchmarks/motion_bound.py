"""Cramér-Rao bound of framewise displacement in the phantom of `scan_quality.py`: what no unbiased estimator undercuts.

    python benchmarks/motion_bound.py [--seeds 300] [--sizes 0.3 0.65 2 4] [--quick]

For each size of motion, the smallest standard deviations of the poses of each shell (shifts, and turns as arcs at 50
mm) and of the mean framewise displacement, and the probability that it is within 0.1 mm of the planted one. *Signal
known*: each noiseless volume is known. *Signal estimated*: signals of a voxel have the prior of the Gaussian process of
the estimator, and all poses are estimated jointly; only the derivatives of the signals are known. Noise is Rician.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from scipy.special import ive
from scipy.stats import norm

from connectome_tl.imaging.preprocess.gaussian_process import covariance
from connectome_tl.imaging.preprocess.shrinkage import as_mm, as_poses
from connectome_tl.simulation.phantom import Anatomy, make_anatomy, make_head, random_poses

_NEAR_MM = 0.1
_STEP_MM = 0.05  # of the numerical derivatives
_EVERY = 3  # voxel is used for the joint bound
_BLOCK = 400  # voxels


def rician_information(ratio: np.ndarray) -> np.ndarray:
    """Fisher information of a magnitude about its amplitude; both, and `ratio`, in units of the noise."""
    amplitudes, magnitude = np.linspace(0, 12, 241), np.linspace(0, 25, 5001)[1:]
    found = []
    for amplitude in amplitudes:
        scaled = magnitude * amplitude
        density = magnitude * np.exp(-((magnitude - amplitude) ** 2) / 2) * ive(0, scaled)
        score = magnitude * ive(1, scaled) / ive(0, scaled) - amplitude
        found.append(np.trapezoid(density * score**2, magnitude))
    return np.interp(ratio, amplitudes, found)


def derivatives(anatomy: Anatomy, seed: int, size: float) -> tuple[np.ndarray, ...]:
    """b-values, poses in mm, their derivatives (6, n_voxels, n_volumes), precision of each value, prior covariance."""
    clear = replace(anatomy, settings=replace(anatomy.settings, snr=1e9, anatomical_voxel=10.0))
    poses = random_poses(sum(count for _, count in anatomy.settings.shells), size, seed=seed)
    head = make_head(clear, seed=seed, poses=poses)
    centre = (np.argwhere(head.mask) @ head.affine[:3, :3].T + head.affine[:3, 3]).mean(axis=0)
    values = as_mm(poses, centre)
    unweighted = head.dwi[head.mask][:, head.bvals == 0]
    sigma = make_head(clear, seed=seed).dwi[head.mask][:, head.bvals == 0].mean() / anatomy.settings.snr

    def moved(step: np.ndarray) -> np.ndarray:
        return make_head(clear, seed=seed, poses=as_poses(values + step, centre)).dwi.astype(float)

    slopes = np.stack([moved(step) - moved(-step) for step in _STEP_MM * np.eye(6)]) / (2 * _STEP_MM)
    used = np.abs(slopes).max(axis=(0, 4)) > 0
    precision = rician_information(head.dwi[used] / sigma) / sigma**2
    prior = covariance(head.bvals, head.directions) * float((unweighted.astype(float) ** 2).mean())
    return head.bvals, values, slopes[:, used], precision, prior


def joint_covariance(slopes: np.ndarray, precision: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Bound of all poses where signals are estimated, (n_volumes, 6, n_volumes, 6), without a common motion."""
    n = len(prior)
    slopes, precision = slopes[:, ::_EVERY], precision[::_EVERY]
    found = np.zeros((n, 6, n, 6))
    for start in range(0, len(precision), _BLOCK):
        root = np.sqrt(precision[start : start + _BLOCK])
        inverse = np.linalg.inv(np.eye(n) + root[:, :, None] * prior * root[:, None, :])
        inverse *= root[:, :, None] * root[:, None, :]  # of the covariance of signals and noise
        part = slopes[:, start : start + _BLOCK]
        for a in range(6):
            for b in range(6):
                found[:, a, :, b] += _EVERY * np.einsum("xv,xvw,xw->vw", part[a], inverse, part[b])
    inverse = np.linalg.pinv(found.reshape(6 * n, 6 * n), rcond=1e-10, hermitian=True)
    return np.asarray(inverse.reshape(n, 6, n, 6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[300])
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.3, 0.65, 2.0, 4.0], help="mm and degrees")
    parser.add_argument("--quick", action="store_true", help="one seed and size")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.sizes = given.seeds[:1], given.sizes[:1]
    anatomy, chances = make_anatomy(), dict[str, list[float]]()
    for seed in given.seeds:
        for size in given.sizes:
            bvals, values, slopes, precision, prior = derivatives(anatomy, seed, size)
            n = len(bvals)
            known = np.zeros((n, 6, n, 6))
            alone = np.linalg.inv(np.einsum("axv,bxv,xv->vab", slopes, slopes, precision, optimize=True))
            known[np.arange(n), :, np.arange(n)] = alone
            change = np.sign(np.diff(values, axis=0)) / (n - 1)  # derivative of the mean displacement
            weight = np.pad(change, ((1, 0), (0, 0))) - np.pad(change, ((0, 1), (0, 0)))
            for name, bound in (
                ("signal known", known),
                ("signal estimated", joint_covariance(slopes, precision, prior)),
            ):
                own = np.einsum("vava->va", bound)
                by_shell = ", ".join(
                    f"b={b:g} {np.sqrt(own[bvals == b, :3].mean()):.3f} {np.sqrt(own[bvals == b, 3:].mean()):.3f}"
                    for b in np.unique(bvals)
                )
                sd = float(np.sqrt(np.einsum("va,vawb,wb->", weight, bound, weight)))
                chance = float(norm.cdf(_NEAR_MM / sd) - norm.cdf(-_NEAR_MM / sd))
                chances.setdefault(name, []).append(chance)
                print(f"size {size:g}, seed {seed}, {name}: SD of shifts and turns in mm: {by_shell}")
                print(f"    SD of mean FD {sd:.3f} mm; within {_NEAR_MM} mm with probability {chance:.3f}")
    for name, found in chances.items():
        print(f"{name}: all {len(found)} runs within {_NEAR_MM} mm with probability {np.prod(found):.2f}")
    print(f"CPU time {time.process_time():.0f} s")


if __name__ == "__main__":
    main()
