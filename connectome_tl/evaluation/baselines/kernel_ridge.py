"""Kernel ridge on edges, with a correlation kernel or a radial kernel."""

from __future__ import annotations

from functools import partial

import numpy as np

from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, Scored
from connectome_tl.evaluation.baselines.engines.gram import Kernel, best_kernel, unit_scale
from connectome_tl.evaluation.baselines.engines.learners import calibrated
from connectome_tl.evaluation.baselines.engines.linear import fit_edge_scaler
from connectome_tl.evaluation.baselines.engines.refits import kernel_refits
from connectome_tl.settings.baselines import KernelRidgeSettings
from connectome_tl.training.closed_form.blocks import radial


def correlation_kernel(train: np.ndarray, test: np.ndarray) -> Kernel:
    """Pearson correlation between rows; an absent edge (NaN) is replaced by the mean of the training rows."""
    mean = np.nan_to_num(np.nanmean(np.where(np.isnan(train).all(axis=0), 0.0, train), axis=0))
    rows = []
    for values in (train, test):
        filled = np.where(np.isnan(values), mean, values)
        filled = filled - filled.mean(axis=1, keepdims=True)
        length = np.linalg.norm(filled, axis=1, keepdims=True)
        rows.append(filled / np.where(length > 0, length, 1.0))
    return rows[0] @ rows[0].T, rows[1] @ rows[0].T


def radial_kernel(train: np.ndarray, test: np.ndarray) -> Kernel:
    """exp(-d^2 / m) of standardised edges, where m is the median squared distance between training rows."""
    scaler = fit_edge_scaler(train)
    rows, others = scaler.transform(train), scaler.transform(test)
    norms = np.einsum("ij,ij->i", rows, rows)
    distances = np.maximum(norms[:, None] + norms - 2 * rows @ rows.T, 0.0)
    middle = float(np.median(distances[~np.eye(len(rows), dtype=bool)])) or 1.0
    return np.exp(-distances / middle), radial(others, rows, 1.0 / middle)


KERNELS = {"correlation": correlation_kernel, "rbf": radial_kernel}


def kernels_of(settings: KernelRidgeSettings, train: np.ndarray, test: np.ndarray) -> list[Kernel]:
    """The kernels of the settings, each scaled to a mean eigenvalue of 1."""
    return [unit_scale(*KERNELS[name](train, test)) for name in settings.kernels]


def solve(settings: KernelRidgeSettings, design: Design, y: np.ndarray) -> Scored:
    """Scores of the best kernel."""
    return best_kernel(kernels_of(settings, design.train, design.test), y, design.families)


def kernel_ridge(data: BaselineData) -> list[Baseline]:
    """Kernel ridge regressions (doi:10.1016/j.neuroimage.2019.116276); none for a cohort without connectomes."""
    settings = data.study.baseline_settings.kernel_ridge
    learner = calibrated(partial(solve, settings), refits=partial(kernel_refits, partial(kernels_of, settings)))
    return [Baseline(data.edges, data.tasks, learner)] if data.target.regions else []
