"""Morphometric networks: similarity of regions in shape, tissue and intensity (structural MRI only).

Similarity: morphometric similarity network (Seidlitz et al. 2018, doi:10.1016/j.neuron.2017.11.039).
Divergence: MIND (Sebenius et al. 2023, doi:10.1038/s41593-023-01376-7). Both use a single subject, so no information
can leak between folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume

_MANY_EQUAL = 0.25  # share of voxels whose value occurs repeatedly
_OFF_GRID = 0.05  # of a step

FEATURES = ("volume_mm3", "mean", "sd", "p10", "p50", "p90")


def regional_features(image: Volume, labels: Volume, numbers: Sequence[int]) -> np.ndarray:
    """Volume and intensities of each region, (n_regions, 6) in the order of `FEATURES`; NaN rows where it is absent.

    Intensities are in the image's own units.

    Raises:
        DataError: image and labels have different grids.
    """
    if image.shape != labels.shape:
        raise DataError(
            "image and labels differ in size",
            expected=str(labels.shape),
            got=str(image.shape),
            subject=labels.subject,
            file=image.file,
        )
    voxel = labels.voxel_mm3
    out = np.full((len(numbers), len(FEATURES)), np.nan)
    for row, values in enumerate(values_by_region(image, labels, numbers)):
        if len(values):
            out[row] = (len(values) * voxel, values.mean(), values.std(), *np.quantile(values, (0.1, 0.5, 0.9)))
    return out


def values_by_region(image: Volume, labels: Volume, numbers: Sequence[int]) -> list[np.ndarray]:
    """Finite values of the image in each region, one array per number; empty where it is absent."""
    order = np.argsort(labels.data, axis=None, kind="stable")
    sorted_labels, values = labels.data.ravel()[order], image.data.ravel()[order].astype(float)
    starts, stops = np.searchsorted(sorted_labels, numbers), np.searchsorted(sorted_labels, numbers, side="right")
    return [part[np.isfinite(part)] for part in (values[a:b] for a, b in zip(starts, stops, strict=True))]


def similarity_network(
    features: np.ndarray, regions: Sequence[str], *, subject: str | None = None, file: str | None = None
) -> Connectome:
    """Correlation between regions over features that are standardised across the subject's regions.

    Args:
        features: (n_regions, n_features), any units; a region with a NaN is masked.

    Returns:
        A connectome of Pearson correlations, diagonal 0; the measure is `morphometric_similarity`.

    Raises:
        DataError: fewer than three features, or fewer than three regions without NaN.
    """
    present = np.isfinite(features).all(axis=1)
    if features.shape[1] < 3 or present.sum() < 3:
        raise DataError(
            "too little for a similarity network",
            expected="at least 3 features and 3 whole regions",
            got=f"{features.shape[1]} features, {int(present.sum())} whole regions",
            subject=subject,
            file=file,
        )
    known = features[present]
    spread = known.std(axis=0)
    if (spread == 0).any():
        raise DataError(
            "a feature is the same in all regions",
            got=f"column {int(np.argmin(spread)) + 1}",
            subject=subject,
            file=file,
        )
    z = (known - known.mean(axis=0)) / spread
    z = z - z.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    unit = np.divide(z, norms, out=np.zeros_like(z), where=norms > 0)
    return _connectome(unit @ unit.T, present, regions, "morphometric_similarity", subject, file)


def divergence_network(
    values: Sequence[np.ndarray],
    regions: Sequence[str],
    *,
    subject: str | None = None,
    file: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Connectome:
    """1 / (1 + symmetrised Kullback-Leibler divergence) between the regions' distributions.

    The divergence is estimated from nearest neighbours (Perez-Cruz 2008, doi:10.1109/ISIT.2008.4595271). The estimator
    assumes continuous densities, but scanners and converters store rounded values, so that many voxels have a nearest
    neighbour at distance 0. Rounded values are therefore first dithered uniformly over the rounding interval, with a
    fixed seed.

    Args:
        values: one (n_voxels,) or (n_voxels, n_features) array per region; fewer than five voxels mask it, and
            so does a single value, which has no density.
        progress: called with the number of finished regions and the number of all regions.

    Returns:
        A connectome of similarities from 0 to 1, diagonal 0; the measure is `morphometric_divergence`.

    Raises:
        DataError: fewer than two regions have enough voxels, or a feature does not vary.
    """
    from scipy.spatial import cKDTree

    clouds = [np.atleast_2d(np.asarray(v, dtype=float).T).T for v in values]
    present = np.array([len(cloud) >= 5 and bool((cloud != cloud[0]).any()) for cloud in clouds])
    if present.sum() < 2:
        raise DataError("fewer than two regions have voxels of different values", subject=subject, file=file)
    kept = [cloud for cloud, there in zip(clouds, present, strict=True) if there]
    spread = np.concatenate(kept).std(axis=0)
    if not np.isfinite(spread).all() or (spread == 0).any():
        raise DataError("a feature does not vary, or is not a number", subject=subject, file=file)
    kept = _unrounded(kept, [name for name, there in zip(regions, present, strict=True) if there])
    # Values that are still equal would have a nearest neighbour at distance 0: one of each is kept.
    kept = [np.unique(cloud / spread, axis=0) for cloud in kept]
    trees = [cKDTree(cloud) for cloud in kept]
    own = [tree.query(cloud, k=2)[0][:, 1] for tree, cloud in zip(trees, kept, strict=True)]
    n = len(kept)
    divergence = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                divergence[i, j] = _divergence(kept[i], own[i], trees[j])
        if progress is not None:
            progress(i + 1, n)
    symmetric = np.maximum(divergence, 0) + np.maximum(divergence.T, 0)
    return _connectome(1 / (1 + symmetric), present, regions, "morphometric_divergence", subject, file)


def _unrounded(clouds: list[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
    """Dither the values of rounded features within their rounding intervals; other features are unchanged."""
    cells = [_cells(column) for column in np.concatenate(clouds).T]
    # The seed depends on the region's name, so that draws depend neither on its row nor on other regions.
    draws = [
        np.random.default_rng(crc32(name.encode("utf-8", "surrogatepass"))).uniform(-0.5, 0.5, c.shape)
        for name, c in zip(names, clouds, strict=True)
    ]
    return [_moved(cloud, draw, cells) for cloud, draw in zip(clouds, draws, strict=True)]


def _moved(cloud: np.ndarray, draw: np.ndarray, cells: Sequence[tuple[np.ndarray, ...]]) -> np.ndarray:
    out = cloud.copy()
    for column, (distinct, below, above) in enumerate(cells):
        at = np.searchsorted(distinct, cloud[:, column])
        moved = draw[:, column]
        out[:, column] += moved * np.where(moved < 0, below[at], above[at])
    return out


def _cells(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct values, and the distances to the next lower and higher values where they are rounded; else 0.

    Values are rounded if all are on one grid and some are equal. If many are equal, only these show how values were
    rounded: integers may have been scaled and rounded again (steps of 11 and 12, for example), mapped through a table,
    or interpolated in a part of the image. The two most common values may be the bounds of a range and do not count.
    """
    distinct, counts = np.unique(values, return_counts=True)
    below, above = np.zeros(len(distinct)), np.zeros(len(distinct))
    if len(distinct) in (1, len(values)):
        return distinct, below, above
    rest = np.sort(counts)[:-2]
    often = counts > 1
    if rest[rest > 1].sum() <= _MANY_EQUAL * rest.sum():
        often[:] = True
        if not _on_one_grid(distinct):
            return distinct, below, above
    known, n_voxels = distinct[often], counts[often]
    gaps = np.diff(known)
    if _on_one_grid(known):
        near = known[np.searchsorted(known, distinct).clip(max=len(known) - 1)]
        often = _whole((distinct - near) / gaps.min())
        gaps = np.full(np.count_nonzero(often) - 1, gaps.min())
    else:
        # Absent values leave wide gaps, mostly in the tails: a cell is at most as wide as the gap of most voxels.
        gaps = np.minimum(gaps, np.quantile(np.repeat(gaps, np.minimum(n_voxels[1:], n_voxels[:-1])), 0.9))
    below[often], above[often] = np.append(gaps[0], gaps), np.append(gaps, gaps[-1])
    return distinct, below, above


