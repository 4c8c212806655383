"""Tangent space of correlation or covariance matrices at the mean of the training rows.

A row is the matrix logarithm of W C W, where W is the inverse square root of the training mean (Varoquaux et al. 2010,
doi:10.1007/978-3-642-15705-9_25). The geometric mean is nilearn's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.base import BaseEstimator

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, InternalError
from connectome_tl.features.scaling import edge_mask
from connectome_tl.plurals import counted
from connectome_tl.settings.tangent import COVARIANCES, TangentSettings

_AT_ONCE = 128  # matrices per batch, to limit memory
_SINGULAR = 1e-10  # relative to the mean of the diagonal


class _Given(BaseEstimator):
    """Replacement for nilearn's covariance estimator when covariances are given."""

    def fit(self, covariance: np.ndarray) -> _Given:
        self.covariance_ = covariance
        return self


@dataclass(frozen=True, eq=False)
class TangentEdges:
    """A fitted tangent space, applicable to any cohort with the same regions.

    Attributes:
        regions: (n_regions,) bool, regions present in all training rows with a connectome; edges of others become 0.
        mean, whitening: (n_kept, n_kept) reference and its inverse square root.
        ids: the training rows.
        correlation: whether the matrices are correlations, whose diagonal is set to 1.
        shrinkage: s of (1 - s) C + s I, for correlations.
    """

    regions: np.ndarray
    mean: np.ndarray
    whitening: np.ndarray
    ids: tuple[str, ...]
    correlation: bool = False
    shrinkage: float = 0.0

    @staticmethod
    def fit(
        weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str], settings: TangentSettings = COVARIANCES
    ) -> TangentEdges:
        """Fit on matrices of training rows, (n_subjects, 1, n_regions, n_regions).

        Args:
            node_mask: (n_subjects, n_regions) bool, presence of regions.
            settings: `values` is "correlation" or "covariance".

        Raises:
            DataError: there are several measures, or matrices are not correlations or covariances.
        """
        if settings.values == "off":
            raise InternalError("a tangent space was fitted although it is off")
        if weights.shape[1] != 1:
            raise DataError(
                "a tangent space is of one measure, the covariance", got=counted(weights.shape[1], "measure")
            )
        there = np.asarray(node_mask.any(axis=1))  # ignore subjects without a connectome
        known = [subject for subject, one in zip(ids, there, strict=True) if one]
        regions = np.asarray(node_mask[there].all(axis=0))
        correlation = settings.values == "correlation"
        shrinkage = settings.shrinkage if correlation else 0.0
        matrices = _matrices(weights[there], regions, known, correlation, shrinkage)
        _refuse_singular(np.linalg.eigvalsh(matrices), matrices, known, correlation)
        if settings.mean == "geometric":
            mean, whitening = _geometric(matrices)
        else:
            mean = matrices.mean(axis=0)
            values, vectors = np.linalg.eigh(mean)
            whitening = (vectors * values**-0.5) @ vectors.T
        return TangentEdges(regions, mean, whitening, tuple(ids), correlation, shrinkage)

    def transform(self, cohort: Cohort) -> Cohort:
        """The cohort with edges in tangent space."""
        return replace(cohort, weights=self.apply(_as_measured(cohort), cohort.node_mask, cohort.ids))

    def apply(self, weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Edges in tangent space, same shape as `weights`, float32; rows are projected independently.

        Missing regions are replaced by their regression on the present ones in the fitted mean, so that they do not
        displace the others. Edges of subjects without a connectome are 0.

        Raises:
            DataError: a row is not a correlation or covariance.
        """
        out = np.zeros(weights.shape, dtype=np.float32)
        at = np.flatnonzero(self.regions)
        for start in range(0, len(weights), _AT_ONCE):
            cut = slice(start, start + _AT_ONCE)
            out[cut, 0, at[:, None], at] = self._logarithms(weights[cut], node_mask[cut], ids[cut])
        return out

    def rows(self, weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Vectorised matrices (n_subjects, n_kept (n_kept + 1) / 2): diagonal, then upper triangle times sqrt(2).

        The Euclidean norm of a row is the Frobenius norm of its matrix.

        Raises:
            DataError: as in `apply`.
        """
        n_kept = int(self.regions.sum())
        first, second = np.triu_indices(n_kept, 1)
        out = np.empty((len(weights), n_kept * (n_kept + 1) // 2))
        for start in range(0, len(weights), _AT_ONCE):
            cut = slice(start, start + _AT_ONCE)
            found = self._logarithms(weights[cut], node_mask[cut], ids[cut])
            out[cut, :n_kept] = np.diagonal(found, axis1=1, axis2=2)
            out[cut, n_kept:] = np.sqrt(2.0) * found[:, first, second]
        return out

    def _logarithms(self, weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        there = np.asarray(node_mask.any(axis=1))
        if not there.all():
            found = np.zeros((len(weights), int(self.regions.sum()), int(self.regions.sum())))
            if there.any():
                known = [subject for subject, one in zip(ids, there, strict=True) if one]
                found[there] = self._logarithms(weights[there], node_mask[there], known)
            return found
        absent = ~node_mask[:, self.regions]
        short = np.flatnonzero(absent.any(axis=1))
        if short.size:
            weights = np.where(edge_mask(node_mask), weights, 0.0)
        matrices = _matrices(weights, self.regions, ids, self.correlation, self.shrinkage)
        for row in short:
            matrices[row] = self._completed(matrices[row], absent[row])
        whitened = self.whitening @ matrices @ self.whitening
        values, vectors = np.linalg.eigh((whitened + whitened.swapaxes(1, 2)) / 2)
        _refuse_singular(values, whitened, ids, self.correlation)
        found = (vectors * np.log(values)[:, None, :]) @ vectors.swapaxes(1, 2)
        return np.asarray((found + found.swapaxes(1, 2)) / 2)

    def _completed(self, matrix: np.ndarray, absent: np.ndarray) -> np.ndarray:
        """The expected matrix given that of the present regions, for Gaussian signals with the fitted mean."""
        there = ~absent
        mean = self.mean[np.ix_(there, there)]
        slopes = np.zeros((absent.size, mean.shape[0]))
        slopes[there] = np.eye(mean.shape[0])
        slopes[absent] = np.linalg.solve(mean, self.mean[np.ix_(there, absent)]).T
        return np.asarray(self.mean + slopes @ (matrix[np.ix_(there, there)] - mean) @ slopes.T)


def fit_tangent(train: Cohort, settings: TangentSettings) -> TangentEdges:
    """Fit on a cohort of training rows; the Fisher transform of edges is inverted first.

    Raises:
        DataError: see `TangentEdges.fit`.
    """
    return TangentEdges.fit(_as_measured(train), train.node_mask, train.ids, settings)


def holds_correlations(cohort: Cohort, ids: Sequence[str]) -> bool:
    """Whether the edges of the rows with a connectome are correlations between all regions.

    This is the case if they were Fisher transformed, or if they have negative values, are within [-1, 1] and are
    positive semidefinite with a diagonal of 1.
    """
    if cohort.n_measures != 1 or cohort.n_regions < 2:
        return False
    rows = cohort.positions(ids)
    rows = rows[cohort.node_mask[rows].any(axis=1)]
    regions = np.flatnonzero(cohort.node_mask[rows].all(axis=0))
    if regions.size < 2 or not rows.size:
        return False
    negative = False
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        weights = _untransformed(cohort.weights[some], cohort.transforms)[:, 0, regions[:, None], regions].astype(float)
        if not np.isfinite(weights).all() or np.abs(weights).max() > 1.001:
            return False
        negative |= bool(weights.min() < 0)
        weights[:, np.arange(regions.size), np.arange(regions.size)] = 1.0
        if np.linalg.eigvalsh(weights).min() <= -1e-3:
            return False
    return negative


def _as_measured(cohort: Cohort) -> np.ndarray:
    return _untransformed(cohort.weights, cohort.transforms)


def _untransformed(weights: np.ndarray, transforms: tuple[str, ...]) -> np.ndarray:
    return np.tanh(weights) if transforms[:1] == ("fisher_z",) else weights


def _geometric(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from nilearn.connectome import ConnectivityMeasure

    measure = ConnectivityMeasure(cov_estimator=_Given(), kind="tangent", standardize=False)
    try:
        measure.fit(list(matrices))
    except (ValueError, FloatingPointError, np.linalg.LinAlgError) as error:
        raise DataError(f"no tangent space: {error}", remedy="It needs correlations or covariances.") from error
    return np.asarray(measure.mean_), np.asarray(measure.whitening_)


def _matrices(
    weights: np.ndarray, regions: np.ndarray, ids: Sequence[str], correlation: bool, shrinkage: float
) -> np.ndarray:
    """(n_subjects, n_kept, n_kept), float64, finite."""
    at = np.flatnonzero(regions)
    found = weights[:, 0, at[:, None], at].astype(float)
    if at.size < 2 or not len(found):
        raise DataError("fewer than two regions are present in every training row")
    if correlation:
        found[:, np.arange(at.size), np.arange(at.size)] = 1.0
        _refuse_others(found, ids)
        found = (1.0 - shrinkage) * found + shrinkage * np.eye(at.size)
    finite = np.isfinite(found).all(axis=(1, 2))
    if not finite.all():
        what = "correlation" if correlation else "covariance"
        raise DataError(f"not a {what} matrix: values are missing", subject=ids[int(np.argmin(finite))])
    return found


def _refuse_singular(values: np.ndarray, matrices: np.ndarray, ids: Sequence[str], correlation: bool) -> None:
    """Refuse singular matrices: the logarithm of an eigenvalue of 0 is determined by round-off."""
    least = values[:, 0]
    wrong = least <= _SINGULAR * np.trace(matrices, axis1=1, axis2=2) / matrices.shape[1]
    if not wrong.any():
        return
    what = "correlation" if correlation else "covariance"
    remedy = "tangent: true needs connectomes of format: series:covariance, diagonal: keep, no transform."
    if correlation:
        remedy = "It needs correlations without a transform, and some shrinkage; or set edges: {tangent: false}."
    raise DataError(
        f"not a {what} matrix: an eigenvalue is not above 0",
        subject=ids[int(np.where(wrong, least, np.inf).argmin())],
        got=f"{least[wrong].min():.3g}",
        remedy=remedy,
    )


def _refuse_others(matrices: np.ndarray, ids: Sequence[str]) -> None:
    largest = np.abs(matrices).max(axis=(1, 2))
    # Tolerance for half-precision files; Fisher z values and counts are far outside.
    wrong = largest > 1.001
    if wrong.any():
        raise DataError(
            "not a correlation matrix: a value is outside [-1, 1]",
            subject=ids[int(np.flatnonzero(wrong)[0])],
            got=f"{largest[wrong][0]:.4g}",
            remedy="Give correlations without a Fisher transform, or set edges: {tangent: false}.",
        )
