"""The forward model of a prediction from few rows of many columns: a regularised covariance times linear weights.

The pattern of a prediction `X w` is `cov(X) w`, not `w` (Haufe et al. 2014, doi:10.1016/j.neuroimage.2013.10.067). With
more columns than rows, the sample covariance is noisy. It is therefore regularised: a few principal components, plus
the residual correlations that exceed chance (Fan, Liao & Mincheva 2013, doi:10.1111/rssb.12016). Components are those
with eigenvalues beyond the noise edge, with shrunken eigenvalues (Donoho, Gavish & Johnstone 2018,
doi:10.1214/17-AOS1601).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

LARGEST = 20_000  # with more columns residual correlations are ignored, since time is quadratic in their number
_FLOOR = 0.05  # smallest residual fraction of a column's variance
_BLOCK = 512  # columns whose correlations are in memory at once
_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class ForwardModel:
    """Columns of some rows, ready for any number of linear predictions.

    Attributes:
        values: (n_rows, n_columns) standardised; a constant column is 0.
        spread: (n_columns,) standard deviations.
    """

    values: np.ndarray
    spread: np.ndarray

    @staticmethod
    def of(columns: np.ndarray) -> ForwardModel:
        """Standardise columns (n_rows, n_columns)."""
        centred = columns - columns.mean(axis=0)
        spread = np.sqrt((centred**2).sum(axis=0) / max(len(columns) - 1, 1))
        return ForwardModel(centred / np.where(spread > 0, spread, 1.0), spread)

    def patterns(self, weights: np.ndarray) -> np.ndarray:
        """(n_columns, n_outcomes) covariance of every column with linear predictions of these weights."""
        return self.spread[:, None] * self._covariance_times(self.spread[:, None] * weights)

    @cached_property
    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_columns, n_axes) right singular vectors and (n_axes,) squared singular values, the largest first."""
        values = self.values
        wide = values.shape[0] <= values.shape[1]
        squares, vectors = np.linalg.eigh(values @ values.T if wide else values.T @ values)
        used = squares > 1e-9 * max(float(squares.max(initial=0.0)), 1e-300)
        squares, vectors = squares[used][::-1], vectors[:, used][:, ::-1]
        return (values.T @ vectors / np.sqrt(squares) if wide else vectors), squares

    @cached_property
    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        """(n_columns, n) directions beyond noise, and (n,) the variance along each above that of noise."""
        vectors, squares = self._axes
        n = len(self.values)
        n_used, excess = components(squares / max(n - 1, 1), n, int((self.spread > 0).sum()))
        return vectors[:, :n_used], excess

    def _covariance_times(self, weights: np.ndarray) -> np.ndarray:
        n, p = self.values.shape
        shared, excess = self._components
        own = np.maximum(1.0 - (shared**2) @ excess, _FLOOR)
        found = shared @ (excess[:, None] * (shared.T @ weights)) + own[:, None] * weights
        if p > LARGEST:
            return found
        least = np.sqrt(2.0 * np.log(max(p, 2)) / n)
        root = np.sqrt(own)
        for start in range(0, p, _BLOCK):
            at = slice(start, start + _BLOCK)
            rest = self.values[:, at].T @ self.values / max(n - 1, 1) - (shared[at] * excess) @ shared.T
            rest[np.abs(rest) < least * root[at, None] * root] = 0.0
            rest[np.arange(len(rest)), np.arange(start, start + len(rest))] = 0.0  # its own is included already
            found[at] += rest @ weights
        return found


def components(variances: np.ndarray, n_rows: int, n_columns: int) -> tuple[int, np.ndarray]:
    """Number of sample eigenvalues beyond the noise edge, and the excess of each true eigenvalue over the noise.

    Args:
        variances: sample eigenvalues of standardised columns, the largest first.
    """
    if not len(variances) or n_columns < 2 or n_rows < 3:
        return 0, np.zeros(0)
    ratio, margin = n_columns / (n_rows - 1), 1.0 + 2.0 * n_rows ** (-2.0 / 3.0)
    found, noise = 0, 1.0
    for _ in range(_ROUNDS):
        beyond = int((variances > noise * (1.0 + np.sqrt(ratio)) ** 2 * margin).sum())
        if beyond == found:
            break
        found = min(beyond, n_columns - 1)
        noise = max((n_columns - float(variances[:found].sum())) / (n_columns - found), 1e-3)
    seen = variances[:found] / noise
    middle = seen + 1.0 - ratio
    true = (middle + np.sqrt(np.maximum(middle**2 - 4.0 * seen, 0.0))) / 2.0
    above = np.maximum(true - 1.0, 1e-9)
    along = np.clip((1.0 - ratio / above**2) / (1.0 + ratio / above), 0.0, 1.0)  # squared cosine to the true direction
    return found, noise * above * along
