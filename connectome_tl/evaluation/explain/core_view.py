"""Evaluate a closed-form core on rows, with the places of its input columns.

Columns are those of the core's blocks after clipping. Scores of a source core are decomposed into contributions of
edges, which are used as columns, so that the result is linear in the target's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import InternalError
from connectome_tl.evaluation.explain.curved import CurvedPath, curved_gradients, curved_occluded, path_of
from connectome_tl.evaluation.explain.items import Items, Places
from connectome_tl.features.steps import Features
from connectome_tl.features.volumes import VOXELS
from connectome_tl.training.closed_form.blocks import Block
from connectome_tl.training.closed_form.fitted_core import CoreFit
from connectome_tl.training.core_stage import CONNECTOME_PRESENCE, SCORES, CoreModel, blocks_of, unpenalised_columns


@dataclass(frozen=True, eq=False)
class Part:
    """One block of some rows.

    Attributes:
        rows: (n_rows, n_columns) clipped and centred. mean: (n_columns,) the mean training row.
        places: of the columns.
    """

    name: str
    rows: np.ndarray
    mean: np.ndarray
    places: Places


@dataclass(frozen=True, eq=False)
class SourceView:
    """Components of a source core's scores of some rows.

    Attributes:
        parts: its blocks. fit: the source core. scores: (n_rows, n_scores) as the target's core gets them.
    """

    parts: tuple[Part, ...]
    fit: CoreFit
    scores: np.ndarray

    @cached_property
    def change(self) -> np.ndarray:
        """Contribution of each column to each score, (n_rows, n_scores, n_columns), parts concatenated."""
        return _source_change(self.fit, self.parts)

    def occluded(self, items: Items) -> np.ndarray:
        """(n_sets, n_rows, n_scores) scores with each set of columns at the mean."""
        shift = _occlusions(self.fit, self.parts, items)
        whole = _unclipped(self.fit, self.parts)
        return np.clip(whole - shift, self.fit.lower, self.fit.upper)


@dataclass(frozen=True, eq=False)
class CoreView:
    """A core on some rows.

    Attributes:
        parts: the target's blocks without source scores. source: components of the source scores, or None.
        score_columns: clipped and centred source scores (n_rows, n_scores), empty without a source.
    """

    model: CoreModel
    items: Items
    parts: tuple[Part, ...]
    source: SourceView | None
    score_columns: np.ndarray

    @staticmethod
    def of(model: CoreModel, cohort: Cohort, ids: Sequence[str], items: Items) -> CoreView:
        """The view of these rows; the mean row is that of the rows the model was trained on."""
        train = model.features.ids
        parts = _parts(model, model.fit, cohort, ids, None, items)
        if model.source is None:
            return CoreView(model, items, parts, None, np.zeros((len(ids), 0)))
        inner = _parts(model.source, model.source.fit, cohort, ids, train, items)
        scores = model.source.scores(cohort, ids).values
        source = SourceView(inner, model.source.fit, scores)
        columns = next(c for c in model.fit.columns if c.name == SCORES)
        return CoreView(model, items, parts, source, columns.apply(Block(SCORES, scores)))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.parts[0].rows)

    @cached_property
    def places(self) -> Places:
        """Of all columns of `delta`."""
        found = [part.places for part in self.parts]
        if self.source is not None:
            inner = Places.joined([part.places for part in self.source.parts])
            found += [inner] * self.source.change.shape[1]
        return Places.joined(found)

    @cached_property
    def delta(self) -> np.ndarray:
        """Difference of each column to the mean training row, (n_rows, n_columns); of scores: contributions of
        edges.
        """
        found = [part.rows - part.mean for part in self.parts]
        if self.source is not None:
            found.append(self.source.change.reshape(self.n_rows, -1))
        return np.concatenate(found, axis=1)

    @cached_property
    def onto(self) -> csr_array:
        """(n_items, n_columns), see `Places.onto`."""
        return self.places.onto(self.items)

    def weights(self, fit: CoreFit, outcomes: np.ndarray) -> np.ndarray:
        """(n_columns, n_outcomes) of a core fitted on the same training rows, curved parts apart.

        Args:
            outcomes: columns of the fit.
        """
        found = [_linear(fit, part)[:, outcomes] for part in self.parts]
        if self.source is not None:
            n_inner = self.source.change.shape[2]
            given = fit.linear.get(SCORES, np.zeros((self.source.change.shape[1], len(fit.kinds))))
            found.append(np.repeat(given[:, outcomes], n_inner, axis=0))
        return np.concatenate(found)

    def attributions(self, fit: CoreFit, column: int) -> np.ndarray:
        """(n_rows, n_columns) integrated gradients of one score: captum's for radial parts, exact for the others."""
        found = self.delta * self.weights(fit, np.array([column]))[:, 0]
        start = 0
        for part in self.parts:
            for curved in fit.curved(part.name):
                found[:, start : start + part.rows.shape[1]] += curved_gradients(curved, part.rows, part.mean, column)
            start += part.rows.shape[1]
        return found

    def curved_paths(self, fit: CoreFit) -> list[tuple[slice, CurvedPath]]:
        """Columns of each radial and quadratic part, and its integrals."""
        found, start = [], 0
        for part in self.parts:
            columns = slice(start, start + part.rows.shape[1])
            found += [(columns, path_of(curved, part.rows, part.mean)) for curved in fit.curved(part.name)]
            start = columns.stop
        return found

    def score(self, fit: CoreFit) -> np.ndarray:
        """Scores (n_rows, n_outcomes) before clipping to the range of training outcomes."""
        return _unclipped(fit, self.parts) + self._of_scores(fit, self.score_columns)

    def occlusions(self, fit: CoreFit) -> np.ndarray:
        """Decrease of the score, (n_sets, n_rows, n_outcomes), if each set of columns is set to its mean."""
        found = _occlusions(fit, self.parts, self.items)
        if self.source is None:
            return found
        columns = next(c for c in self.model.fit.columns if c.name == SCORES)
        occluded = self.source.occluded(self.items)
        flat = columns.apply(Block(SCORES, occluded.reshape(-1, occluded.shape[2])))
        after = self._of_scores(fit, flat).reshape(*occluded.shape[:2], -1)
        return found + self._of_scores(fit, self.score_columns) - after

    def _of_scores(self, fit: CoreFit, columns: np.ndarray) -> np.ndarray:
        found = np.zeros((len(columns), len(fit.kinds)))
        if SCORES in fit.linear:
            found += columns @ fit.linear[SCORES]
        if fit.curved(SCORES):
            raise InternalError("source scores have a part that is not linear")
        return found


