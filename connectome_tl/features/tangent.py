"""Tangent space of covariance matrices, fitted on training rows: what a subject adds to their mean.

The reference is nilearn's geometric mean of the training covariances (Varoquaux et al. 2010,
doi:10.1007/978-3-642-15705-9_25); a row becomes the matrix logarithm of its whitened covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator

from connectome_tl.errors import DataError


class _Given(BaseEstimator):
    """Stands in for nilearn's estimator of a covariance where the covariance is there already."""

    def fit(self, covariance: np.ndarray) -> _Given:
        self.covariance_ = covariance
        return self


@dataclass(frozen=True, eq=False)
class TangentEdges:
    """Fitted state.

    Attributes:
        regions: (n_regions,) bool, the regions that every training row has; edges of others become 0.
        mean, whitening: (n_kept, n_kept) reference covariance and its inverse square root.
        ids: the training rows.
    """

    regions: np.ndarray
    mean: np.ndarray
    whitening: np.ndarray
    ids: tuple[str, ...]

    @staticmethod
    def fit(weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str]) -> TangentEdges:
        """From covariances of training rows, (n_subjects, 1, n_regions, n_regions), with their diagonal.

        Raises:
            DataError: several measures, or matrices that are no covariances.
        """
        from nilearn.connectome import ConnectivityMeasure

        if weights.shape[1] != 1:
            raise DataError("a tangent space is of one measure, the covariance", got=f"{weights.shape[1]} measures")
        regions = np.asarray(node_mask.all(axis=0))
        covariances = _covariances(weights, regions, ids)
        measure = ConnectivityMeasure(cov_estimator=_Given(), kind="tangent", standardize=False)
        try:
            measure.fit(list(covariances))
        except (ValueError, FloatingPointError, np.linalg.LinAlgError) as error:
            raise DataError(f"no tangent space: {error}", remedy="It needs format: series:covariance.") from error
        return TangentEdges(regions, np.asarray(measure.mean_), np.asarray(measure.whitening_), tuple(ids))

    def apply(self, weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str]) -> np.ndarray:
        """Displacements from the reference, same shape as `weights`; each row is projected alone.

        Raises:
            DataError: a row lacks a region of the fitted space, or is no covariance.
        """
        short = ~node_mask[:, self.regions].all(axis=1)
        if short.any():
            raise DataError(
                "lacks regions that every training subject has",
                subject=ids[int(np.flatnonzero(short)[0])],
                remedy="A displacement needs every region; use correlations, which mask missing ones.",
            )
        whitened = self.whitening @ _covariances(weights, self.regions, ids) @ self.whitening
        values, vectors = np.linalg.eigh((whitened + whitened.swapaxes(1, 2)) / 2)
        logarithm = (vectors * np.log(values)[:, None, :]) @ vectors.swapaxes(1, 2)
        out = np.zeros(weights.shape, dtype=np.float32)
        at = np.flatnonzero(self.regions)
        out[:, 0, at[:, None], at] = (logarithm + logarithm.swapaxes(1, 2)) / 2
        return out


def _covariances(weights: np.ndarray, regions: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    at = np.flatnonzero(regions)
    found = weights[:, 0, at[:, None], at].astype(float)
    if at.size < 2 or not len(found):
        raise DataError("fewer than two regions are there in every training row")
    least = np.linalg.eigvalsh(found)[:, 0]
    if (least <= 0).any():
        raise DataError(
            "not a covariance matrix: an eigenvalue is not above 0",
            subject=ids[int(least.argmin())],
            got=f"{least.min():.3g}",
            remedy="tangent: true needs connectomes of format: series:covariance, diagonal: keep, no transform.",
        )
    return found
