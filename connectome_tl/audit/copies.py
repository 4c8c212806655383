"""Views of connectomes in which a transformed copy of a scan resembles its original.

A copy may be thresholded or binarised, lack edges, be inverted (1/w), or have mirrored or permuted regions. In each
view, pairs are judged by their gap to the next neighbours, as in `likeness`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from connectome_tl.audit.likeness import (
    FALSE_PAIRS,
    Likeness,
    Pair,
    likeness,
    look_alikes,
    mean_of_known,
    rank_profiles,
    standardised,
    varying,
)
from connectome_tl.audit.reordered import in_order
from connectome_tl.connectome.connectome import from_upper, upper_indices

_SHARE = 0.2  # of the false pairs allowed, for all views of transformed copies together
_LEAST_DIMENSION = 4.0
_EQUAL = 0.001  # difference of sorted strengths of copies, relative to their standard deviation
_WHOLE = 0.9  # share of known edges from which on strengths are compared
_SPARSER = 0.8  # density, relative to the median, below which a row counts as thresholded
_MOST_DENSITIES = 6
_USUAL = 0.02  # share of edges in which a row that has the connections of most rows differs from them
_BITS = 60.0  # -log2 of the chance of equal patterns below which presence of edges is not compared
_RAREST = 0.2  # smallest standard deviation by which the presence of an edge is divided
_FEWEST_SHARED = 60  # edges that both rows have
_TIED = 0.05  # share of a row's edges from which on equal values say nothing


def alike_by_edges(
    edges: np.ndarray, names: Sequence[str], groups: Sequence[str], mirror: np.ndarray | None = None
) -> list[Pair]:
    """Pairs of subjects whose edges (n_subjects, n_measures, n_edges), perhaps transformed, are too similar.

    Tested with and without removal of group means (sites, cohorts), since a scan copied to another cohort is far from
    that cohort's mean.

    Args:
        mirror: (n_edges,) the counterpart of every edge in the other hemisphere.
    """
    ranks = rank_profiles(edges)
    removals = list(dict.fromkeys([tuple(groups), ("",) * len(names)]))
    plain = [_judged(likeness(standardised(varying(ranks, edges), labels))) for labels in removals]
    views = [view for labels in removals for view in _views(edges, ranks, labels, mirror)]
    found: dict[tuple[str, str], Pair] = {}
    for kind, share, least in ((plain, 1 / 2, 0.0), (views, _SHARE / len(views), _LEAST_DIMENSION)):
        for view in kind:
            for pair in look_alikes(*view, names, false_pairs=share * FALSE_PAIRS, least_dimension=least):
                found.setdefault((pair.first, pair.second), pair)
    return list(found.values())


def _views(
    edges: np.ndarray, ranks: np.ndarray, groups: Sequence[str], mirror: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Similarity of all pairs of rows in each view, and which pairs differ little."""
    ranks = ranks.reshape(edges.shape)
    whole = _without_empty_regions(ranks)
    densities = _densities(whole)
    turns = [None] if mirror is None or (mirror == np.arange(mirror.size)).all() else [None, mirror]
    for turn in turns:
        yield _judged(_of_shared_edges(edges, groups, turn))
        for density in densities:
            yield _judged(_of_presence(whole, density, groups, turn))
    if turns[-1] is not None:
        yield _judged(_of_mirrored(ranks, turns[-1], groups))
    yield _of_any_order(ranks, groups)
    ordered = in_order(ranks)
    if ordered is not None:
        yield _judged(likeness(standardised(ordered.reshape(len(edges), -1), groups)))
        yield _judged(_of_shared_edges(ordered.reshape(edges.shape), groups))
        for density in densities:
            yield _judged(_of_presence(_without_empty_regions(ordered), density, groups))


def _turned(rows: np.ndarray, n_edges: int, mirror: np.ndarray) -> np.ndarray:
    """Rows (n_subjects, n_measures * n_edges) with left and right exchanged."""
    return rows.reshape(len(rows), -1, n_edges)[:, :, mirror].reshape(len(rows), -1)


def _both_ways(across: Likeness) -> Likeness:
    """Likeness of rows to turned ones, judged by the less similar direction."""
    similarity = np.where(
        np.abs(across.similarity) < np.abs(across.similarity.T), across.similarity, across.similarity.T
    )
    return Likeness(similarity, np.maximum(across.apart, across.apart.T))


def _of_shared_edges(edges: np.ndarray, groups: Sequence[str], mirror: np.ndarray | None = None) -> Likeness:
    """Absolute correlation of the ranks of the edges that both rows have, given the mean profile.

    Finds copies without some edges or regions, thresholded copies, and inverted ones; with `mirror`, those whose
    hemispheres were exchanged as well.
    """
    ranked = np.full(edges.shape, np.nan)
    for i, subject in enumerate(edges):
        for m, row in enumerate(subject):
            present = np.isfinite(row)
            values, counts = np.unique(row[present], return_counts=True)
            if counts.max(initial=0) > max(1.0, _TIED * row.size):
                present &= row != values[np.argmax(counts)]
            if present.any() and np.ptp(row[present]) > 0:
                ranked[i, m, present] = stats.rankdata(row[present]) / present.sum() - 0.5
    rows = ranked.reshape(len(edges), -1)
    axis = np.linalg.eigh(likeness(rows).similarity)[1][:, -1]
    rows *= np.where(axis < 0, -1.0, 1.0)[:, None]  # inverted rows against the others
    labels = np.asarray(groups, dtype=object).astype(str)
    others = rows.copy() if mirror is None else _turned(rows, edges.shape[2], mirror)
    for name in np.unique(labels):
        here = labels == name
        mean = mean_of_known(rows[here])
        rows[here], others[here] = _given_mean(rows[here], mean), _given_mean(others[here], mean)
    rows, others = standardised(rows, [""] * len(rows)), standardised(rows, [""] * len(rows), others)
    same, opposite = likeness(rows, others), likeness(rows, -others)
    if mirror is not None:
        same, opposite = _both_ways(same), _both_ways(opposite)
    alike = np.where(_share_enough(rows, others), np.abs(same.similarity), 0.0)
    return Likeness(alike, np.minimum(same.apart, opposite.apart))


