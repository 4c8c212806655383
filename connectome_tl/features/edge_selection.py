"""Select edges by consensus and by variance over the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.settings.features import EdgeSettings


def fit_edges(
    weights: np.ndarray, adjusted: np.ndarray, node_mask: np.ndarray, ids: Sequence[str], settings: EdgeSettings
) -> ConsensusMask | None:
    """Select edges on training rows; None if the settings keep all edges.

    Args:
        weights: original weights, (n_subjects, n_measures, n_regions, n_regions), which define presence.
        adjusted: weights of the same shape without site effects and confounds, which define the variance.
        node_mask: (n_subjects, n_regions) bool.
        ids: (n_subjects,) ids of the training rows.

    Raises:
        DataError: no edge is left.
    """
    if settings.consensus is None and settings.n_edges is None:
        return None
    found = ConsensusMask.fit(weights, node_mask, ids, share=settings.consensus or 0.0)
    if settings.n_edges is None:
        return found
    first, second = np.triu_indices(weights.shape[-1], 1)
    present = (node_mask[:, first] & node_mask[:, second])[:, None]
    edges = adjusted[:, :, first, second].astype(float)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, edges, 0.0).sum(axis=0) / count
    spread = (np.where(present, edges - mean, 0.0) ** 2).sum(axis=0) / count
    spread = np.where(found.keep[:, first, second], spread, -1.0).ravel()
    best = np.zeros(spread.size, dtype=bool)
    best[np.argsort(-spread, kind="stable")[: settings.n_edges]] = True
    best &= spread >= 0
    keep = np.zeros(found.keep.shape, dtype=bool)
    keep[:, first, second] = best.reshape(len(keep), -1)
    return ConsensusMask(keep | keep.swapaxes(1, 2), found.share, found.ids)


@dataclass(frozen=True, eq=False)
class ConsensusMask:
    """Edges present in a fraction of the training rows.

    Attributes:
        keep: (n_measures, n_regions, n_regions) bool, symmetric.
        share: the required share.
        ids: the training rows.
    """

    keep: np.ndarray
    share: float
    ids: tuple[str, ...]

    @staticmethod
    def fit(weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str], *, share: float = 0.5) -> ConsensusMask:
        """Keep edges that are not 0 in at least `share` of the training rows with both regions
        (de Reus and van den Heuvel 2013, doi:10.1016/j.neuroimage.2012.12.066).

        Args:
            weights: (n_subjects, n_measures, n_regions, n_regions). node_mask: (n_subjects, n_regions).

        Raises:
            DataError: there are no rows, or no edge remains.
        """
        if not 0 <= share <= 1:
            raise DataError("a share is between 0 and 1", got=f"{share:g}")
        if len(weights) == 0:
            raise DataError("a consensus needs training rows")
        present = (node_mask[:, :, None] & node_mask[:, None, :])[:, None]
        count = present.sum(axis=0)
        there = ((weights != 0) & present).sum(axis=0)
        keep = (count > 0) & (there > 0) & (there >= share * count - 1e-9)
        if not keep.any():
            raise DataError("no edge is left", expected=f"one that {share:.0%} of the training rows have")
        return ConsensusMask(keep, share, tuple(ids))

    def transform(self, cohort: Cohort) -> Cohort:
        """The cohort with all other edges set to 0."""
        return replace(cohort, weights=self.apply(cohort.weights))

    def apply(self, weights: np.ndarray) -> np.ndarray:
        """The weights with all other edges set to 0, same shape."""
        return np.where(self.keep, weights, np.zeros((), dtype=weights.dtype))