def _on_one_grid(distinct: np.ndarray) -> bool:
    gaps = np.diff(distinct)
    return bool(_whole(gaps / gaps.min()).all())


def _whole(steps: np.ndarray) -> np.ndarray:
    return np.abs(steps - np.rint(steps)) < _OFF_GRID


def _divergence(cloud: np.ndarray, own: np.ndarray, other: object) -> float:
    """Estimate KL(cloud, other) in nats from nearest-neighbour distances within `cloud` and to `other`."""
    there = other.query(cloud)[0]  # type: ignore[attr-defined]
    both = (there > 0) & (own > 0)  # the density ratio is undefined at values that occur in both regions
    if not both.any():
        return 0.0
    dimensions = cloud.shape[1]
    return float(dimensions * np.log(there[both] / own[both]).mean() + np.log(other.n / (len(cloud) - 1)))  # type: ignore[attr-defined]


def _connectome(
    matrix: np.ndarray, present: np.ndarray, regions: Sequence[str], measure: str, subject: str | None, file: str | None
) -> Connectome:
    whole = np.zeros((len(present), len(present)))
    whole[np.ix_(present, present)] = (matrix + matrix.T) / 2
    np.fill_diagonal(whole, 0.0)
    return Connectome(whole[None], tuple(regions), (measure,), present, subject=subject, file=file)
