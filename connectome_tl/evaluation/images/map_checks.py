"""Sanity checks of voxel maps: planted region, deletion and insertion, randomised network, seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from connectome_tl.errors import DataError
from connectome_tl.evaluation.explain.stability import rank_correlation
from connectome_tl.nn.devices import device_of_network, exact_on_gpu

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


def planted_auc(found: np.ndarray, region: np.ndarray, inside: np.ndarray) -> float:
    """Chance that a voxel of the planted region has a higher value than another of the brain, ties counted as half.

    Args:
        found, region, inside: (depth, height, width) map, planted region, brain.

    Raises:
        DataError: no voxel of the region, or no other voxel, is in the brain.
    """
    values, planted = found[inside].astype(float), region[inside].astype(bool)
    n_in, n_out = int(planted.sum()), int((~planted).sum())
    if n_in == 0 or n_out == 0:
        raise DataError("a planted region needs brain voxels inside and outside it", got=f"{n_in} and {n_out}")
    rank = stats.rankdata(values)[planted].sum()
    return float((rank - n_in * (n_in + 1) / 2) / (n_in * n_out))


def deletion_curve(
    predictor: nn.Module,
    volume: Tensor,
    found: np.ndarray,
    inside: np.ndarray,
    references: Tensor,
    shares: Sequence[float] = SHARES,
) -> np.ndarray:
    """Absolute change of the prediction, (n_shares,), when the highest-ranked shares of brain voxels are replaced.

    Voxels are replaced by those of other subjects, and changes are averaged over these. A constant instead, or blank
    voxels, would make images unlike all others: networks then react to the edge of the region, and even the true
    region may seem worse than a random one (Hooker et al. 2019, arXiv:1806.10758; Sturmfels et al. 2020,
    doi:10.23915/distill.00022).

    Args:
        volume: (n_channels, depth, height, width). A good map changes the prediction early and has a large area.
        references: (n, n_channels, depth, height, width) volumes of other subjects.
    """
    return _curve(predictor, volume, found, inside, references, shares, keep=False)


def insertion_curve(
    predictor: nn.Module,
    volume: Tensor,
    found: np.ndarray,
    inside: np.ndarray,
    references: Tensor,
    shares: Sequence[float] = SHARES,
) -> np.ndarray:
    """Absolute difference, (n_shares,), to the prediction of the whole volume when only the highest-ranked shares of
    brain voxels are kept, and the others are those of other subjects. A good map approaches it early and has a small
    area."""
    return _curve(predictor, volume, found, inside, references, shares, keep=True)


def area(curve: np.ndarray, shares: Sequence[float] = SHARES) -> float:
    """Area under a curve over shares, by trapezoids."""
    return float(np.trapezoid(curve, shares))


@exact_on_gpu()
def _curve(
    predictor: nn.Module,
    volume: Tensor,
    found: np.ndarray,
    inside: np.ndarray,
    references: Tensor,
    shares: Sequence[float],
    *,
    keep: bool,
) -> np.ndarray:
    device = device_of_network(predictor)
    volume, references = volume.to(device), references.to(device)
    order = np.flatnonzero(inside)[np.argsort(-found[inside], kind="stable")]
    changes = []
    with torch.no_grad():
        whole = predictor(volume[None]).flatten()[0]
        for share in shares:
            chosen = np.zeros(found.size, dtype=bool)
            chosen[order[: round(share * len(order))]] = True
            left = torch.from_numpy((chosen if keep else ~chosen).reshape(found.shape) | ~inside).to(device)
            outputs = predictor(torch.where(left, volume, references)).reshape(len(references), -1)[:, 0]
            changes.append(float((outputs - whole).abs().mean()))
    return np.array(changes)


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """A copy with new random weights; its map shows structure that is not learned (Adebayo et al. 2018,
    arXiv:1810.03292)."""
    other = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in other.modules():
            reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
    return other


def agreement(maps: Sequence[np.ndarray], inside: np.ndarray) -> float:
    """Mean rank correlation of all pairs of maps within the brain: stability over seeds, or similarity of two kinds."""
    found = [rank_correlation(a[inside], b[inside]) for a, b in combinations(maps, 2)]
    return float(np.mean(found))