def _share_enough(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, n) bool, whether a row and one of the others have enough edges in common."""
    return np.isfinite(rows).astype(float) @ np.isfinite(others).astype(float).T >= min(_FEWEST_SHARED, rows.shape[1])


def _given_mean(rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Residuals of each row given the mean profile (n_edges,) and its square, over the edges that the row has."""
    known = np.isfinite(rows)
    design = np.column_stack([np.ones_like(mean), mean, mean**2])
    found = np.full(rows.shape, np.nan)
    for i, row in enumerate(rows):
        here = known[i]
        found[i, here] = row[here] - design[here] @ np.linalg.lstsq(design[here], row[here], rcond=None)[0]
    return found


def _without_empty_regions(ranks: np.ndarray) -> np.ndarray:
    """(n_subjects, n_measures * n_edges) ranks, NaN where a region has no connection at all."""
    square = from_upper(np.nan_to_num(ranks))
    there = square.max(axis=(1, 3)) > 0
    first, second = upper_indices(there.shape[1])
    return np.where((there[:, first] & there[:, second])[:, None], ranks, np.nan).reshape(len(ranks), -1)


def _densities(ranks: np.ndarray) -> list[float]:
    """The median density, if connections are absent, and those of rows that are much sparser."""
    own = _density(ranks)
    usual = max(float(np.median(own)), 1e-3)
    steps = np.floor(np.log(np.maximum(own, 1e-3) / usual) / np.log(_SPARSER))
    levels, counts = np.unique(steps[own < _SPARSER * usual], return_counts=True)
    kept = levels[np.argsort(-counts, kind="stable")][:_MOST_DENSITIES]
    found = [float(own[steps == level].mean()) for level in kept]
    return [usual, *found] if usual < 1 else found


def _density(ranks: np.ndarray) -> np.ndarray:
    """(n_subjects,) share of present connections."""
    return np.asarray((ranks > 0).sum(axis=1) / np.maximum(np.isfinite(ranks).sum(axis=1), 1))


def _of_presence(
    ranks: np.ndarray, density: float, groups: Sequence[str], mirror: np.ndarray | None = None
) -> Likeness:
    """Correlation of which edges are among the strongest, at one density. Finds thresholded and binarised copies; with
    `mirror`, those whose hemispheres were exchanged as well."""
    rows = np.where(np.isfinite(ranks), 0.0, np.nan)
    usual = 2 * (ranks > 0).sum(axis=0) > np.isfinite(ranks).sum(axis=0)
    for row, strong in zip(ranks, rows, strict=True):
        known = np.isfinite(row)
        if known.any():
            strong[known] = row[known] > np.quantile(row[known], 1 - density)
            if strong[known].mean() < _SPARSER * density:  # many equal weights, or none
                strong[known] = row[known] > 0
            if (strong[known] != usual[known]).mean() < _USUAL:  # the connections that most subjects have
                strong[:] = np.nan
    share = np.nansum(rows, axis=0) / np.maximum(np.isfinite(rows).sum(axis=0), 1)
    rare = np.minimum(np.sqrt(share * (1 - share)) / _RAREST, 1.0)
    found = likeness(standardised(rows, groups) * rare)
    if mirror is not None:
        others = standardised(rows, groups, _turned(rows, mirror.size, mirror)) * rare
        found = _both_ways(likeness(standardised(rows, groups) * rare, others))
    chance = -np.log2(share**2 + (1 - share) ** 2).sum()  # of equal patterns, if edges were independent
    return found if chance > _BITS else Likeness(np.zeros_like(found.similarity), found.apart)


def _of_mirrored(ranks: np.ndarray, mirror: np.ndarray, groups: Sequence[str]) -> Likeness:
    """Likeness of each row to the others with left and right exchanged."""
    rows = ranks.reshape(len(ranks), -1)
    turned = _turned(rows, mirror.size, mirror)
    found = _both_ways(likeness(standardised(rows, groups), standardised(rows, groups, turned)))
    return Likeness(np.where(_share_enough(rows, turned), found.similarity, 0.0), found.apart)


def _of_any_order(ranks: np.ndarray, groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Similarity of sorted strengths and eigenvalues, which no permutation of the regions changes.

    Rows that a threshold or the like sets apart from the others resemble each other in these few values. Pairs are
    therefore also compared on the scale of their own values, on which copies are equal up to noise.
    """
    known = np.isfinite(ranks)
    square = from_upper(np.where(known, ranks, 0.0))
    strengths = np.sort(square.sum(axis=3), axis=2)
    values = np.concatenate([strengths, np.linalg.eigvalsh(square)], axis=2).reshape(len(square), -1)
    own = likeness(values / np.maximum(values.std(axis=1), 1e-300)[:, None])
    values[known.mean(axis=(1, 2)) < _WHOLE] = np.nan
    found = likeness(standardised(values, groups))
    usual = float(np.median(found.apart[np.isfinite(found.apart)])) if np.isfinite(found.apart).any() else 1.0
    similarity = np.where(np.isfinite(found.apart), 1 - found.apart / max(usual, 1e-300), 0.0)
    return similarity, found.close & (own.apart < _EQUAL**2)


def _judged(found: Likeness) -> tuple[np.ndarray, np.ndarray]:
    return found.similarity, found.close
