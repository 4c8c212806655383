"""Items of a map (edges, regions, covariates) and the model inputs that belong to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.evaluation.explain.cells import Cells, no_cells
from connectome_tl.features.modalities import ClinicalSteps
from connectome_tl.features.steps import Features


@dataclass(frozen=True, eq=False)
class Items:
    """Edges, regions, covariates, groups of regions, modalities and cells of volumes of a study's target.

    Attributes:
        regions, measures: names. covariates: names of the encoded columns.
        groups: (n_regions,) positions by name of the group (a lobe, or a network of the atlas).
        modalities: of the models. cells: of the volumes.
    """

    regions: tuple[str, ...]
    measures: tuple[str, ...]
    covariates: tuple[str, ...]
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    cells: Cells = field(default_factory=no_cells)

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.regions)

    @property
    def n_pairs(self) -> int:
        """Number of edges of one measure."""
        return self.n_regions * (self.n_regions - 1) // 2

    @property
    def n_edges(self) -> int:
        """Pairs of regions, for every measure."""
        return self.n_pairs * len(self.measures)

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions (n_edges,) of both regions of each edge, measure by measure."""
        first, second = upper_indices(self.n_regions)
        return np.tile(first, len(self.measures)), np.tile(second, len(self.measures))

    def names(self, kind: str) -> tuple[str, ...]:
        """Names of all items of a kind; edges are named by their regions and, of several, by the measure."""
        if kind != "edge":
            found: dict[str, Sequence[str]] = {
                "region": self.regions,
                "covariate": self.covariates,
                "cell": self.cells.names,
                "group": tuple(self.groups),
                "modality": self.modalities,
            }
            return tuple(found[kind])
        first, second = self.ends
        several = len(self.measures) > 1
        return tuple(
            f"{self.regions[a]} - {self.regions[b]}" + (f", {self.measures[i // self.n_pairs]}" if several else "")
            for i, (a, b) in enumerate(zip(first, second, strict=True))
        )

    def covariate_positions(self, features: Features) -> np.ndarray:
        """(n_encoded,) which of the covariates each encoded column of a fold is; folds may encode other columns."""
        return np.array([self.covariates.index(name) for name in encoded_names(features)], dtype=int)

    @cached_property
    def incidence(self) -> csr_array:
        """(n_regions, n_edges) 1 where the edge ends in the region."""
        first, second = self.ends
        rows = np.concatenate([first, second])
        columns = np.tile(np.arange(self.n_edges), 2)
        return csr_array((np.ones(rows.size), (rows, columns)), shape=(self.n_regions, self.n_edges))


def encoded_names(features: Features) -> tuple[str, ...]:
    """Names of the encoded covariates of a model, in order."""
    steps = features.steps.get("clinical")
    return steps.encoder.names if isinstance(steps, ClinicalSteps) else ()


@dataclass(frozen=True, eq=False)
class Places:
    """Item of each input column, (n_columns,) each; -1 for none.

    Attributes:
        edge: position among the edges. region: for a column of one region alone. covariate: position.
        cell: of the volume. modality: position among the modalities.
    """

    edge: np.ndarray
    region: np.ndarray
    covariate: np.ndarray
    cell: np.ndarray
    modality: np.ndarray

    @staticmethod
    def of(
        n_columns: int,
        modality: int,
        *,
        edge: np.ndarray | None = None,
        region: np.ndarray | None = None,
        covariate: np.ndarray | None = None,
        cell: np.ndarray | None = None,
    ) -> Places:
        """Places of `n_columns` columns of one modality, with the given items."""
        nowhere = np.full(n_columns, -1)
        return Places(
            nowhere if edge is None else edge,
            nowhere if region is None else region,
            nowhere if covariate is None else covariate,
            nowhere if cell is None else cell,
            np.full(n_columns, modality),
        )

    @staticmethod
    def joined(parts: Sequence[Places]) -> Places:
        """Columns side by side."""
        names = ("edge", "region", "covariate", "cell", "modality")
        empty = [np.zeros(0, dtype=int)]
        return Places(*(np.concatenate([getattr(part, name) for part in parts] or empty) for name in names))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.edge)

    def onto(self, items: Items) -> csr_array:
        """(n_edges + n_regions + n_covariates + n_cells, n_columns) 1 where the column belongs to the item."""
        covariates = items.n_edges + items.n_regions
        cells = covariates + len(items.covariates)
        start = {"edge": 0, "region": items.n_edges, "covariate": covariates, "cell": cells}
        rows, columns = [], []
        for name, offset in start.items():
            own = getattr(self, name)
            at = np.flatnonzero(own >= 0)
            rows.append(own[at] + offset)
            columns.append(at)
        row, column = np.concatenate(rows), np.concatenate(columns)
        shape = (cells + len(items.cells), self.n_columns)
        return csr_array((np.ones(row.size), (row, column)), shape=shape)

    def sets(self, items: Items) -> list[np.ndarray]:
        """Columns that are occluded together: those of each region, covariate, cell, group and modality, in this order.

        Occlusion of a region includes all its edges.
        """
        first, second = items.ends
        at_edge = self.edge >= 0
        ends = np.full((2, self.n_columns), -1)
        ends[:, at_edge] = np.stack([first, second])[:, self.edge[at_edge]]

        def touching(regions: np.ndarray) -> np.ndarray:
            return np.flatnonzero(np.isin(ends, regions).any(axis=0) | np.isin(self.region, regions))

        found = [touching(np.array([r])) for r in range(items.n_regions)]
        found += [np.flatnonzero(self.covariate == c) for c in range(len(items.covariates))]
        found += [np.flatnonzero(self.cell == c) for c in range(len(items.cells))]
        found += [touching(regions) for regions in items.groups.values()]
        return found + [np.flatnonzero(self.modality == m) for m in range(len(items.modalities))]


Values = dict[str, np.ndarray]
"""Values by kind of item, (n_items, ...) each."""


def split_sets(values: np.ndarray, items: Items) -> Values:
    """(n_sets, ...) in the order of `Places.sets` by kind."""
    kinds = ("region", "covariate", "cell", "group", "modality")
    parts = np.split(values, np.cumsum([len(items.names(kind)) for kind in kinds])[:-1])
    return dict(zip(kinds, parts, strict=True))


def by_item(signed: np.ndarray, own: np.ndarray, items: Items) -> Values:
    """Signed values of edges, covariates and cells, and values of the regions' own measures, region by region.

    They are averaged over folds first; then `with_regions` makes the regions' values.

    Args:
        signed: (n_items, ...) in the order of `Places.onto`; those of regions are ignored.
    """
    rest = signed[items.n_edges + items.n_regions :]
    n = len(items.covariates)
    return {"edge": signed[: items.n_edges], "own": own, "covariate": rest[:n], "cell": rest[n:]}


def with_regions(values: Values, items: Items) -> Values:
    """Values of regions: half the sum of magnitudes of their edges, plus the magnitude of their own measures.

    Values without regional measures (of an occlusion) are unchanged.
    """
    if "own" not in values:
        return values
    found = {kind: one for kind, one in values.items() if kind != "own"}
    edges, own = values["edge"], values["own"]
    rest = edges.shape[1:]
    summed = (items.incidence @ np.abs(edges).reshape(len(edges), -1)).reshape(-1, *rest) if items.n_edges else 0.0
    per_region = len(own) // max(items.n_regions, 1)
    return {**found, "region": 0.5 * summed + np.abs(own).reshape(items.n_regions, per_region, *rest).sum(axis=1)}
