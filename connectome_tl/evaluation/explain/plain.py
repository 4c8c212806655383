"""Features of a model as plain columns, for patterns and signs of attributions; of volumes, means of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.evaluation.explain.forward import ForwardModel
from connectome_tl.evaluation.explain.items import Items, Places, Values, by_item
from connectome_tl.features.steps import Features
from connectome_tl.features.volumes import VOXELS


@dataclass(frozen=True, eq=False)
class PlainColumns:
    """Edges, regional measures and covariates of some rows after the model's own steps.

    Attributes:
        delta: (n_rows, n_columns) distance from the mean of the training rows, in the steps' units (standard
            deviations over the training rows).
        places: of the columns, the same for all folds of a study.
    """

    items: Items
    delta: np.ndarray
    places: Places

    @staticmethod
    def of(features: Features, cohort: Cohort, ids: Sequence[str], train: Sequence[str], items: Items) -> PlainColumns:
        """Columns of the subjects `ids`, relative to their mean over the training rows."""
        rows, places = _columns(features, cohort, ids, items)
        reference, _ = _columns(features, cohort, train, items)
        return PlainColumns(items, rows - reference.mean(axis=0), places)

    @staticmethod
    def joined(parts: Sequence[PlainColumns]) -> PlainColumns:
        """The rows of several folds, each after the steps of its own fold."""
        return PlainColumns(parts[0].items, np.concatenate([part.delta for part in parts]), parts[0].places)

    @cached_property
    def _onto(self) -> csr_array:
        return self.places.onto(self.items)

    @cached_property
    def signs(self) -> np.ndarray:
        """Sign of the difference to the mean, (n_rows, n_items); 0 for regional measures, which are multivariate."""
        found = np.sign(self.delta) @ self._onto.T
        found[:, self.items.n_edges : self.items.n_edges + self.items.n_regions] = 0.0
        return np.asarray(found)

    @cached_property
    def _columns(self) -> list[np.ndarray]:
        """Columns of each item (n_items,), -1 for none: the first one of each, the second one, ..."""
        item, column = self._onto.tocoo().coords
        order = np.lexsort((column, item))
        rank = np.arange(item.size) - np.searchsorted(item[order], item[order])
        found = []
        for k in range(int(rank.max(initial=0)) + 1):
            own = np.full(self._onto.shape[0], -1)
            own[item[order][rank == k]] = column[order][rank == k]
            found.append(own)
        return found

    @cached_property
    def levers(self) -> list[np.ndarray]:
        """(n_rows, n_items) factors for each of `_columns`; the sum over rows of factor x attribution is the weight.

        The weights of a prediction that is linear in its columns are found by least squares from the attributions of
        each item: one column per edge, covariate and cell, several per region.
        """
        squares = (self.delta**2).sum(axis=0)
        each = np.divide(self.delta, squares, out=np.zeros_like(self.delta), where=squares > 0)
        region = self.places.region
        for r in np.unique(region[region >= 0]) if len(self._columns) > 1 else ():
            each[:, region == r] = np.linalg.pinv(self.delta[:, region == r]).T
        each = np.column_stack([each, np.zeros(len(each))])  # the last column is that of -1
        return [each[:, own] for own in self._columns]

    def weights(self, sums: Sequence[np.ndarray]) -> np.ndarray:
        """Linear weights (n_columns, ...) from the sums (n_items, ...) of levers times attributions."""
        found = np.zeros((self.places.n_columns, *sums[0].shape[1:]))
        for own, summed in zip(self._columns, sums, strict=True):
            found[own[own >= 0]] = summed[own >= 0]
        return found

    @cached_property
    def _forward(self) -> ForwardModel:
        return ForwardModel.of(self.delta)

    def patterns(self, weights: np.ndarray) -> Values:
        """Regularised covariance of every column with linear predictions, by kind of item.

        For one prediction this is, up to its variance, the pattern of Haufe et al. 2014
        (doi:10.1016/j.neuroimage.2013.10.067): the forward model, not the weights.

        Args:
            weights: (n_columns, n_outcomes).
        """
        found = self._forward.patterns(weights)
        return by_item(self._onto @ found, found[self.places.region >= 0], self.items)

    def signed(self, attributions: np.ndarray) -> Values:
        """Mean over rows of attributions (n_rows, n_items); positive if larger values of the item raise the number.

        Values of regional measures are magnitudes.
        """
        items, edges = self.items, self.items.n_edges
        found = (attributions * self.signs).mean(axis=0)
        own = np.abs(attributions[:, edges : edges + items.n_regions]).mean(axis=0)
        return by_item(found, own, items)


def _columns(features: Features, cohort: Cohort, ids: Sequence[str], items: Items) -> tuple[np.ndarray, Places]:
    arrays = features.rows(cohort, ids).arrays
    values, places = [np.zeros((len(ids), 0))], []
    if "connectome" in arrays:
        rows, columns = upper_indices(items.n_regions)
        values.append(arrays["connectome"].rows["edges"][:, :, rows, columns].reshape(len(ids), -1).astype(float))
        places.append(Places.of(items.n_edges, items.modalities.index("edges"), edge=np.arange(items.n_edges)))
        regional = arrays["connectome"].rows["regional"]
        if regional.shape[2]:
            values.append(regional.reshape(len(ids), -1).astype(float))
            region = np.repeat(np.arange(items.n_regions), regional.shape[2])
            places.append(Places.of(region.size, items.modalities.index("regional measures"), region=region))
    if "clinical" in arrays:
        every = np.zeros((len(ids), len(items.covariates)))  # a fold may encode fewer of them
        every[:, items.covariate_positions(features)] = arrays["clinical"].rows["values"]
        values.append(every)
        own = np.arange(len(items.covariates))
        places.append(Places.of(own.size, items.modalities.index("clinical"), covariate=own))
    if items.cells:
        blocks = arrays["image"].blocks if "image" in arrays else {}
        voxels = blocks.get(VOXELS, np.zeros((len(ids), len(items.cells.blocks))))  # a fold may have no volume
        values.append(items.cells.means(voxels))
        cell = np.arange(len(items.cells))
        places.append(Places.of(cell.size, items.modalities.index("image"), cell=cell))
    return np.concatenate(values, axis=1), Places.joined(places)