def _linear(fit: CoreFit, part: Part) -> np.ndarray:
    return fit.linear.get(part.name, np.zeros((part.rows.shape[1], len(fit.kinds))))


def _unclipped(fit: CoreFit, parts: Sequence[Part]) -> np.ndarray:
    total = np.broadcast_to(fit.intercept, (len(parts[0].rows), len(fit.kinds))).copy()
    for part in parts:
        total += part.rows @ _linear(fit, part)
        for curved in fit.curved(part.name):
            total += curved.of(part.rows)
    return total


def _occlusions(fit: CoreFit, parts: Sequence[Part], items: Items) -> np.ndarray:
    """Decrease of the scores, (n_sets, n_rows, n_outcomes)."""
    total: np.ndarray | None = None
    for part in parts:
        sets = part.places.sets(items)
        weights, delta = _linear(fit, part), part.rows - part.mean
        lost = np.stack([delta[:, columns] @ weights[columns] for columns in sets])
        for curved in fit.curved(part.name):
            lost += curved.of(part.rows) - curved_occluded(curved, part.rows, part.mean, sets)
        total = lost if total is None else total + lost
    if total is None:
        raise InternalError("a core without blocks")
    return total


def _source_change(fit: CoreFit, parts: Sequence[Part]) -> np.ndarray:
    """Contribution of each column to the change of each score from the mean row, (n_rows, n_scores, n_columns).

    If a score is clipped to the range of the source's outcomes, its contributions are scaled accordingly.
    """
    n_scores = len(fit.kinds)
    found = [(part.rows - part.mean)[:, None, :] * _linear(fit, part).T for part in parts]
    for p, part in enumerate(parts):
        for curved in fit.curved(part.name):
            gradients = [curved_gradients(curved, part.rows, part.mean, s) for s in range(n_scores)]
            found[p] = found[p] + np.stack(gradients, axis=1)
    change = np.concatenate(found, axis=2)
    whole = _unclipped(fit, parts)
    start = _unclipped(fit, [Part(p.name, p.mean[None], p.mean, p.places) for p in parts])
    moved = whole - start
    cut = np.clip(whole, fit.lower, fit.upper) - np.clip(start, fit.lower, fit.upper)
    share = np.divide(cut, moved, out=np.ones_like(moved), where=np.abs(moved) > 1e-12)
    return change * share[:, :, None]


