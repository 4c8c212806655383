"""Find the order of regions in which a matrix fits the others, for copies whose regions were permuted."""

from __future__ import annotations

import numpy as np
from scipy.optimize import quadratic_assignment

from connectome_tl.connectome.connectome import from_upper, upper_indices

_ODD = 0.3  # correlation with the mean matrix, relative to the median, below which a row may have another order
_COMMON = 0.6  # correlation of most rows with the mean matrix, without which there is no order to be seen
_BAR = 0.9  # quantile of the correlations of rows with their nearest other one
_MOST = 12  # rows
_STARTS = 3
_WORK = 1.5e8  # bound of n_candidates * n_regions ** 3
_FEWEST = 3  # candidates
_SPARSER = 0.8  # density, relative to the median, below which rows are compared by their strongest edges


def in_order(ranks: np.ndarray) -> np.ndarray | None:
    """Ranks (n_subjects, n_measures, n_edges) with rows that fit no other in their own order put into another one.

    A row is matched with single other rows. Only its original fits it better than the nearest of the others fits most
    rows (fast approximate quadratic assignment, Vogelstein et al. 2015, doi:10.1371/journal.pone.0121002).

    Returns:
        None if no row is put into another order.
    """
    square = from_upper(np.nan_to_num(ranks)).mean(axis=1)
    n, n_regions = square.shape[:2]
    first, second = upper_indices(n_regions)
    flat = square[:, first, second]
    fit = _correlations(flat, np.median(flat, axis=0))
    usual = float(np.median(fit))
    odd = np.argsort(fit)[:_MOST]
    odd = odd[fit[odd] < _ODD * usual]
    if usual < _COMMON or not odd.size:
        return None
    others = np.setdiff1d(np.arange(n), odd)
    density = (flat > 0).mean(axis=1)
    found, changed = from_upper(ranks), False
    for row in odd:
        seen = flat
        if density[row] < _SPARSER * np.median(density):  # thresholded or binarised
            cut = np.quantile(flat, 1 - density[row], axis=1)
            seen = (flat > np.maximum(cut, 0.0)[:, None]).astype(float)
            seen[row] = flat[row] > 0
        order = _order_of(seen[row], seen[others])
        if order is None and seen is flat:
            inverted = np.where(flat[row] > 0, 1 + flat[row].min() - flat[row], 0.0)
            order = _order_of(inverted, flat[others])
        if order is not None:
            found[row] = found[row][:, order][:, :, order]
            changed = True
    return found[:, :, first, second] if changed else None


def _order_of(row: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """(n_regions,) order in which a row (n_edges,) fits one of the others (n_others, n_edges) exceptionally well."""
    with np.errstate(invalid="ignore"):  # rows without any of the strongest edges are constant
        between = np.corrcoef(others)
    np.fill_diagonal(between, -1.0)
    best, order = float(np.quantile(np.nan_to_num(between).max(axis=1), _BAR)), None
    square = from_upper(np.vstack([others, row]))
    n_regions = square.shape[1]
    first, second = upper_indices(n_regions)
    spectra = np.linalg.eigvalsh(square)
    n_candidates = int(np.clip(_WORK / n_regions**3, _FEWEST, len(others)))
    near = np.argsort(np.abs(spectra[:-1] - spectra[-1]).sum(axis=1), kind="stable")[:n_candidates]
    centred = square - np.vstack([others, row]).mean(axis=1)[:, None, None]
    rng = np.random.default_rng(0)
    for other in near:
        for start in range(_STARTS):
            settings = {"maximize": True, "rng": rng, "P0": "randomized" if start else "barycenter", "tol": 0.01}
            tried = quadratic_assignment(centred[other], centred[-1], options=settings).col_ind
            turned = square[-1][tried][:, tried][first, second]
            reached = float(_correlations(turned[None], others[other])[0])
            if reached > best:
                best, order = reached, tried
        if order is not None:  # the candidates are sorted by their eigenvalues, which do not depend on the order
            return np.asarray(order)
    return None


def _correlations(rows: np.ndarray, with_row: np.ndarray) -> np.ndarray:
    """(n,) of each row with one; 0 for constant rows."""
    rows, one = rows - rows.mean(axis=1)[:, None], with_row - with_row.mean()
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    return np.asarray(rows @ one / np.where(norms > 0, norms, 1.0))
