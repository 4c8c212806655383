"""ComBat with separate fit and transform (Johnson et al. 2007, doi:10.1093/biostatistics/kxj037;
Fortin et al. 2018, doi:10.1016/j.neuroimage.2017.11.024).

Edge e of a row of site s is  mean_e + covariates b_e + pooled_e (gamma_se + sqrt(delta_se) noise); the
adjusted edge is the same without gamma and delta. Gamma and delta are shrunk by empirical Bayes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

_TINY = 1e-8  # variances below this fraction of the edge's scale are treated as 0
_EPS = 1e-8
_MAX_STEPS = 100


@dataclass(frozen=True, eq=False)
class ComBat:
    """A fitted ComBat model.

    Attributes:
        sites: (n_sites,) in the order of gamma and delta.
        mean, pooled: (n_edges,) grand mean and residual standard deviation.
        slopes: (n_covariates, n_edges) covariate effects, which are preserved.
        gamma, delta: (n_sites, n_edges) shrunk shift and variance factor, in units of `pooled`.
        adjustable: (n_edges,) False for an edge that is constant or rarely present; it is not adjusted.
        rank_deficient: whether sites and covariates were collinear in training.
    """

    sites: tuple[str, ...]
    mean: np.ndarray
    pooled: np.ndarray
    slopes: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    adjustable: np.ndarray
    rank_deficient: bool

    def adjusted(self, edges: np.ndarray, sites: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        """Edges (n_rows, n_edges) without the effect of their site; every site must be a training site."""
        position = {site: i for i, site in enumerate(self.sites)}
        row = np.array([position[str(site)] for site in sites], dtype=int)
        expected = self.mean + covariates @ self.slopes
        standard = (edges - expected) / self.pooled
        out = (standard - self.gamma[row]) / np.sqrt(self.delta[row]) * self.pooled + expected
        return np.where(self.adjustable, out, edges)


def fit_combat(
    edges: np.ndarray,
    sites: np.ndarray,
    covariates: np.ndarray,
    present: np.ndarray,
    *,
    prior: Literal["edges", "sites"] = "edges",
    tolerance: float = 1e-4,
) -> ComBat:
    """Fit on training rows.

    Args:
        edges: (n_rows, n_edges). sites: (n_rows,). covariates: (n_rows, n_covariates), possibly without columns.
        present: (n_rows, n_edges) bool, False if the edge is absent (a missing region).
        prior: `edges` for the published prior, the distribution of a site's gamma and delta over edges; `sites` for
            the distribution over sites of each edge, as in the package combatlearn.
        tolerance: largest relative change at which the empirical Bayes iterations stop.
    """
    names = tuple(sorted({str(site) for site in sites}))
    member = np.array([[str(site) == name for name in names] for site in sites], dtype=float)
    design = np.column_stack([member, covariates])
    n_sites, n_edges = len(names), edges.shape[1]
    count = member.T @ present  # (n_sites, n_edges)
    coefficients = _least_squares(design, edges, present)
    share = count / np.maximum(count.sum(axis=0), 1)
    mean = (share * coefficients[:n_sites]).sum(axis=0)
    slopes = coefficients[n_sites:]
    residual = np.where(present, edges - design @ coefficients, 0.0)
    n_present = present.sum(axis=0)
    variance = (residual**2).sum(axis=0) / np.maximum(n_present, 1)
    size = np.abs(np.where(present, edges, 0.0)).max(axis=0, initial=0.0)
    adjustable = (n_present >= 3) & (np.sqrt(variance) > _TINY * np.maximum(size, _TINY))
    pooled = np.sqrt(np.where(adjustable, variance + _EPS, 1.0))
    standard = np.where(present & adjustable, (edges - mean - covariates @ slopes) / pooled, 0.0)
    gamma = (member.T @ standard) / np.maximum(count, 1)
    spread = np.where(present, standard - member @ gamma, 0.0) ** 2
    delta = np.where(count >= 2, (member.T @ spread) / np.maximum(count - 1, 1) + _EPS, 1.0)
    gamma, delta = _shrunk(gamma, delta, count, adjustable, prior, tolerance)
    if n_sites == 1:
        gamma, delta = np.zeros_like(gamma), np.ones_like(delta)
    rank = int(np.linalg.matrix_rank(design))
    return ComBat(
        names,
        np.where(adjustable, mean, 0.0),
        pooled,
        np.where(adjustable, slopes, 0.0).reshape(covariates.shape[1], n_edges),
        np.where(adjustable, gamma, 0.0),
        np.where(adjustable, delta, 1.0),
        adjustable,
        rank < design.shape[1],
    )


def _least_squares(design: np.ndarray, edges: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Coefficients (n_columns, n_edges); edges with the same missing rows are solved together."""
    out = np.zeros((design.shape[1], edges.shape[1]))
    patterns, group = np.unique(present, axis=1, return_inverse=True)
    for g in range(patterns.shape[1]):
        rows, columns = patterns[:, g], np.flatnonzero(group.ravel() == g)
        if rows.any():
            out[:, columns] = np.linalg.lstsq(design[rows], edges[np.ix_(rows, columns)], rcond=None)[0]
    return out


def _shrunk(
    gamma: np.ndarray,
    delta: np.ndarray,
    count: np.ndarray,
    adjustable: np.ndarray,
    prior: Literal["edges", "sites"],
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Empirical Bayes with a normal prior for gamma and an inverse gamma prior for delta, solved alternately.

    A site with one row of an edge has delta 1, since its variance cannot be estimated.
    """
    gamma, delta = gamma.copy(), delta.copy()
    used = np.flatnonzero(adjustable)
    if used.size < 2:
        return gamma, delta
    g, d, n = gamma[:, used], delta[:, used], count[:, used]
    axis, keep = (1, True) if prior == "edges" else (0, True)
    if prior == "sites" and len(g) < 2:
        return gamma, delta
    centre = g.mean(axis=axis, keepdims=keep)
    t2 = np.maximum(g.var(axis=axis, ddof=1, keepdims=keep), _EPS)
    d_mean = d.mean(axis=axis, keepdims=keep)
    d_var = np.maximum(d.var(axis=axis, ddof=1, keepdims=keep), _EPS)
    a, b = d_mean**2 / d_var + 2, d_mean * (d_mean**2 / d_var + 1)
    for i in range(len(g)):
        at = i if prior == "edges" else 0
        g_now, d_now = g[i], d[i]
        n_i, single = n[i], n[i] < 2
        for step in range(_MAX_STEPS + 1):
            g_next = (t2[at] * n_i * g[i] + d_now * centre[at]) / np.maximum(t2[at] * n_i + d_now, _EPS)
            square = np.maximum(n_i - 1, 0) * d[i] + n_i * (g[i] - g_next) ** 2
            d_next = np.where(single, 1.0, (0.5 * square + b[at]) / (n_i / 2 + a[at] - 1))
            change = max(
                float((np.abs(g_next - g_now) / (np.abs(g_now) + _EPS)).max()),
                float((np.abs(d_next - d_now) / (np.abs(d_now) + _EPS)).max()),
            )
            g_now, d_now = g_next, d_next
            if step > 0 and change < tolerance:
                break
        gamma[i, used], delta[i, used] = g_now, d_now
    return gamma, delta