def _parts(
    model: CoreModel, fit: CoreFit, cohort: Cohort, ids: Sequence[str], train: Sequence[str] | None, items: Items
) -> tuple[Part, ...]:
    """Blocks of these rows; the mean is 0 (the model's own training mean), or that of the rows `train`."""
    by_name = {columns.name: columns for columns in fit.columns}
    found = []
    means = {}
    if train is not None:
        blocks = blocks_of(model.features, model.tangent, cohort, train, model.unpenalised)
        means = {block.name: by_name[block.name].apply(block).mean(axis=0) for block in blocks}
    for block in blocks_of(model.features, model.tangent, cohort, ids, model.unpenalised):
        rows = by_name[block.name].apply(block)
        mean = means.get(block.name, np.zeros(rows.shape[1]))
        found.append(
            Part(
                block.name,
                rows,
                mean,
                block_places(block.name, rows.shape[1], items, model.features, model.unpenalised),
            )
        )
    return tuple(found)


def block_places(
    name: str, n_columns: int, items: Items, features: Features, unpenalised: Sequence[str] = ()
) -> Places:
    """Items of the columns of a block of `training.core_stage.blocks_of`."""
    columns = np.arange(n_columns)
    if name == "edges":
        return Places.of(n_columns, items.modalities.index("edges"), edge=columns)
    if name == "tangent":  # displacements above the diagonal, then on it
        edge = np.where(columns < items.n_pairs, columns, -1)
        region = np.where(columns < items.n_pairs, -1, columns - items.n_pairs)
        return Places.of(n_columns, items.modalities.index("edges"), edge=edge, region=region)
    if name == "regional":
        region = columns // (n_columns // items.n_regions)
        return Places.of(n_columns, items.modalities.index("regional measures"), region=region)
    if name == CONNECTOME_PRESENCE:
        return Places.of(n_columns, items.modalities.index("edges"))
    if name == VOXELS and items.cells:
        return Places.of(n_columns, items.modalities.index("image"), cell=items.cells.blocks)
    block, _, free = name.partition(", ")  # unpenalised columns are a separate block
    # A modality may have several blocks, whose names begin with its own: image, image voxels.
    modality = max((one for one in items.modalities if f"{block} ".startswith(f"{one} ")), key=len)
    covariate = np.full(n_columns, -1)  # the last column indicates the presence of the modality and is not a covariate
    if modality == "clinical":
        own = items.covariate_positions(features)
        whole = np.append(own, -1)
        taken = unpenalised_columns(features.steps["clinical"], len(whole), unpenalised)
        covariate = whole[taken if free else ~taken]
    return Places.of(n_columns, items.modalities.index(modality), covariate=covariate)
