"""Remove site effects from positive edges by a gamma model with log link, which preserves zeros.

Gaussian ComBat can give negative weights and turn zeros into connections. Here, log E[w] = site + covariates for rows
with the edge (w > 0), which Shen et al. 2025 (doi:10.1002/hbm.70256) found best for structural connectomes. Weights
are divided by the site effect, shrunk towards its mean over edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError

_STEPS = 100
_TOLERANCE = 1e-10
_LARGEST_STEP = 5.0  # in log units; prevents overflow in the first steps of very skewed edges
_EPS = 1e-12


@dataclass(frozen=True, eq=False)
class GammaSites:
    """A fitted gamma model of site effects.

    Attributes:
        sites: (n_sites,) in the order of the effects.
        raw: (n_sites, n_edges) log site effects relative to their mean, before shrinkage.
        effect: (n_sites, n_edges) shrunk effects; 0 if the edge was always absent at the site in training.
        slopes: (n_covariates, n_edges).
        dispersion: (n_edges,) squared coefficient of variation about the fit.
    """

    sites: tuple[str, ...]
    raw: np.ndarray
    effect: np.ndarray
    slopes: np.ndarray
    dispersion: np.ndarray

    def adjusted(self, edges: np.ndarray, sites: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        """Edges (n_rows, n_edges) without the effect of their site; every site must be a training site."""
        del covariates  # in a log-linear model the factor of the site can be removed without the covariates
        position = {site: i for i, site in enumerate(self.sites)}
        row = np.array([position[str(site)] for site in sites], dtype=int)
        return edges * np.exp(-self.effect[row])


def fit_gamma(edges: np.ndarray, sites: np.ndarray, covariates: np.ndarray, present: np.ndarray) -> GammaSites:
    """Fit on training rows; see `fit_combat` for the arguments.

    Raises:
        DataError: a negative edge.
    """
    if (edges[present] < 0).any():
        raise DataError(
            "the gamma model needs weights of 0 and more",
            got=f"a least weight of {edges[present].min():g}",
            remedy="For correlations, use method: combat.",
        )
    names = tuple(sorted({str(site) for site in sites}))
    member = np.array([[str(site) == name for name in names] for site in sites], dtype=float)
    design = np.column_stack([member, covariates])
    n_sites = len(names)
    there = present & (edges > 0)
    coefficients, dispersion = log_link_gamma(design, edges, there)
    count = member.T @ there
    share = count / np.maximum(count.sum(axis=0), 1)
    raw = np.where(count > 0, coefficients[:n_sites] - (share * coefficients[:n_sites]).sum(axis=0), 0.0)
    effect = np.zeros_like(raw)
    for i in range(n_sites if n_sites > 1 else 0):
        used = np.flatnonzero(count[i] > 0)
        if used.size < 2:
            continue
        centre, t2 = raw[i, used].mean(), max(raw[i, used].var(ddof=1), _EPS)
        noise = dispersion[used] / count[i, used]
        effect[i, used] = (t2 * raw[i, used] + noise * centre) / (t2 + noise)
    return GammaSites(names, raw, effect, coefficients[n_sites:], dispersion)


def log_link_gamma(design: np.ndarray, edges: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gamma regression with log link of every edge on the same design, over the rows where it is present.

    Under this link the weights of iteratively reweighted least squares are all 1, so each edge's
    normal matrix is inverted once and a step is one matrix product.

    Returns:
        coefficients (n_columns, n_edges), dispersion (n_edges,) by Pearson's chi square.
    """
    n_columns = design.shape[1]
    used = there.astype(float)
    normal = np.einsum("np,ne,nq->epq", design, used, design, optimize=True)
    inverse = np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
    start = np.where(there, np.log(np.where(there, edges, 1.0)), 0.0)
    coefficients = np.einsum("epq,qe->pe", inverse, design.T @ start)
    for _ in range(_STEPS):
        eta = np.clip(design @ coefficients, -700, 700)
        working = np.where(there, np.clip(edges * np.exp(-eta) - 1.0, None, np.exp(_LARGEST_STEP)), 0.0)
        step = np.einsum("epq,qe->pe", inverse, design.T @ working)
        step = np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        coefficients = coefficients + step
        if np.abs(step).max(initial=0.0) < _TOLERANCE:
            break
    ratio = np.where(there, edges * np.exp(-np.clip(design @ coefficients, -700, 700)) - 1.0, 0.0)
    rank = np.linalg.matrix_rank(normal, hermitian=True, tol=1e-10) if n_columns else np.zeros(edges.shape[1])
    free = np.maximum(used.sum(axis=0) - rank, 1)
    return coefficients, (ratio**2).sum(axis=0) / free
