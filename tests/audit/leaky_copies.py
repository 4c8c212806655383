"""Cohorts in which infants occur twice under other ids, the second time with a transformed copy of the first scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from connectome_tl.atlas import counterparts
from connectome_tl.training.schemes import StudyCohorts
from tests.audit.leaky_data import Maker

Change = Callable[[np.ndarray, np.random.Generator, tuple[str, ...]], np.ndarray]


def thresholded(w: np.ndarray, _: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    del regions
    return np.where(w > np.quantile(_edges(w), 0.7), w, 0.0)


def binarised(w: np.ndarray, _: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    del regions
    return (w > np.quantile(_edges(w), 0.6)).astype(float)


def mirrored(w: np.ndarray, _: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    other = counterparts(regions)
    return w[other][:, other]


def mirrored_logarithms(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    return np.log1p(mirrored(noisy(w, rng, regions), rng, regions))


def in_another_order(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    order = rng.permutation(len(regions))
    return 1.2 * w[order][:, order]


def without_half_of_the_edges(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    del regions
    kept = np.triu(rng.random(w.shape) < 0.5, 1)
    return np.where(kept | kept.T, w, 0.0)


def without_half_of_the_regions(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    kept = rng.permutation(len(regions)) < len(regions) / 2
    return np.where(kept[:, None] & kept, w, 0.0)


def inverted(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    w = noisy(w, rng, regions)
    return np.divide(1.0, w, out=np.zeros_like(w), where=w > 0)


def ranked(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    return np.where(w > 0, stats.rankdata(noisy(w, rng, regions)).reshape(w.shape), 0.0)


def standardised_with_noise(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    """Shifted, since weights of the measure are never negative."""
    w = noisy(w, rng, regions)
    return (w - _edges(w).min()) / _edges(w).std() * (1 - np.eye(len(w)))


def noisy(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
    del regions
    noise = np.triu(rng.normal(0, 0.1, w.shape), 1)
    return w * np.exp(noise + noise.T)


def _both(one: Change, two: Change) -> Change:
    """The first change after the second."""

    def change(w: np.ndarray, rng: np.random.Generator, regions: tuple[str, ...]) -> np.ndarray:
        return one(two(w, rng, regions), rng, regions)

    change.__name__ = f"{one.__name__}_and_{two.__name__}"
    return change


def _edges(w: np.ndarray) -> np.ndarray:
    return w[np.triu_indices(len(w), 1)]


def _copies(change: Change) -> Maker:
    def maker(cohorts: StudyCohorts, rng: np.random.Generator) -> StudyCohorts:
        """Five infants occur twice."""
        target = cohorts.target
        n, rows = target.n_subjects, np.arange(0, 25, 5)
        doubled = target.drawn(np.r_[np.arange(n), rows], [*target.ids, *(f"new{i:02d}" for i in rows)])
        doubled.family[n:] = ""
        for k, row in enumerate(rows):
            doubled.weights[n + k, 0] = change(target.weights[row, 0].astype(float), rng, target.regions)
        return cohorts.with_role("target", doubled)

    maker.__name__ = f"copies_{change.__name__}"
    return maker


LEAKY_COPIES: tuple[Maker, ...] = tuple(
    map(
        _copies,
        (
            thresholded,
            binarised,
            mirrored,
            mirrored_logarithms,
            in_another_order,
            without_half_of_the_edges,
            without_half_of_the_regions,
            inverted,
            ranked,
            standardised_with_noise,
            _both(binarised, in_another_order),
            _both(thresholded, in_another_order),
            _both(inverted, in_another_order),
            _both(binarised, mirrored),
            _both(thresholded, mirrored),
            _both(inverted, mirrored),
            _both(without_half_of_the_edges, mirrored),
            _both(inverted, thresholded),
        ),
    )
)
