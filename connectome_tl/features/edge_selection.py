"""Which edges are there often enough to be learned from: a consensus of the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError


@dataclass(frozen=True, eq=False)
class ConsensusMask:
    """Edges that a share of the training rows has.

    Attributes:
        keep: (n_measures, n_regions, n_regions) bool, symmetric.
        share: the share asked for.
        ids: the training rows.
    """

    keep: np.ndarray
    share: float
    ids: tuple[str, ...]

    @staticmethod
    def fit(weights: np.ndarray, node_mask: np.ndarray, ids: Sequence[str], *, share: float = 0.5) -> ConsensusMask:
        """Keep an edge that is not 0 in `share` of the training rows that have both its regions
        (de Reus and van den Heuvel 2013, doi:10.1016/j.neuroimage.2012.12.066).

        Args:
            weights: (n_subjects, n_measures, n_regions, n_regions). node_mask: (n_subjects, n_regions).

        Raises:
            DataError: no rows, or no edge is left.
        """
        if not 0 <= share <= 1:
            raise DataError("a share lies between 0 and 1", got=f"{share:g}")
        if len(weights) == 0:
            raise DataError("a consensus needs training rows")
        present = (node_mask[:, :, None] & node_mask[:, None, :])[:, None]
        count = present.sum(axis=0)
        there = ((weights != 0) & present).sum(axis=0)
        keep = (count > 0) & (there > 0) & (there >= share * count - 1e-9)
        if not keep.any():
            raise DataError("no edge is left", expected=f"one that {share:.0%} of the training rows have")
        return ConsensusMask(keep, share, tuple(ids))

    def apply(self, weights: np.ndarray) -> np.ndarray:
        """The weights with every other edge 0; same shape."""
        return np.where(self.keep, weights, np.zeros((), dtype=weights.dtype))
