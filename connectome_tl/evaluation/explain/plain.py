"""Features of a model as plain columns, for patterns and signs of attributions."""

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


@dataclass(frozen=True, eq=False)
class PlainColumns:
    """Edges, regional measures and covariates of some rows after the model's own steps.

    Attributes:
        delta: (n_rows, n_columns) distance from the mean of the training rows, in the steps' units (standard
            deviations over the training rows). train: (n_train, n_columns) the same of the training rows.
        places: of the columns.
    """

    items: Items
    delta: np.ndarray
    train: np.ndarray
    places: Places

    @staticmethod
    def of(features: Features, cohort: Cohort, ids: Sequence[str], train: Sequence[str], items: Items) -> PlainColumns:
        rows, places = _columns(features, cohort, ids, items)
        reference, _ = _columns(features, cohort, train, items)
        mean = reference.mean(axis=0)
        return PlainColumns(items, rows - mean, reference - mean, places)

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
    def _forward(self) -> ForwardModel:
        return ForwardModel.of(np.concatenate([self.train, self.delta]))

    def patterns(self, explained: np.ndarray) -> Values:
        """Covariance of every column with explained numbers over training rows and these rows, by kind of item.

        For one number this is, up to its variance, the pattern of Haufe et al. 2014
        (doi:10.1016/j.neuroimage.2013.10.067): the forward model, not the weights. Since a fold has few held-out
        rows, training rows are included, and the covariance is regularised (`forward`).

        Args:
            explained: (n_train + n_rows, n_outcomes), training rows first.
        """
        found = self._forward.patterns(explained)
        items, edges = self.items, self.items.n_edges
        alone = self.places.region >= 0
        own = np.zeros((items.n_regions, explained.shape[1]))
        np.add.at(own, self.places.region[alone], np.abs(found[alone]))
        summed = self._onto @ found
        return by_item(summed[:edges], own, summed[edges + items.n_regions :])

    def signed(self, attributions: np.ndarray) -> Values:
        """Mean over rows of attributions (n_rows, n_items); positive if larger values of the item raise the number.

        Values of regional measures are magnitudes.
        """
        items, edges = self.items, self.items.n_edges
        found = (attributions * self.signs).mean(axis=0)
        own = np.abs(attributions[:, edges : edges + items.n_regions]).mean(axis=0)
        return by_item(found[:edges], own, found[edges + items.n_regions :])


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
        values.append(arrays["clinical"].rows["values"].astype(float))
        own = items.covariate_positions(features)
        places.append(Places.of(own.size, items.modalities.index("clinical"), covariate=own))
    return np.concatenate(values, axis=1), Places.joined(places)
